"""The classifier: subnets, plain models, fine-tuning and distillation on a task that a tiny model can learn."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from elastic_ir.classify import ClassifierSettings, ElasticClassifier
from elastic_ir.classify.classifier import sequences_of
from elastic_ir.elastic import ElasticLM, ElasticScorer, Tokens, load_checkpoint, save_checkpoint
from elastic_ir.errors import ConfigError, DatasetError, InputError, ModelError
from elastic_ir.rerank import ElasticRanker
from elastic_ir.subnet import Subnet
from elastic_ir.train import Recipe, train
from elastic_ir.train.classifier import ClassifierObjective
from elastic_ir.train.student import start_own

FIRST = ["the cat sat on the mat", "a dog ran", "the bird flew in the sky", "a fish swam in the sea"]
SECOND = ["a cat", "the dog sat", "where is the bird ?", "fish"]
LABELS = ("land", "air")
ANIMALS = [("the cat sat", 0), ("a dog ran", 0), ("the bird flew", 1), ("big bird in the sky", 1), ("small dog", 0)]


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    path = tmp_path / "examples.jsonl"
    rows = [{"sentence1": text, "label": label} for text, label in ANIMALS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def recipe_of(teacher: Path, examples: Path, output: Path, **changes: Any) -> Recipe:
    given = {
        "kind": "classifier", "teacher": str(teacher), "output": str(output), "batch": 4, "max_tokens": 16,
        "examples": [{"path": str(examples)}], "labels": LABELS, "steps": 30, "warmup": 3, "cooldown": 20,
        "learning_rate": 1e-2, "average": 0.5, "threads": 1, "precision": "fp32", "importance_batches": 1,
        "sampling": {"strategy": "fixed", "subnets": ["w1.00-d4"]},
    }  # fmt: skip
    return Recipe.model_validate(given | changes)


def made(folder: Path, labels: tuple[str, ...] = ("no", "maybe", "yes")) -> ElasticClassifier:
    """A classifier with exits after 2 and 4 layers, seeded."""
    checkpoint = load_checkpoint(folder)
    shape = {"exits": (2, 4), "outputs": max(1, len(labels)), "own": ("w0.50-d2",)}
    torch.manual_seed(0)
    model = ElasticScorer(checkpoint.config.model_copy(update=shape))
    model.encoder.load_state_dict(checkpoint.state, strict=False)
    part = model.encoder.own_part(Subnet(0.5, 2))
    assert part is not None
    part.start_from(model.encoder)
    return ElasticClassifier(model, checkpoint.tokens, ClassifierSettings(labels=labels, max_length=32))


@pytest.mark.parametrize("labels", [("no", "maybe", "yes"), ()])
@pytest.mark.parametrize("subnet", ["w1.00-d4", "w0.50-d2"])
def test_extract_computes_the_subnet(bert_folder: Path, tmp_path: Path, subnet: str, labels: tuple[str, ...]) -> None:
    from transformers import AutoModelForSequenceClassification

    classifier = made(bert_folder, labels)
    classifier.extract(Subnet.parse(subnet)).save_pretrained(tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    sequences, firsts = sequences_of(classifier.tokens, FIRST, SECOND, 32)
    batch = classifier.tokens.pad(sequences, firsts)
    mask = torch.arange(batch.input_ids.shape[1])[None, :] < batch.lengths[:, None]
    with torch.no_grad():
        wanted = plain(batch.input_ids, attention_mask=mask.long(), token_type_ids=batch.type_ids).logits.squeeze(-1)
    found = classifier.logits(FIRST, SECOND, Subnet.parse(subnet))
    assert np.abs(found - wanted.numpy()).max() < 1e-5
    assert [plain.config.id2label[i] for i in range(len(labels))] == list(labels)


def test_what_is_saved_comes_back(bert_folder: Path, tmp_path: Path) -> None:
    classifier = made(bert_folder)
    classifier.save_pretrained(tmp_path)
    again = ElasticClassifier.from_pretrained(tmp_path)
    assert again.settings == classifier.settings
    assert np.array_equal(again.logits(FIRST), classifier.logits(FIRST))
    assert set(again.predict(FIRST, SECOND)) <= {"no", "maybe", "yes"}
    with pytest.raises(ModelError, match="is a classifier; wanted a reranker"):
        ElasticRanker.from_pretrained(tmp_path)
    with pytest.raises(ModelError, match="has 3 outputs and 2 labels"):
        ElasticClassifier.from_pretrained(tmp_path, labels=("a", "b"))
    with pytest.raises(ModelError, match="max_length"):
        ElasticClassifier.from_pretrained(tmp_path, max_length=1)


def test_a_plain_classifier_is_one_of_ours(bert_folder: Path, tmp_path: Path) -> None:
    classifier = made(bert_folder)
    classifier.extract().save_pretrained(tmp_path)
    classifier.tokens.save(tmp_path / "tokenizer.json")
    found = ElasticClassifier.from_pretrained(tmp_path)
    assert found.settings.labels == ("no", "maybe", "yes")
    assert np.abs(found.logits(FIRST) - classifier.logits(FIRST)).max() < 1e-5
    assert np.array_equal(found.logits(np.array(FIRST), np.array(FIRST)), found.logits(FIRST, FIRST))
    assert found.settings.max_length == found.config.max_positions == 64
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"problem_type": "multi_label_classification"}))
    with pytest.raises(ModelError, match="several labels each"):
        ElasticClassifier.from_pretrained(tmp_path)


def test_a_regression_gives_numbers(bert_folder: Path) -> None:
    classifier = made(bert_folder, ())
    assert classifier.logits(FIRST).shape == (4,)
    assert classifier.predict(FIRST) == classifier.logits(FIRST).tolist()
    with pytest.raises(InputError, match="4 first and 1 second"):
        classifier.logits(FIRST, ["one"])
    with pytest.raises(ModelError, match="is an encoder"):
        ElasticClassifier.from_pretrained(bert_folder)


def test_the_longer_sentence_is_cut_first(bert_folder: Path) -> None:
    tokens: Tokens = load_checkpoint(bert_folder).tokens
    long, short = "cat " * 40, "dog " * 4
    for pair, first in (((long, short), 13), ((short, long), 6), ((long, long), 9)):
        sequences, firsts = sequences_of(tokens, [pair[0]], [pair[1]], 18)
        assert (len(sequences[0]), firsts[0]) == (18, first)
    assert len(sequences_of(tokens, [long], None, 18)[0][0]) == 18


@pytest.mark.parametrize("max_length", [9, 10, 16, 17])
def test_pairs_are_cut_as_transformers_cuts_them(bert_folder: Path, max_length: int) -> None:
    plain = PreTrainedTokenizerFast(tokenizer_file=str(bert_folder / "tokenizer.json"))
    tokens = Tokens.from_file(bert_folder / "tokenizer.json")
    for first, second in product(range(1, max_length - 2), repeat=2):
        one, two = "cat " * first, "dog " * second
        wanted = plain(one, two, truncation="longest_first", max_length=max_length - 3).sequence_ids()
        sequences, firsts = sequences_of(tokens, [one], [two], max_length)
        assert (firsts[0] - 2, len(sequences[0]) - 3) == (wanted.count(0), len(wanted))


def test_what_is_no_list_of_texts_is_refused(bert_folder: Path) -> None:
    classifier = made(bert_folder)
    for texts, pairs in (("the cat", None), (["the cat"], "a cat"), (["the cat", None], None)):
        with pytest.raises(InputError, match="wanted a list of strings"):
            classifier.predict(texts, pairs)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="is a reranker"):
        ElasticClassifier.from_pretrained("elastic-ranker-small")


def test_fine_tuned_then_distilled(bert_folder: Path, examples: Path, tmp_path: Path) -> None:
    teacher = train(recipe_of(bert_folder, examples, tmp_path / "teacher", steps=100))
    texts, wanted = [text for text, _ in ANIMALS], [LABELS[label] for _, label in ANIMALS]
    assert ElasticClassifier.from_pretrained(teacher).predict(texts) == wanted
    sampling = {"strategy": "fixed", "subnets": ["w1.00-d2", "w0.50-d2"]}
    changes = {"sampling": sampling, "own_vectors": True, "own_last": True, "label_loss": 0.5, "temperature": 2.0}
    elastic = ElasticClassifier.from_pretrained(
        train(recipe_of(teacher, examples, tmp_path / "elastic", **changes, steps=100))
    )
    for subnet in ("w1.00-d4", "w1.00-d2", "w0.50-d2"):
        assert elastic.predict(texts, None, Subnet.parse(subnet)) == wanted
    alone = {"sampling": sampling | {"subnets": ["w0.50-d2"], "full_every": 0}, "learn_words": False}
    folder = train(recipe_of(teacher, examples, tmp_path / "alone", **alone, steps=100))
    assert ElasticClassifier.from_pretrained(folder).predict(texts, None, Subnet(0.5, 2)) == wanted
    words = [load_checkpoint(found).state["encoder.words.weight"] for found in (teacher, folder)]
    assert torch.equal(*words)


def test_first_layers_alone_and_a_regression(bert_folder: Path, examples: Path, tmp_path: Path) -> None:
    sampling = {"strategy": "fixed", "subnets": ["w1.00-d2"]}
    changes = {"first_layers": 2, "labels": (), "sampling": sampling, "steps": 80}
    found = ElasticClassifier.from_pretrained(train(recipe_of(bert_folder, examples, tmp_path / "two", **changes)))
    assert found.config.num_layers == 2
    numbers = found.logits([text for text, _ in ANIMALS])
    assert np.abs(numbers - [label for _, label in ANIMALS]).max() < 0.3


def test_a_killed_fine_tuning_ends_in_the_same_bytes(bert_folder: Path, examples: Path, tmp_path: Path) -> None:
    def stop(step: int, _: dict[str, float]) -> None:
        if step == 5:
            raise KeyboardInterrupt

    whole = train(recipe_of(bert_folder, examples, tmp_path / "whole", steps=8, save_every=2))
    recipe = recipe_of(bert_folder, examples, tmp_path / "killed", steps=8, save_every=2)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, stop)
    first, again = ((folder / "model.safetensors").read_bytes() for folder in (whole, train(recipe)))
    assert first == again
    early = recipe_of(bert_folder, examples, tmp_path / "early", steps=6, save_every=50)
    with pytest.raises(KeyboardInterrupt):
        train(early, stop)
    train(early)
    lines = (tmp_path / "early" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6]


def elastic_encoder(bert_folder: Path, folder: Path) -> Path:
    """Subnets after 2 of 4 layers, with vectors and a last layer of their own."""
    source = load_checkpoint(bert_folder)
    shape = {"own": ("w0.50-d2",), "own_last": True, "trained": ("w1.00-d4", "w1.00-d2", "w0.50-d2")}
    torch.manual_seed(1)
    model = ElasticLM(source.config.model_copy(update=shape))
    missing = model.load_state_dict(source.state, strict=False).missing_keys
    start_own(model, missing)
    with torch.no_grad():
        for name in missing:
            model.get_parameter(name).add_(0.1)
    save_checkpoint(folder, model.config, model.state_dict(), source.tokens)
    return folder


def test_a_killed_distillation_from_an_elastic_encoder_ends_in_the_same_bytes(
    bert_folder: Path, examples: Path, tmp_path: Path
) -> None:
    def stop(step: int, _: dict[str, float]) -> None:
        if step == 5:
            raise KeyboardInterrupt

    encoder = elastic_encoder(bert_folder, tmp_path / "encoder")
    teacher = train(recipe_of(encoder, examples, tmp_path / "teacher", steps=3, learning_rate=1e-3))
    sampling = {"strategy": "fixed", "subnets": ["w1.00-d2", "w0.50-d2"], "full_every": 2}
    changes = {"start": str(encoder), "sampling": sampling, "own_vectors": True, "own_last": True, "label_loss": 0.5}
    changes |= {"learn_words": False, "own_learning_rate": 1e-2, "learning_rate": 1e-3, "steps": 8, "save_every": 2}
    whole = train(recipe_of(teacher, examples, tmp_path / "whole", **changes))
    recipe = recipe_of(teacher, examples, tmp_path / "killed", **changes)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, stop)
    first, again = ((folder / "model.safetensors").read_bytes() for folder in (whole, train(recipe)))
    assert first == again
    assert load_checkpoint(whole).config.own == ("w0.50-d2", "w1.00-d2")


def test_changed_texts_are_answered_by_the_teacher_alone(bert_folder: Path, examples: Path, tmp_path: Path) -> None:
    teacher = train(recipe_of(bert_folder, examples, tmp_path / "teacher", steps=4))
    recipe = recipe_of(teacher, examples, tmp_path / "out", label_loss=1.0, batch=8)

    def objective(changed: float) -> ClassifierObjective:
        return ClassifierObjective(recipe.model_copy(update={"changed": changed}), load_checkpoint(teacher))

    plain, some, whole = (objective(share) for share in (0.0, 0.5, 1.0))
    before, after = plain.batch(3), whole.batch(3)
    assert before.known.all()
    assert not after.known.any()
    assert before.tokens.input_ids.shape == after.tokens.input_ids.shape
    assert torch.equal(before.tokens.lengths, after.tokens.lengths)
    special = before.tokens.input_ids <= max(plain.tokens.cls_id, plain.tokens.sep_id, plain.tokens.pad_id)
    assert torch.equal(before.tokens.input_ids[special], after.tokens.input_ids[special])
    exchanged = before.tokens.input_ids != after.tokens.input_ids
    assert 0 < int(exchanged.sum()) < int((~special).sum()) / 2
    assert torch.equal(whole.batch(3).tokens.input_ids, after.tokens.input_ids)
    known = some.batch(0).known
    assert known.any()
    assert not known.all()
    subnets = [plain.student.config.full]
    mixed = some.batch(0)
    _, loss = next(some.losses(mixed, subnets))
    wrong = mixed._replace(labels=torch.where(known, mixed.labels, 1 - mixed.labels))
    _, same = next(some.losses(wrong, subnets))
    assert torch.equal(loss, same)


def test_what_smaller_ones_have_to_themselves_comes_along_where_asked(examples: Path, tmp_path: Path) -> None:
    recipe = recipe_of(Path("elastic-denser-small"), examples, tmp_path / "out", steps=1)
    sampling = {"strategy": "fixed", "subnets": ["w1.00-d12"]}
    teacher = train(recipe.model_copy(update={"sampling": recipe.sampling.model_validate(sampling)}))
    found = load_checkpoint(teacher)
    assert (found.config.own, found.config.own_layers, found.config.own_last) == ((), (), False)
    names = ["w1.00-d6", "w0.25-d2"]
    changes = {"start": "elastic-denser-small", "sampling": {"strategy": "fixed", "subnets": names}}
    folder = train(recipe_of(teacher, examples, tmp_path / "all", **changes, steps=1, warmup=0, learning_rate=1e-9))
    before, after = load_checkpoint("elastic-denser-small"), load_checkpoint(folder)
    own = [name for name in before.state if name.startswith(("own.", "layers.12."))]
    assert len({name.split(".")[1] for name in own}) == 5
    for name in own:
        torch.testing.assert_close(after.state[f"encoder.{name}"], before.state[name], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"sentence1": "a cat", "label": 2}, "label 2; wanted one of 0..1 .land, air."),
        ({"sentence1": "a cat", "label": "sea"}, "label 'sea'; wanted a number or one of"),
        ({"sentence1": "a cat", "label": None}, "label None; wanted a number"),
        ({"sentence1": "a cat", "label": True}, "label True; wanted a number"),
        ({"sentence1": "a cat", "label": float("nan")}, "label nan; wanted a number"),
        ({"sentence1": "a cat", "label": 0.5}, "label 0.5; wanted one of"),
        ({"sentence1": "a cat", "sentence2": 3, "label": 0}, "wanted `sentence2`, a text"),
        ({"label": 0}, "field 'sentence1' is missing"),
    ],
)
def test_bad_examples_are_named(bert_folder: Path, tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DatasetError, match=f"bad.jsonl, line 1: .*{reason}"):
        train(recipe_of(bert_folder, path, tmp_path / "out"))


def test_recipes_that_cannot_work(
    bert_folder: Path, cross_encoder_folder: Path, examples: Path, tmp_path: Path
) -> None:
    def refused(teacher: Path, reason: str, **changes: Any) -> None:
        with pytest.raises(ConfigError, match=reason):
            train(recipe_of(teacher, examples, tmp_path / "out", **changes))

    smaller = {"strategy": "fixed", "subnets": ["w0.50-d2"]}
    refused(bert_folder, "is an encoder, from which the full model is fine-tuned first", sampling=smaller)
    refused(cross_encoder_folder, "has 1 outputs, the recipe 2 labels")
    refused(bert_folder, "fine-tuning itself starts from the teacher", start=str(bert_folder))
    encoder = elastic_encoder(bert_folder, tmp_path / "encoder")
    other = load_checkpoint(encoder)
    state = {name: torch.randn_like(tensor) for name, tensor in other.state.items()}
    save_checkpoint(tmp_path / "other", other.config, state, other.tokens)
    teacher = train(recipe_of(encoder, examples, tmp_path / "teacher", steps=1))
    refused(teacher, "was not fine-tuned from the start", start=str(tmp_path / "other"), sampling=smaller)
    refused(bert_folder, "first_layers 9", first_layers=9)
    with pytest.raises(DatasetError, match="needs `examples:`"):
        train(recipe_of(bert_folder, examples, tmp_path / "out").model_copy(update={"examples": ()}))
