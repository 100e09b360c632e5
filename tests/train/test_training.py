"""Training: batches by seed and step, subnets by strategy, a killed run that ends the same."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from elastic_ir.durable import writer_lock
from elastic_ir.elastic import ElasticLM, ElasticScorer, load_checkpoint
from elastic_ir.elastic.int8 import int8_is_available
from elastic_ir.elastic.precision import bf16_is_native
from elastic_ir.errors import ConfigError, DatasetError, ElasticIRError, IndexLockedError, SubnetError
from elastic_ir.subnet import Subnet
from elastic_ir.train import Recipe, read_recipe, train
from elastic_ir.train.data import Lists, TextPool
from elastic_ir.train.losses import relation_loss
from elastic_ir.train.recipe import Sampling, TextStream, identity, same_recipe
from elastic_ir.train.sampling import nearest_larger, strategy
from elastic_ir.train.trainer import _for_this_machine, schedule

SENTENCES = ["the cat sat on the mat", "a dog ran", "the bird flew in the sky", "a fish swam in the sea", "cat and dog"]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"query": text}) + "\n" for text in SENTENCES))
    return path


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    path = tmp_path / "lists.jsonl"
    rows = [{"query": f"where is {text}", "candidates": SENTENCES[:4]} for text in SENTENCES]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def denser_recipe(folder: Path, data: Path, output: Path, **changes: Any) -> Recipe:
    given = {
        "kind": "denser", "teacher": str(folder), "output": str(output), "batch": 4, "max_tokens": 16,
        "streams": [{"texts": [{"path": str(data)}], "pool": 24, "batch": 4, "max_tokens": 16}], "steps": 8,
        "warmup": 2, "cooldown": 2, "learning_rate": 1e-2, "average": 0.5, "threads": 1,
        "precision": "fp32", "save_every": 2, "importance_batches": 1,
        "sampling": {"strategy": "sandwich", "depths": [2, 4], "random": 1},
    }  # fmt: skip
    return Recipe.model_validate(given | changes)


def distance(folder: Path, teacher: Path, subnet: Subnet) -> float:
    """1 - cosine of a subnet's vectors to the teacher's."""
    models = []
    for name in (folder, teacher):
        checkpoint = load_checkpoint(name)
        model = ElasticLM(checkpoint.config)
        model.load_state_dict(checkpoint.state)
        models.append(model)
    tokens = checkpoint.tokens
    batch = tokens.pad([tokens.single(ids) for ids in tokens.ids(SENTENCES, 14)])
    with torch.no_grad():
        found, wanted = models[0](batch, subnet)[:, 0], models[1](batch)[:, 0]
    return float(1 - torch.cosine_similarity(found, wanted).mean())


def test_a_small_subnet_comes_closer_to_the_teacher(bert_folder: Path, texts: Path, tmp_path: Path) -> None:
    subnet = Subnet(0.5, 2)
    untrained = train(denser_recipe(bert_folder, texts, tmp_path / "a", steps=1, learning_rate=1e-9))
    trained = train(denser_recipe(bert_folder, texts, tmp_path / "b", steps=60, learning_rate=5e-3))
    assert distance(untrained, bert_folder, Subnet(1.0, 4)) < 1e-5
    assert distance(trained, bert_folder, subnet) < 0.5 * distance(untrained, bert_folder, subnet)
    assert "w0.50-d2" in load_checkpoint(trained).config.trained


def test_every_exit_of_a_ranker_learns(cross_encoder_folder: Path, lists: Path, tmp_path: Path) -> None:
    recipe = denser_recipe(
        cross_encoder_folder, lists, tmp_path / "run", kind="ranker", streams=[], lists=[{"path": str(lists)}],
        steps=40, exits=[1, 2, 4], temperature=1.0, sampling={"strategy": "sandwich", "depths": [4]},
    )  # fmt: skip
    folder = train(recipe)
    assert load_checkpoint(folder).config.exits == (1, 2, 4)
    losses = [json.loads(line)["losses"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    for name in ("w1.00-d4", "w0.25-d4"):
        assert losses[-1][name] < 0.7 * losses[0][name]


def test_a_ranker_of_spaced_layers_learns_and_its_full_size_comes_back(
    cross_encoder_folder: Path, lists: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "kind": "ranker", "streams": [], "lists": [{"path": str(lists)}], "temperature": 1.0, "depth_rule": "spaced",
    }  # fmt: skip
    small, full = "w0.50-d2", "w1.00-d4"
    first = denser_recipe(
        cross_encoder_folder, lists, tmp_path / "first", **options, steps=40, own_vectors=True, cascade=[small],
        sampling={"strategy": "fixed", "subnets": [small], "full_every": 50},
    )  # fmt: skip
    folder = train(first)
    config = load_checkpoint(folder).config
    assert (config.exits, config.own, config.depth_rule, config.ranker) == (
        (2, 4),
        (small,),
        "spaced",
        {"cascade": [small]},
    )
    losses = [json.loads(line)["losses"] for line in (tmp_path / "first" / "log.jsonl").read_text().splitlines()]
    assert losses[-1][small] < 0.7 * losses[1][small]
    second = denser_recipe(
        cross_encoder_folder, lists, tmp_path / "second", **options, steps=40, start=str(folder), keep=[small],
        sampling={"strategy": "fixed", "subnets": [full]}, learning_rate=3e-3,
    )  # fmt: skip
    after = load_checkpoint(train(second))
    assert after.config.own == (small,)
    assert set(after.config.trained) == {small, full}
    used = ElasticScorer(after.config).used_by(Subnet.parse(small))
    assert any(name.startswith("heads.2.") for name in used)
    before = load_checkpoint(folder)
    assert all(torch.equal(before.state[name], after.state[name]) for name in used)
    losses = [json.loads(line)["losses"] for line in (tmp_path / "second" / "log.jsonl").read_text().splitlines()]
    assert losses[-1][full] < 0.7 * losses[0][full]
    with pytest.raises(ConfigError, match="not with prefix exits"):
        train(denser_recipe(cross_encoder_folder, lists, tmp_path / "x", **options | {"depth_rule": "prefix"},
                            own_vectors=True))  # fmt: skip


def test_what_a_run_will_train_is_not_warned_of(
    bert_folder: Path, texts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sampling = {"strategy": "fixed", "subnets": ["w0.50-d2"]}
    first = train(denser_recipe(bert_folder, texts, tmp_path / "first", steps=1, sampling=sampling))
    sampling = {"strategy": "fixed", "subnets": ["w0.75-d3"]}
    train(denser_recipe(bert_folder, texts, tmp_path / "second", start=str(first), steps=1, sampling=sampling))
    assert "never trained" not in caplog.text


@pytest.mark.skipif(not int8_is_available(), reason="the 8-bit kernels exist on x86 only")
def test_a_teacher_with_8_bit_products_says_nearly_the_same(
    cross_encoder_folder: Path, lists: Path, tmp_path: Path
) -> None:
    first = []
    for int8 in (False, True):
        recipe = denser_recipe(
            cross_encoder_folder, lists, tmp_path / str(int8), kind="ranker", streams=[], lists=[{"path": str(lists)}],
            steps=1, depth_rule="spaced", sampling={"strategy": "fixed", "subnets": ["w0.50-d2"]}, device="cpu",
            precision="fp32", teacher_int8=int8,
        )  # fmt: skip
        train(recipe)
        log = (tmp_path / str(int8) / "log.jsonl").read_text("utf-8")
        first.append(json.loads(log.splitlines()[0])["losses"]["w0.50-d2"])
    assert first[0] != first[1]
    assert first[1] == pytest.approx(first[0], rel=0.05)


def test_what_smaller_ones_have_to_themselves_learns_at_a_rate_of_its_own(
    cross_encoder_folder: Path, lists: Path, tmp_path: Path
) -> None:
    small, full = "w0.50-d2", "w1.00-d4"
    options: dict[str, Any] = {
        "kind": "ranker", "streams": [], "lists": [{"path": str(lists)}], "depth_rule": "spaced", "steps": 1,
        "own_vectors": True, "own_last": True, "sampling": {"strategy": "fixed", "subnets": [small]},
        "learning_rate": 1e-9, "average": 0.0, "weight_decay": 0.0,
    }  # fmt: skip
    still = load_checkpoint(train(denser_recipe(cross_encoder_folder, lists, tmp_path / "still", **options)))
    moved = load_checkpoint(
        train(denser_recipe(cross_encoder_folder, lists, tmp_path / "moved", **options, own_learning_rate=1e-2))
    )
    far = {name for name, tensor in still.state.items() if (tensor - moved.state[name]).abs().max() > 1e-3}
    scorer = ElasticScorer(moved.config)
    assert far
    assert far <= scorer.used_by(Subnet.parse(small)) - scorer.used_by(Subnet.parse(full))
    weighted = []
    for weight in (None, 0.0):
        output = tmp_path / f"weight-{weight}"
        train(denser_recipe(cross_encoder_folder, lists, output, **options, smaller={"hidden_loss": weight}))
        weighted.append(json.loads((output / "log.jsonl").read_text())["losses"])
    assert weighted[0][full] == weighted[1][full]
    assert weighted[0][small] > weighted[1][small]


def test_a_killed_run_ends_in_the_same_bytes(bert_folder: Path, texts: Path, tmp_path: Path) -> None:
    code = (
        "import sys, os\nfrom elastic_ir.train import Recipe, train\n"
        "recipe = Recipe.model_validate_json(sys.argv[1])\n"
        "train(recipe, lambda step, _: os._exit(137) if step == int(sys.argv[2]) else None)"
    )
    sampling = {"strategy": "fixed", "subnets": ["w0.50-d2"], "full_every": 3}  # much is idle when it resumes
    sums = []
    for name, kills in (("whole", [99]), ("killed", [3, 5, 99])):
        recipe = denser_recipe(bert_folder, texts, tmp_path / name, sampling=sampling, own_vectors=True)
        for kill in kills:
            done = subprocess.run(
                [sys.executable, "-c", code, recipe.model_dump_json(exclude_unset=True), str(kill)], capture_output=True
            )
            assert done.returncode == (0 if kill == 99 else 137), done.stderr
        weights = tmp_path / name / "checkpoint" / "model.safetensors"
        sums.append(hashlib.sha256(weights.read_bytes()).hexdigest())
    assert sums[0] == sums[1]
    log = (tmp_path / "killed" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == list(range(1, 9))
    with pytest.raises(ConfigError, match="another recipe"):
        train(denser_recipe(bert_folder, texts, tmp_path / "killed", sampling=sampling, own_vectors=True, seed=1))


def test_long_texts_end_at_the_models_positions(cross_encoder_folder: Path, lists: Path, tmp_path: Path) -> None:
    lists.write_text(json.dumps({"query": "cat " * 90, "candidates": ["dog " * 90, "bird"]}) + "\n")
    train(denser_recipe(cross_encoder_folder, lists, tmp_path / "run", kind="ranker", streams=[], exits=[2],
                        lists=[{"path": str(lists)}], max_tokens=100, steps=1))  # fmt: skip
    assert all(map(math.isfinite, json.loads((tmp_path / "run" / "log.jsonl").read_text())["losses"].values()))


def test_what_was_trained_is_what_the_steps_took(bert_folder: Path, texts: Path, tmp_path: Path) -> None:
    recipe = denser_recipe(bert_folder, texts, tmp_path / "run", steps=1, sampling={"strategy": "sandwich"})
    (log,) = map(json.loads, (train(recipe).parent / "log.jsonl").read_text().splitlines())
    assert set(load_checkpoint(tmp_path / "run" / "checkpoint").config.trained) == set(log["losses"])


def test_a_damaged_line_of_the_log_and_a_cut_vector_file_are_made_again(
    bert_folder: Path, texts: Path, tmp_path: Path
) -> None:
    recipe = denser_recipe(bert_folder, texts, tmp_path / "run", steps=2)
    train(recipe)
    (vectors,) = (tmp_path / "run").glob("teacher-*/*.npy")
    whole = vectors.read_bytes()
    vectors.write_bytes(whole[:-9])
    with (tmp_path / "run" / "log.jsonl").open("a") as log:
        log.write("garbage\n")
    train(recipe.model_copy(update={"steps": 4}))
    assert vectors.read_bytes() == whole
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 4


def test_a_run_has_one_writer(bert_folder: Path, texts: Path, tmp_path: Path) -> None:
    with writer_lock(tmp_path / "run"), pytest.raises(IndexLockedError, match="being written by process"):
        train(denser_recipe(bert_folder, texts, tmp_path / "run"))


def pool_of(bert_folder: Path, texts: Path, seed: int = 0, longest: int = 512, **changes: Any) -> TextPool:
    given = {"texts": [{"path": str(texts)}], "pool": 20, "batch": 4, "max_tokens": 16}
    stream = TextStream.model_validate(given | changes)
    return TextPool(stream, seed, load_checkpoint(bert_folder).tokens, longest)


def test_batches_depend_on_seed_and_step_only(bert_folder: Path, texts: Path) -> None:
    pool, again = pool_of(bert_folder, texts), pool_of(bert_folder, texts)
    prompts = {"query": "query : ", "document": ""}
    sequences = pool.sequences(prompts)
    assert sequences == again.sequences(prompts)
    assert pool.rows(7) == again.rows(7)
    assert sequences != pool_of(bert_folder, texts, seed=1).sequences(prompts)
    epoch = [row for step in range(5) for row in pool.rows(step)]
    assert sorted(epoch) == list(range(20))
    assert [row for step in range(5, 10) for row in pool.rows(step)] != epoch
    prompt = load_checkpoint(bert_folder).tokens.ids(["query :"], 5)[0]
    assert all(sequence[1:3] == prompt for sequence in sequences)
    unprompted = pool.sequences({"query": "", "document": ""})
    assert [[*s[:1], *s[3:]] for s in sequences] == unprompted


def test_a_pool_smaller_than_a_batch_still_serves(bert_folder: Path, texts: Path) -> None:
    pool = pool_of(bert_folder, texts, pool=3, batch=8)
    assert sorted(pool.rows(0)) == [0, 1, 2]


def test_pairs_are_two_parts_of_a_text(bert_folder: Path, texts: Path) -> None:
    tokens, prompts = load_checkpoint(bert_folder).tokens, {"query": "query : ", "document": ""}
    pool = pool_of(bert_folder, texts, pairs=0.5)
    sequences = pool.sequences(prompts)
    batch = pool.padded(sequences, range(len(sequences)))
    assert batch.type_ids is not None
    double = [sequence.count(tokens.sep_id) == 2 for sequence in sequences]
    assert any(double)
    assert not all(double)
    for sequence, pair, types in zip(sequences, double, batch.type_ids.tolist(), strict=True):
        second = sequence[sequence.index(tokens.sep_id) + 1 :]
        assert bool(second) == pair
        assert types[: len(sequence)] == [0] * (len(sequence) - len(second)) + [1] * len(second)
    assert pool_of(bert_folder, texts).padded(sequences, [0, 1]).type_ids is None
    texts.write_text(json.dumps({"query": "cat " * 2000}) + "\n")
    long = pool_of(bert_folder, texts, pairs=1.0, max_tokens=510)
    assert max(map(len, long.sequences(prompts))) == 2 * 254 + 3
    for pairs in (0.0, 1.0):
        short = pool_of(bert_folder, texts, longest=64, pairs=pairs, max_tokens=510)
        assert max(map(len, short.sequences(prompts))) in (63, 64)


def test_a_denser_reads_pairs_where_states_are_taught(bert_folder: Path, texts: Path, tmp_path: Path) -> None:
    streams = [{"texts": [{"path": str(texts)}], "pool": 24, "batch": 4, "pairs": 1.0, "rows": {"w0.50-d2": 2}}]
    with pytest.raises(ConfigError, match="pairs need teach_states"):
        train(denser_recipe(bert_folder, texts, tmp_path / "refused", streams=streams))
    streams[0]["teach_states"] = True
    sampling = {"strategy": "fixed", "subnets": ["w0.50-d2"]}
    train(denser_recipe(bert_folder, texts, tmp_path / "run", streams=streams, sampling=sampling, steps=40))
    log = [json.loads(line)["losses"]["w0.50-d2"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert log[-1] < 0.8 * log[0]


def test_lists_are_used_evenly(bert_folder: Path, texts: Path, lists: Path, tmp_path: Path) -> None:
    recipe = denser_recipe(bert_folder, texts, tmp_path, lists=[{"path": str(lists)}])
    assert Lists(recipe).batch(3) == Lists(recipe).batch(3)
    five = [item for step in range(5) for item in Lists(recipe).batch(step)]
    assert all(five.count(item) == 4 for item in five)


def test_streams_take_turns_and_name_who_learns(bert_folder: Path, texts: Path, tmp_path: Path) -> None:
    source = [{"path": str(texts)}]
    streams = [
        {"texts": source, "pool": 24, "batch": 4, "share": 2, "rows": {"w1.00-d4": 2}},
        {"texts": source, "pool": 6, "batch": 2, "rows": {"w0.50-d2": 0}},
    ]
    sampling = {"strategy": "fixed", "subnets": ["w0.50-d2"]}
    train(denser_recipe(bert_folder, texts, tmp_path / "run", streams=streams, sampling=sampling, steps=6))
    log = [json.loads(line)["losses"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [sorted(losses) for losses in log] == 2 * [["w0.50-d2", "w1.00-d4"], ["w0.50-d2", "w1.00-d4"], ["w1.00-d4"]]


def test_own_vectors_leave_the_full_model_what_it_was(bert_folder: Path, texts: Path, tmp_path: Path) -> None:
    sampling = {"strategy": "fixed", "subnets": ["w0.50-d2"]}
    options = {"own_vectors": True, "sampling": sampling, "steps": 30, "learning_rate": 5e-3}
    folder = train(denser_recipe(bert_folder, texts, tmp_path / "run", **options))
    config = load_checkpoint(folder).config
    assert config.own == ("w0.50-d2",)
    shared = train(denser_recipe(bert_folder, texts, tmp_path / "shared", **options | {"own_vectors": False}))
    subnet = Subnet(0.5, 2)
    assert distance(folder, bert_folder, subnet) < distance(shared, bert_folder, subnet)
    further = denser_recipe(bert_folder, texts, tmp_path / "more", **options | {"start": str(folder), "steps": 1})
    again = train(further.model_copy(update={"learning_rate": 1e-9}))
    assert distance(again, bert_folder, subnet) == pytest.approx(distance(folder, bert_folder, subnet), abs=1e-4)


def test_a_last_layer_of_their_own_starts_as_the_full_ones(bert_folder: Path, texts: Path, tmp_path: Path) -> None:
    small, full = Subnet(0.5, 2), Subnet(1.0, 4)
    options = {"own_vectors": True, "sampling": {"strategy": "fixed", "subnets": [str(small)]}}
    still = {"steps": 1, "learning_rate": 1e-9}
    first = train(denser_recipe(bert_folder, texts, tmp_path / "first", **options))
    untrained = train(denser_recipe(bert_folder, texts, tmp_path / "a", **options | still, own_last=True))
    assert distance(untrained, bert_folder, full) < 1e-6
    later = train(denser_recipe(bert_folder, texts, tmp_path / "b", **options | still, start=str(first), own_last=True))
    assert load_checkpoint(later).config.own_last
    assert distance(later, bert_folder, small) == pytest.approx(distance(first, bert_folder, small), abs=1e-4)
    trained = train(denser_recipe(bert_folder, texts, tmp_path / "c", **options, own_last=True))
    assert distance(trained, bert_folder, small) < distance(untrained, bert_folder, small)


def test_layers_of_its_own_begin_as_the_shared_ones_and_move_nothing_else(
    bert_folder: Path, texts: Path, tmp_path: Path
) -> None:
    small, full = Subnet(0.5, 2), Subnet(1.0, 4)
    alone = {"strategy": "fixed", "subnets": [str(small)], "full_every": 0}
    options = {"own_vectors": True, "own_last": True}
    first = train(denser_recipe(bert_folder, texts, tmp_path / "first", **options, sampling=alone | {"full_every": 1}))
    options |= {"own_layers": [str(small)], "keep": [str(full)], "sampling": alone, "start": str(first)}
    still = train(denser_recipe(bert_folder, texts, tmp_path / "a", **options, steps=1, learning_rate=1e-9))
    config = load_checkpoint(still).config
    assert (config.own_layers, config.own) == ((str(small),), ())
    assert distance(still, bert_folder, small) == pytest.approx(distance(first, bert_folder, small), abs=1e-4)
    trained = train(denser_recipe(bert_folder, texts, tmp_path / "b", **options))
    assert distance(trained, bert_folder, small) < distance(first, bert_folder, small)
    assert distance(trained, bert_folder, full) == distance(first, bert_folder, full)
    assert load_checkpoint(trained).config.trained == (str(full), str(small))


def test_a_bank_teaches_the_order_of_other_texts(bert_folder: Path, texts: Path, tmp_path: Path) -> None:
    sampling = {"strategy": "fixed", "subnets": ["w0.50-d2"]}
    options = {"sampling": sampling, "bank": 32, "smaller": {"cosine_loss": 0, "hidden_loss": 0}, "steps": 30}
    train(denser_recipe(bert_folder, texts, tmp_path / "run", **options))
    log = [json.loads(line)["losses"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["w0.50-d2"] < 0.5 * log[0]["w0.50-d2"]
    again = train(denser_recipe(bert_folder, texts, tmp_path / "again", **options))
    assert (
        again.joinpath("model.safetensors").read_bytes()
        == (tmp_path / "run" / "checkpoint" / "model.safetensors").read_bytes()
    )
    streams = [{"texts": [{"path": str(texts), "role": "document"}], "pool": 24, "batch": 4, "teach_states": True}]
    with pytest.raises(ConfigError, match="bank needs a stream"):
        train(denser_recipe(bert_folder, texts, tmp_path / "none", **options, streams=streams))


def test_kept_subnets_stay_as_they_are_while_the_full_one_learns(
    bert_folder: Path, texts: Path, tmp_path: Path
) -> None:
    small, full = Subnet(0.5, 2), Subnet(1.0, 4)
    sampling = {"strategy": "fixed", "subnets": [str(small)]}
    options = {"own_vectors": True, "sampling": sampling, "learning_rate": 2e-2, "hidden_loss": 0}
    first = train(denser_recipe(bert_folder, texts, tmp_path / "first", **options))
    second = denser_recipe(
        bert_folder, texts, tmp_path / "second", start=str(first), keep=[str(small)], steps=40,
        sampling={"strategy": "fixed", "subnets": [str(full)]}, learning_rate=5e-3,
        streams=[{"texts": [{"path": str(texts), "role": "document"}], "pool": 24, "batch": 4, "teach_states": True}],
    )  # fmt: skip
    folder = train(second)
    assert distance(folder, bert_folder, full) < distance(first, bert_folder, full)
    before, after = load_checkpoint(first), load_checkpoint(folder)
    assert set(after.config.trained) == {str(small), str(full)}
    used = ElasticLM(after.config).used_by(small)
    assert used < set(after.state)
    assert all(torch.equal(before.state[name], after.state[name]) for name in used)
    assert not list((tmp_path / "second").glob("teacher-*"))
    again = second.model_copy(update={"output": str(tmp_path / "second"), "steps": 41})
    assert distance(train(again), bert_folder, full) < distance(first, bert_folder, full)


def test_states_are_taught_only_where_both_read_the_same(bert_folder: Path, texts: Path, tmp_path: Path) -> None:
    streams = [{"texts": [{"path": str(texts)}], "pool": 24, "batch": 4, "teach_states": True}]
    with pytest.raises(ConfigError, match="read alike"):
        train(denser_recipe(bert_folder, texts, tmp_path / "run", streams=streams, denser={"query_prompt": "the "}))


def test_runs_may_share_the_teachers_vectors(bert_folder: Path, texts: Path, tmp_path: Path) -> None:
    train(denser_recipe(bert_folder, texts, tmp_path / "run", teacher_cache=str(tmp_path / "cache"), steps=2))
    assert list((tmp_path / "cache").glob("teacher-*/000000.npy"))
    assert not list((tmp_path / "run").glob("teacher-*"))


def test_an_encoder_learns_the_teachers_relations(bert_folder: Path, texts: Path, tmp_path: Path) -> None:
    sampling = {"strategy": "fixed", "subnets": ["w0.50-d2"]}
    options = {"kind": "encoder", "relation_heads": 4, "sampling": sampling, "steps": 40, "learning_rate": 5e-3}
    folder = train(denser_recipe(bert_folder, texts, tmp_path / "run", **options))
    log = [json.loads(line)["losses"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert log[0]["w1.00-d4"] == pytest.approx(0, abs=1e-6)  # full size starts as the teacher
    assert log[-1]["w0.50-d2"] < 0.5 * log[0]["w0.50-d2"]
    assert (tmp_path / "run" / "losses.png").read_bytes().startswith(b"\x89PNG")
    config = load_checkpoint(folder).config
    assert config.denser is None
    assert set(config.trained) == {"w0.50-d2", "w1.00-d4"}
    with pytest.raises(ConfigError, match="relation_heads 3 does not divide"):
        train(denser_recipe(bert_folder, texts, tmp_path / "odd", **options | {"relation_heads": 3}))


def test_a_killed_encoder_run_ends_in_the_same_bytes(bert_folder: Path, texts: Path, tmp_path: Path) -> None:
    sampling = {"strategy": "sandwich", "depths": [2, 4], "random": 1}  # middle ones get no gradient at first
    options = {"kind": "encoder", "relation_heads": 4, "sampling": sampling, "learning_rate": 5e-3}
    whole = train(denser_recipe(bert_folder, texts, tmp_path / "whole", **options))
    recipe = denser_recipe(bert_folder, texts, tmp_path / "killed", **options)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, _stop_after(5))
    first, again = ((folder / "model.safetensors").read_bytes() for folder in (whole, train(recipe)))
    assert first == again


def _stop_after(steps: int) -> Callable[[int, dict[str, float]], None]:
    def report(step: int, _: dict[str, float]) -> None:
        if step == steps:
            raise KeyboardInterrupt

    return report


def test_own_vectors_of_the_start_are_kept(bert_folder: Path, texts: Path, tmp_path: Path) -> None:
    one, other = "w0.50-d2", "w0.25-d2"
    options = {"own_vectors": True, "learning_rate": 2e-2}
    first = train(denser_recipe(bert_folder, texts, tmp_path / "first", **options,
                                sampling={"strategy": "fixed", "subnets": [one]}))  # fmt: skip
    second = denser_recipe(
        bert_folder, texts, tmp_path / "second", **options, start=str(first), keep=[one], steps=2,
        sampling={"strategy": "fixed", "subnets": [other]},
    )  # fmt: skip
    folder = train(second)
    before, after = load_checkpoint(first), load_checkpoint(folder)
    assert after.config.own == (one, other)
    kept = [name for name in before.state if name.startswith("own.")]
    assert kept
    assert all(torch.equal(before.state[name], after.state[name]) for name in kept)


def test_recipes_that_cannot_work_are_refused(
    bert_folder: Path, cross_encoder_folder: Path, texts: Path, lists: Path, tmp_path: Path
) -> None:
    frozen = {"keep": ["w1.00-d4"], "sampling": {"strategy": "fixed", "subnets": ["w0.50-d2"]}}
    with pytest.raises(ConfigError, match="no parameter left to train"):
        train(denser_recipe(bert_folder, texts, tmp_path / "a", **frozen))
    with pytest.raises(ConfigError, match="is a reranker, the teacher an encoder"):
        train(denser_recipe(bert_folder, texts, tmp_path / "b", start=str(cross_encoder_folder)))
    with pytest.raises(ConfigError, match="not for an encoder"):
        train(denser_recipe(bert_folder, texts, tmp_path / "c", kind="encoder", own_vectors=True))
    with pytest.raises(ConfigError, match="not for an encoder"):
        train(denser_recipe(bert_folder, texts, tmp_path / "d", kind="encoder", own_layers=["w0.50-d2"]))
    later = [{"texts": [{"path": str(texts)}], "rows": {"w0.50-d3": 0}}]
    for changes, message in (
        ({"keep": ["w1.00-d99"]}, "w1.00-d99"),
        ({"own_layers": ["w0.50-d9"]}, "w0.50-d9"),
        ({"sampling": {"strategy": "fixed", "subnets": ["w1.00-d99"]}}, "w1.00-d99"),
        ({"streams": later}, "rows of w0.50-d3"),
        ({"denser": {"max_length": 200}}, "passes the model's 64 positions"),
    ):
        with pytest.raises(ElasticIRError, match=message):
            train(denser_recipe(bert_folder, texts, tmp_path / "e", **changes))
    assert not list((tmp_path / "e").glob("teacher-*"))
    ranker: dict[str, Any] = {"kind": "ranker", "streams": [], "lists": [{"path": str(lists)}]}
    with pytest.raises(ConfigError, match=r"must lie in 1\.\.4"):
        train(denser_recipe(cross_encoder_folder, texts, tmp_path / "f", exits=[2, 20], **ranker))
    with pytest.raises(SubnetError, match="cheapest first"):
        train(
            denser_recipe(
                cross_encoder_folder, texts, tmp_path / "f", exits=[2], cascade=["w1.00-d2", "w0.50-d2"], **ranker
            )
        )
    with pytest.raises(ValidationError, match="lesser one first"):
        TextStream.model_validate({"texts": [{"path": "x", "span_words": [26, 5]}]})
    assert TextStream.model_validate({"texts": [{"path": "x"}], "rows": {"w0.5-d6": 0}}).rows == {"w0.50-d6": 0}
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(ConfigError, match=r"empty\.yaml"):
        read_recipe(tmp_path / "empty.yaml")


def test_relations_ignore_padding_and_how_heads_are_split() -> None:
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(3, 2, 4, 5, 6, generator=generator)
    student = torch.randn(3, 2, 2, 5, 6, generator=generator)
    lengths = torch.tensor([5, 3])
    loss = relation_loss(student, teacher, lengths, heads=3)
    assert loss > 0
    assert relation_loss(teacher, teacher, lengths, heads=3) == 0
    student[:, 1, :, 3:] = 100.0
    assert torch.allclose(relation_loss(student, teacher, lengths, heads=3), loss)


def test_the_nearest_larger_subnet_teaches(bert_folder: Path, texts: Path, tmp_path: Path) -> None:
    config = load_checkpoint(bert_folder).config
    full, middle, narrow, small = (Subnet.parse(s) for s in ("w1.00-d4", "w1.00-d2", "w0.50-d4", "w0.50-d2"))
    assert nearest_larger(small, [full, middle, narrow], config) == middle
    assert nearest_larger(narrow, [full, middle], config) == full
    assert nearest_larger(Subnet(0.5, 3), [full, middle], config) == full
    assert nearest_larger(full, [], config) is None
    sampling = {"strategy": "fixed", "subnets": [str(middle), str(small)], "taught_by": "nearest"}
    options = {"sampling": sampling, "steps": 30, "learning_rate": 5e-3}
    folder = train(denser_recipe(bert_folder, texts, tmp_path / "run", **options))
    other = train(denser_recipe(bert_folder, texts, tmp_path / "full", **options | {"sampling": sampling | {
        "taught_by": "full"}}))  # fmt: skip
    assert distance(folder, bert_folder, small) != distance(other, bert_folder, small)


def test_strategies(bert_folder: Path) -> None:
    config = load_checkpoint(bert_folder).config
    sandwich = strategy(
        Sampling(strategy="sandwich", widths=(1.0, 0.5, 0.25), depths=(2, 4), random=2, full_every=2), config, 0
    )
    for step in range(20):
        chosen = sandwich(step)
        assert (config.full in chosen) == (step % 2 == 0)
        assert chosen[-1] == Subnet(0.25, 2)
        assert len(chosen) == 3 + (step % 2 == 0)
        assert chosen == sandwich(step)
    fixed = strategy(Sampling(strategy="fixed", subnets=("w0.50-d2",)), config, 0)
    assert fixed(1) == [config.full, Subnet(0.5, 2)]
    usual = strategy(Sampling(), config, 0)(0)
    assert usual == [config.full, Subnet(1.0, 2), Subnet(0.5, 2), Subnet(1.0, 1), Subnet(0.25, 1)]
    of_exits = strategy(Sampling(), config.model_copy(update={"exits": (2, 4)}), 0)(0)
    assert of_exits == [config.full, Subnet(1.0, 2), Subnet(0.5, 2), Subnet(0.25, 2)]


def test_the_learning_rate_rises_holds_and_falls() -> None:
    rates = [schedule(step, 100, 10, 20) for step in range(100)]
    assert rates[0] < rates[5] < rates[10] == 1
    assert rates[50] == 1
    assert 0 < rates[-1] < 0.06


def test_recipes_of_other_releases() -> None:
    """One knows no option that came later; a changed default is another training."""
    now = identity(Recipe(kind="classifier", teacher="x", output="y", steps=9))
    assert now["sampling"]["strategy"] == "fixed"
    before = {name: value for name, value in now.items() if name != "own_vectors"}
    assert same_recipe(before, now)
    assert not same_recipe(before, now | {"own_vectors": True})
    assert not same_recipe(now | {"sampling": {"strategy": "sandwich"}}, now)
    assert not same_recipe(now | {"gone_since": 1}, now)


def test_a_recipe_fits_the_machine(bert_folder: Path, texts: Path, tmp_path: Path) -> None:
    recipe = denser_recipe(bert_folder, texts, tmp_path, precision="auto", teacher_int8=True)
    here = _for_this_machine(recipe)
    assert (here.device, here.precision) == _expected_here()
    assert identity(here) == identity(recipe)  # so a run may go on elsewhere
    path = tmp_path / "recipe.yaml"
    path.write_text("kind: denser\nteacher: x\noutput: y\nsteps: 1\n")
    assert read_recipe(path, device="cpu").device == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="cuda is not available"):
            train(read_recipe(path, device="cuda"))
    with pytest.raises(ConfigError, match="device"):
        read_recipe(path, device="tpu")


def _expected_here() -> tuple[str, str]:
    if torch.cuda.is_available():
        return "cuda", "bf16"
    return "cpu", "bf16" if bf16_is_native() else "fp32"


def test_bad_recipes_and_data(tmp_path: Path, bert_folder: Path, texts: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("kind: denser\nteacher: x\noutput: y\nsteps: 0\n")
    with pytest.raises(ConfigError, match="steps"):
        read_recipe(path)
    with pytest.raises(ConfigError, match="cannot read recipe"):
        read_recipe(tmp_path / "absent.yaml")
    texts.write_text(texts.read_text() + "not json\n")
    with pytest.raises(DatasetError, match="line 6"):
        train(denser_recipe(bert_folder, texts, tmp_path / "out"))
    with pytest.raises(DatasetError, match="absent"):
        train(denser_recipe(bert_folder, tmp_path / "absent.jsonl", tmp_path / "out"))
