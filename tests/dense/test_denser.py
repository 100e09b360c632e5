"""The denser: vectors that depend on nothing but text and subnet."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from elastic_ir.dense import ElasticDenser
from elastic_ir.elastic import load_checkpoint
from elastic_ir.errors import InputError, ModelError, SubnetError
from elastic_ir.rerank import ElasticRanker
from elastic_ir.subnet import Subnet

TEXTS = ["the cat sat on the mat", "dog", "a small bird flew in the big blue sky", "fish", "red tree and blue sea"]


@pytest.fixture(scope="module")
def denser(bert_folder: Path) -> ElasticDenser:
    return ElasticDenser.from_pretrained(bert_folder, query_prompt="query : ")


@pytest.mark.parametrize("subnet", [None, Subnet(0.5, 2)])
def test_vectors_are_unit_and_independent_of_the_batch(denser: ElasticDenser, subnet: Subnet | None) -> None:
    together = denser.encode_document(TEXTS, subnet)
    assert together.dtype == np.float32
    assert np.linalg.norm(together, axis=1) == pytest.approx(1, abs=1e-5)
    alone = np.vstack([denser.encode_document([text], subnet) for text in TEXTS])
    shuffled = denser.encode_document(TEXTS[::-1], subnet, batch_tokens=16)[::-1]
    assert np.abs(together - alone).max() <= 1e-5
    assert np.abs(together - shuffled).max() <= 1e-5


def test_prompts_pooling_and_truncation(denser: ElasticDenser, bert_folder: Path) -> None:
    by_hand = denser.encode_document(["query : dog"])
    assert np.allclose(denser.encode_query(["dog"]), by_hand, atol=1e-6)
    mean = ElasticDenser.from_pretrained(bert_folder, pooling="mean")
    assert np.abs(mean.encode_document(TEXTS) - denser.encode_document(TEXTS)).max() > 1e-3
    short = denser.encode_document(TEXTS, truncate_dim=4)
    assert short.shape == (5, 4)
    assert np.linalg.norm(short, axis=1) == pytest.approx(1, abs=1e-5)


def test_bf16_is_close(denser: ElasticDenser) -> None:
    exact, rough = denser.encode_document(TEXTS), denser.encode_document(TEXTS, precision="bf16")
    assert (exact * rough).sum(1).min() > 0.99


def test_auto_multiplies_queries_in_8_bits_at_full_width_only(
    denser: ElasticDenser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elastic_ir.dense.denser.resolve", lambda *_: "int8")
    asked: list[str] = []
    monkeypatch.setattr(denser, "encode", lambda texts, subnet, **options: asked.append(options["precision"]))
    for precision in ("auto", "int8", "fp32"):
        for subnet in (None, Subnet(1.0, 2), Subnet(0.5, 2)):
            denser.encode_query(TEXTS, subnet, precision=precision)
    assert asked == ["auto", "auto", "fp32", "int8", "int8", "int8", "fp32", "fp32", "fp32"]


def test_save_and_load_give_the_same_vectors(denser: ElasticDenser, tmp_path: Path) -> None:
    denser.save_pretrained(tmp_path)
    again = ElasticDenser.from_pretrained(tmp_path)
    assert again.settings == denser.settings
    assert np.array_equal(again.encode_query(TEXTS), denser.encode_query(TEXTS))
    assert again.card(Subnet(0.5, 2)).subnet == "w0.50-d2"
    assert again.card().space == again.fingerprint


def test_wrong_input(denser: ElasticDenser, bert_folder: Path, cross_encoder_folder: Path) -> None:
    with pytest.raises(ModelError, match="leaves no room behind the prompt 'the cat the cat"):
        ElasticDenser.from_pretrained(bert_folder, query_prompt="the cat " * 3, max_length=8)
    with pytest.raises(InputError, match="max_length is 1; wanted 3 or more"):
        denser.encode(["a text"], max_length=1)
    with pytest.raises(InputError, match="found NoneType among the texts"):
        denser.encode(["a text", None])  # type: ignore[list-item]
    with pytest.raises(InputError, match="single string"):
        denser.encode_query("dog")
    with pytest.raises(SubnetError):
        denser.encode_query(["dog"], Subnet(1.0, 9))
    with pytest.raises(InputError, match="truncate_dim"):
        denser.encode_query(["dog"], truncate_dim=17)
    with pytest.raises(ModelError, match="reranker"):
        ElasticDenser.from_pretrained(cross_encoder_folder)
    assert denser.encode_query([]).shape == (0, 16)


def test_texts_may_come_one_by_one(denser: ElasticDenser) -> None:
    assert np.array_equal(denser.encode_document(text for text in TEXTS), denser.encode_document(TEXTS))


def changed(source: Path, target: Path, **settings: Any) -> Path:
    """A copy of the model folder ``source`` with other settings."""
    shutil.copytree(source, target)
    path = target / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return target


def test_foreign_models_that_would_compute_wrongly_are_refused(
    bert_folder: Path, cross_encoder_folder: Path, tmp_path: Path
) -> None:
    deeper = changed(bert_folder, tmp_path / "deeper", num_hidden_layers=6)
    with pytest.raises(ModelError, match=r"lacks 32 tensors, encoder\.layer\.4"):
        ElasticDenser.from_pretrained(deeper)
    with pytest.raises(ModelError, match="is_decoder True is not supported"):
        ElasticDenser.from_pretrained(changed(bert_folder, tmp_path / "decoder", is_decoder=True))
    with pytest.raises(ModelError, match="has one token type; wanted two"):
        ElasticRanker.from_pretrained(changed(cross_encoder_folder, tmp_path / "types", type_vocab_size=1))
    pooled = changed(bert_folder, tmp_path / "pooled")
    (pooled / "1_Pooling").mkdir()
    for modes, named in (
        (
            {"pooling_mode_cls_token": False, "pooling_mode_max_tokens": True, "word_embedding_dimension": 16},
            "max_tokens",
        ),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "cls_token, mean_tokens"),
        ({"pooling_mode": "lasttoken"}, "lasttoken"),
    ):
        (pooled / "1_Pooling" / "config.json").write_text(json.dumps(modes))
        with pytest.raises(ModelError, match=f"pools by {named}; wanted cls_token or mean_tokens alone"):
            ElasticDenser.from_pretrained(pooled)
    (pooled / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    modules = [{"type": f"sentence_transformers.models.{kind}"} for kind in ("Transformer", "Pooling", "Normalize")]
    (pooled / "modules.json").write_text(json.dumps(modules))
    (pooled / "config_sentence_transformers.json").write_text('{"prompts": ["query: "]}')
    settings = ElasticDenser.from_pretrained(pooled).settings
    assert (settings.pooling, settings.query_prompt, settings.max_length) == ("mean", "", 64)
    before = ElasticDenser.from_pretrained(pooled).fingerprint
    (pooled / "sentence_bert_config.json").write_text('{"max_seq_length": 24}')
    shorter = ElasticDenser.from_pretrained(pooled)
    assert shorter.settings.max_length == 24
    assert shorter.fingerprint != before
    (pooled / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean", "include_prompt": false}')
    assert ElasticDenser.from_pretrained(pooled).settings.pooling == "mean"
    (pooled / "config_sentence_transformers.json").write_text('{"prompts": {"query": "the cat"}}')
    with pytest.raises(ModelError, match="leaves its prompts out of the mean"):
        ElasticDenser.from_pretrained(pooled)
    (pooled / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    (pooled / "config_sentence_transformers.json").write_text('{"prompts": {"document": "", "passage": "the mat"}}')
    assert ElasticDenser.from_pretrained(pooled).settings.document_prompt == "the mat"
    (pooled / "config_sentence_transformers.json").unlink()
    (pooled / "modules.json").write_text(json.dumps([*modules, {"type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(ModelError, match="ends in a module Dense; wanted Normalize, Pooling, Transformer alone"):
        ElasticDenser.from_pretrained(pooled)


def test_an_int8_weight_without_its_scale_is_refused(tmp_path: Path) -> None:
    bundled = load_checkpoint("elastic-denser-small").folder
    folder = Path(shutil.copytree(bundled, tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    del weights["layers.0.up.scale"]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"layers\.0\.up has lost its scale"):
        ElasticDenser.from_pretrained(folder)


def test_another_vocabulary_is_another_model(bert_folder: Path, tmp_path: Path) -> None:
    vocabulary = json.loads((bert_folder / "tokenizer.json").read_text())["model"]["vocab"]
    words = sorted(vocabulary, key=lambda word: vocabulary[word])
    cat, dog = words.index("cat"), words.index("dog")
    found = []
    for name in ("one", "other"):
        folder = changed(bert_folder, tmp_path / name)
        for path in folder.glob("*token*"):
            path.unlink()
        (folder / "vocab.txt").write_text("\n".join(words) + "\n")
        words[cat], words[dog] = words[dog], words[cat]
        found.append(ElasticDenser.from_pretrained(folder).fingerprint)
    assert found[0] != found[1]
