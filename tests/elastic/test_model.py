"""The elastic model against its oracle: plain Hugging Face BERT."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, BertForSequenceClassification, BertModel

from elastic_ir.elastic import ElasticLM, ElasticScorer, TokenBatch, load_checkpoint, save_checkpoint
from elastic_ir.elastic.huggingface import to_bert_state
from elastic_ir.elastic.importance import measure, random_direction, reorder
from elastic_ir.errors import ModelError, SubnetError
from elastic_ir.subnet import Subnet

SUBNETS = ["w1.00-d4", "w1.00-d2", "w0.50-d4", "w0.50-d2", "w0.25-d1", "w0.75-d3"]
TEXTS = ["the cat sat on the mat", "dog", "a small bird flew in the big blue sky and a fish swam"]


@pytest.fixture
def loaded(bert_folder: Path) -> tuple[ElasticLM, TokenBatch]:
    model, tokens = ElasticLM.from_pretrained(bert_folder), load_checkpoint(bert_folder).tokens
    return model, tokens.pad([tokens.single(ids) for ids in tokens.ids(TEXTS, 60)])


def mask(batch: TokenBatch) -> torch.Tensor:
    return torch.arange(batch.input_ids.shape[1])[None, :] < batch.lengths[:, None]


@torch.no_grad()
def test_full_size_equals_hugging_face(loaded: tuple[ElasticLM, TokenBatch], bert_folder: Path) -> None:
    model, batch = loaded
    plain = BertModel.from_pretrained(bert_folder, add_pooling_layer=False).eval()
    wanted = plain(input_ids=batch.input_ids, attention_mask=mask(batch).long()).last_hidden_state
    assert (model(batch) - wanted)[mask(batch)].abs().max() < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("name", SUBNETS)
def test_extract_equals_the_subnet_and_loads_with_auto_model(
    loaded: tuple[ElasticLM, TokenBatch], name: str, tmp_path: Path
) -> None:
    model, batch = loaded
    subnet = Subnet.parse(name)
    model.extract(subnet).save_pretrained(tmp_path)
    plain = AutoModel.from_pretrained(tmp_path, add_pooling_layer=False).eval()
    assert plain.config.num_hidden_layers == subnet.depth
    found = plain(input_ids=batch.input_ids, attention_mask=mask(batch).long()).last_hidden_state
    assert (model(batch, subnet) - found)[mask(batch)].abs().max() < 1e-5


def test_extract_takes_a_model_from_where_it_is(loaded: tuple[ElasticLM, TokenBatch]) -> None:
    model = deepcopy(loaded[0]).to("meta")
    assert {tensor.device.type for tensor in to_bert_state(model, Subnet(0.5, 2)).values()} == {"meta"}


def check_that_only_it_changes(
    model: ElasticLM, shared: ElasticLM, batch: TokenBatch, subnet: Subnet, other: Subnet
) -> None:
    """Move all that ``subnet`` has to itself: it computes something else, and no other does."""
    own = model.own_part(subnet)
    assert own is not None
    generator = torch.Generator().manual_seed(0)
    for parameter in own.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    assert (model(batch, subnet) - shared(batch, subnet)).abs().max() > 1e-2
    for unchanged in (other, shared.config.full):
        assert torch.equal(model(batch, unchanged), shared(batch, unchanged))


@torch.no_grad()
def test_vectors_of_its_own_change_one_subnet_only(loaded: tuple[ElasticLM, TokenBatch]) -> None:
    shared, batch = loaded
    subnet, other = Subnet(0.5, 2), Subnet(0.5, 4)
    model = ElasticLM(shared.config.model_copy(update={"own": (str(subnet),)})).eval()
    assert all(
        name.startswith("own.") for name in model.load_state_dict(shared.state_dict(), strict=False).missing_keys
    )
    own = model.own_part(subnet)
    assert own is not None
    assert model.own_part(other) is None
    own.start_from(model)
    assert torch.equal(model(batch, subnet), shared(batch, subnet))
    check_that_only_it_changes(model, shared, batch, subnet, other)
    plain = model.extract(subnet)
    found = plain(input_ids=batch.input_ids, attention_mask=mask(batch).long()).last_hidden_state
    assert (model(batch, subnet) - found)[mask(batch)].abs().max() < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("own_last", [False, True])
def test_layers_of_its_own_are_as_narrow_as_it_is(loaded: tuple[ElasticLM, TokenBatch], own_last: bool) -> None:
    shared, batch = loaded
    subnet, other = Subnet(0.5, 2), Subnet(0.5, 4)
    config = shared.config.model_copy(update={"own_layers": (str(subnet),), "own_last": own_last})
    model = ElasticLM(config).eval()
    model.load_state_dict(shared.state_dict(), strict=False)
    layers = model.elastic_layers()
    if own_last:
        layers[-1].load_state_dict(layers[-2].state_dict())
    own = model.own_part(subnet)
    assert own is not None
    own.start_from(model)
    assert (model(batch, subnet) - shared(batch, subnet)).abs().max() < 1e-6
    mine, vectors = own.layer(1, layers[1])
    assert vectors is None
    assert mine.up.shape == (layers[1].up.shape[0] // 2, layers[1].up.shape[1])
    assert not any(name.startswith("layers.") for name in model.used_by(subnet))
    assert "words.weight" in model.used_by(subnet)
    check_that_only_it_changes(model, shared, batch, subnet, other)
    found = model.extract(subnet)(input_ids=batch.input_ids, attention_mask=mask(batch).long()).last_hidden_state
    assert (model(batch, subnet) - found)[mask(batch)].abs().max() < 1e-5


@torch.no_grad()
def test_a_last_layer_of_their_own_changes_the_smaller_ones_only(loaded: tuple[ElasticLM, TokenBatch]) -> None:
    shared, batch = loaded
    config = shared.config.model_copy(update={"own_last": True})
    count = config.num_layers
    assert config.layers(2) == [1, count]
    assert config.layers(count) == shared.config.layers(count)
    model = ElasticLM(config).eval()
    missing = model.load_state_dict(shared.state_dict(), strict=False).missing_keys
    assert missing
    assert all(name.startswith(f"layers.{count}.") for name in missing)
    subnet = Subnet(0.5, 2)
    assert f"layers.{count}.up" in model.used_by(subnet)
    assert f"layers.{count - 1}.up" not in model.used_by(subnet)
    assert (model(batch, subnet) - shared(batch, subnet)).abs().max() > 1e-2
    assert torch.equal(model(batch), shared(batch))
    found = model.extract(subnet)(input_ids=batch.input_ids, attention_mask=mask(batch).long()).last_hidden_state
    assert (model(batch, subnet) - found)[mask(batch)].abs().max() < 1e-5


@pytest.mark.parametrize("name", SUBNETS)
def test_leading_positions_are_those_of_the_whole(loaded: tuple[ElasticLM, TokenBatch], name: str) -> None:
    model, batch = loaded
    subnet = Subnet.parse(name)
    for positions in (1, 3, 10_000):
        found = model(batch, subnet, positions=positions)  # with gradients, as in training
        assert (found - model(batch, subnet)[:, :positions]).abs().max() < 1e-5
        with torch.inference_mode():
            assert (model(batch, subnet, positions=positions) - found).abs().max() < 1e-5


def test_a_narrower_layer_is_a_view(loaded: tuple[ElasticLM, TokenBatch]) -> None:
    layer = loaded[0].layers[0]
    assert layer.up[:64].data_ptr() == layer.up.data_ptr()
    assert layer.down[:64].is_contiguous()
    assert layer.qkv[: 2 * 3 * 4].is_contiguous()


def test_reordering_by_importance_changes_no_output(loaded: tuple[ElasticLM, TokenBatch]) -> None:
    model, batch = loaded
    with torch.no_grad():
        before = model(batch)
        narrow = model(batch, Subnet(0.5, 4))
    importance = measure(model, [batch], [random_direction(16)])
    reorder(model, importance)
    with torch.no_grad():
        assert (model(batch) - before)[mask(batch)].abs().max() < 1e-5
        assert (model(batch, Subnet(0.5, 4)) - narrow)[mask(batch)].abs().max() > 1e-3
    again = measure(model, [batch], [random_direction(16)])
    for layer in again:
        assert layer.heads.tolist() == pytest.approx(sorted(layer.heads.tolist(), reverse=True), rel=1e-3)


def test_threads_at_two_subnets_do_not_disturb_each_other(loaded: tuple[ElasticLM, TokenBatch]) -> None:
    model, batch = loaded
    subnets = [Subnet(1.0, 4), Subnet(0.25, 1)]
    with torch.inference_mode():
        alone = [model(batch, subnet) for subnet in subnets]

    def run(i: int) -> bool:
        with torch.inference_mode():
            return torch.equal(model(batch, subnets[i % 2]), alone[i % 2])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(run, range(200)))


@torch.no_grad()
def test_training_attention_equals_the_fused_kernel(loaded: tuple[ElasticLM, TokenBatch]) -> None:
    model, batch = loaded
    with torch.enable_grad():
        slow = model(batch).detach()
    assert (slow - model(batch))[mask(batch)].abs().max() < 1e-5


def test_layers_of_a_depth(loaded: tuple[ElasticLM, TokenBatch]) -> None:
    config = loaded[0].config.model_copy(update={"num_layers": 12})
    assert config.layers(6) == [1, 3, 5, 7, 9, 11]
    assert config.layers(5)[-1] == 11
    assert config.model_copy(update={"depth_rule": "prefix"}).layers(3) == [0, 1, 2]


@pytest.mark.parametrize("subnet", [Subnet(1.0, 5), Subnet(0.0, 2), Subnet(1.5, 2), Subnet(1.0, 0)])
def test_a_subnet_the_model_lacks_is_refused(loaded: tuple[ElasticLM, TokenBatch], subnet: Subnet) -> None:
    with pytest.raises(SubnetError):
        loaded[0](loaded[1], subnet)


@torch.no_grad()
def test_scorer_equals_hugging_face(cross_encoder_folder: Path) -> None:
    checkpoint = load_checkpoint(cross_encoder_folder)
    scorer = ElasticScorer(checkpoint.config)
    scorer.load_state_dict(checkpoint.state)
    tokens = checkpoint.tokens
    query, *documents = tokens.ids(["where is the cat", *TEXTS], 40)
    batch = tokens.pad([tokens.pair(query, d) for d in documents], [len(query) + 2] * 3)
    plain = BertForSequenceClassification.from_pretrained(cross_encoder_folder).eval()
    wanted = plain(input_ids=batch.input_ids, attention_mask=mask(batch).long(), token_type_ids=batch.type_ids)
    assert (scorer.eval()(batch) - wanted.logits.squeeze(-1)).abs().max() < 1e-5
    with pytest.raises(SubnetError, match="exits after 4"):
        scorer(batch, Subnet(1.0, 2))


@pytest.mark.parametrize("storage", ["float32", "int8"])
def test_checkpoint_round_trip(bert_folder: Path, tmp_path: Path, storage: str) -> None:
    checkpoint = load_checkpoint(bert_folder)
    save_checkpoint(tmp_path, checkpoint.config, checkpoint.state, checkpoint.tokens, storage)  # type: ignore[arg-type]
    again = load_checkpoint(tmp_path)
    assert again.native
    assert again.config == checkpoint.config
    assert again.tokens.fingerprint == checkpoint.tokens.fingerprint
    for name, tensor in checkpoint.state.items():
        bound = 0 if storage == "float32" or tensor.dim() == 1 else tensor.abs().amax(-1, keepdim=True) / 127 / 2 + 1e-6
        assert ((again.state[name] - tensor).abs() <= bound).all(), name


def test_bad_checkpoints_say_what_is_wrong(tmp_path: Path, bert_folder: Path) -> None:
    for name in ("no-such-model", "long" * 100):
        with pytest.raises(ModelError, match="no bundled name or folder"):
            load_checkpoint(name)
    with pytest.raises(ModelError, match=r"config\.json"):
        load_checkpoint(tmp_path)
    checkpoint = load_checkpoint(bert_folder)
    save_checkpoint(tmp_path, checkpoint.config, checkpoint.state, checkpoint.tokens)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="damaged"):
        load_checkpoint(tmp_path)
    del checkpoint.state["words.weight"]
    save_checkpoint(tmp_path, checkpoint.config, checkpoint.state, checkpoint.tokens)
    with pytest.raises(ModelError, match="do not fit"):
        ElasticLM.from_pretrained(tmp_path)
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["foreign"] = len(tokenizer["model"]["vocab"])
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError, match=r"the tokenizer in .* has \d+ words, its model \d+"):
        load_checkpoint(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="not a tokenizer"):
        load_checkpoint(tmp_path)
