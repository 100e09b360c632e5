"""GLUE: files, measures, what is trained and measured once, the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from elastic_ir.cli import app
from elastic_ir.durable import writer_lock
from elastic_ir.elastic import load_checkpoint, save_checkpoint
from elastic_ir.errors import ConfigError, DatasetError, IndexLockedError, ModelError, SubnetError
from elastic_ir.glue import TASKS, Experiment, Settings, maker, write_report
from elastic_ir.glue.experiment import Score
from elastic_ir.glue.report import rows
from elastic_ir.glue.tasks import files_of
from elastic_ir.train import Recipe, train

SENTENCES = [("the cat sat", 1), ("a dog ran", 0), ("the bird flew in the sky", 1), ("a fish swam", 0)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """CoLA of four sentences, STS-B of three pairs, MNLI with two splits to be measured on."""
    folder = tmp_path / "glue"
    sentences = [{"sentence1": text, "label": label} for text, label in SENTENCES]
    pairs = [{"sentence1": text, "sentence2": "a cat", "label": 5.0 - 2 * i} for i, (text, _) in enumerate(SENTENCES)]
    three = [{"sentence1": text, "sentence2": "a cat", "label": i % 3} for i, (text, _) in enumerate(SENTENCES)]
    for path, examples in {
        "cola/train": sentences, "cola/dev": sentences, "stsb/train": pairs, "stsb/test": pairs,
        "mnli/train": three, "mnli/dev_matched": three, "mnli/dev_mismatched": three[:2],
    }.items():  # fmt: skip
        file = folder / f"{path}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in examples))
    return folder


def test_each_model_is_trained_and_measured_once(
    bert_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(
        model=str(bert_folder), tasks=("cola", "stsb", "rte"), data=data, seeds=2, baselines=True,
        subnets=("w1.00-d2", "w0.50-d2"),
    )  # fmt: skip
    shown: list[tuple[str, int, int]] = []
    experiment = Experiment(settings, tmp_path / "out")
    scores = experiment.run(lambda *step: shown.append(step))
    assert list(experiment.skipped) == ["rte"]
    assert "rte has no train.jsonl" in experiment.skipped["rte"]
    wanted = {("teacher", "w1.00-d4"), ("elastic", "w1.00-d4"), ("first layers", "w1.00-d2")}
    wanted |= {(model, s) for model in ("elastic", "untrained", "alone") for s in ("w1.00-d2", "w0.50-d2")}
    for task in ("cola", "stsb"):
        for seed in (0, 1):
            assert {(s.model, s.subnet) for s in scores if (s.task, s.seed) == (task, seed)} == wanted
    assert ("cola seed 0 teacher", 1, 1) in shown
    flops = {score.subnet: score.flops for score in scores if score.task == "cola" and score.model == "elastic"}
    assert flops["w1.00-d4"] > flops["w1.00-d2"] > flops["w0.50-d2"]
    assert not list((tmp_path / "out").rglob("state.safetensors"))

    def never(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(maker, "train", never)
    with (tmp_path / "out" / "scores.jsonl").open("a") as file:
        file.write('{"task": "co')  # killed while writing
    again = Experiment(settings, tmp_path / "out")
    with pytest.raises(ConfigError, match="other settings"):
        Experiment(settings.model_copy(update={"limit": 3}), tmp_path / "out")
    assert again.run() == scores
    report = write_report(again, tmp_path / "out").read_text()
    assert report.count("| elastic |") == 3
    assert " ± " in report
    assert "| rte | skipped: " in report
    assert (tmp_path / "out" / "glue.png").read_bytes().startswith(b"\x89PNG")


def test_both_splits_of_mnli_count(bert_folder: Path, data: Path, tmp_path: Path) -> None:
    assert [path.stem for path in files_of("mnli", data, tmp_path).measured] == ["dev_matched", "dev_mismatched"]
    options = ["--data", str(data), "--model", str(bert_folder), "--subnets", "w0.50-d2", "--strategy", "sandwich"]
    out = ["--output", str(tmp_path / "out"), "--report"]
    result = CliRunner().invoke(app, ["glue", "--task", "mnli", *options, *out])
    assert result.exit_code == 0, result.output
    assert result.output.count("mnli  seed 0") == 3
    assert "report:" in result.output


def test_unknown_tasks_and_missing_data(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["glue", "--task", "nope"])
    assert result.exit_code != 0
    assert "task 'nope' is unknown" in str(result.exception) + result.output
    with pytest.raises(DatasetError, match="no task has data"):
        Experiment(Settings(tasks=("rte",), data=data), tmp_path / "out").run()
    with pytest.raises(DatasetError, match="the hub did not give"):
        files_of("rte", None, tmp_path)


def test_the_official_measures() -> None:
    wanted = np.array([1, 1, 0, 0, 1])
    outputs = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert TASKS["mrpc"].score(outputs, wanted) == pytest.approx({"accuracy": 0.6, "f1": 2 / 3})
    assert TASKS["cola"].score(outputs, wanted) == pytest.approx({"matthews": 1 / 6})
    found = TASKS["stsb"].score(np.array([1.0, 2.0, 4.0]), np.array([0.0, 1.0, 5.0]))
    assert found["spearman"] == pytest.approx(1.0)
    assert 0.9 < found["pearson"] < 1
    assert TASKS["stsb"].score(np.ones(3), np.arange(3.0)) == {"pearson": 0.0, "spearman": 0.0}


def test_all_is_checked_before_anything_is_trained(
    bert_folder: Path, cross_encoder_folder: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def refused(error: type[Exception], reason: str, **changes: object) -> None:
        given = {"model": str(bert_folder), "tasks": ("cola",), "data": data, "subnets": ("w0.50-d2",)} | changes
        with pytest.raises(error, match=reason):
            Experiment(Settings.model_validate(given), out).run()
        assert not out.exists() or not list(out.rglob("checkpoint"))

    refused(ModelError, "no model folder", model=str(tmp_path / "typo"))
    refused(ConfigError, "has a head already", model=str(cross_encoder_folder))
    refused(SubnetError, "asks for 6 layers", subnets=("w1.00-d6",))
    refused(ConfigError, "wanted a smaller one", subnets=("w1.00-d4",))
    assert not out.exists()
    (data / "cola" / "dev.jsonl").rename(data / "cola" / "test.jsonl")
    lines = [json.dumps({"sentence1": text, "label": 1}) + "\n" for text, _ in SENTENCES]
    (data / "cola" / "test.jsonl").write_text("".join(lines))
    refused(DatasetError, "has one label only")
    (data / "cola" / "validation.jsonl").write_text((data / "cola" / "train.jsonl").read_text())
    assert [path.name for path in files_of("cola", data, tmp_path).measured] == ["validation.jsonl"]


def test_other_data_need_another_folder_and_names_count_once(bert_folder: Path, data: Path, tmp_path: Path) -> None:
    settings = Settings(
        model=str(bert_folder), tasks=("cola",), data=data, subnets=("w1.00-d4", "w0.50-d2", "w0.50-d2")
    )
    scores = Experiment(settings, tmp_path / "out").run()
    assert [(s.model, s.subnet) for s in scores] == [
        ("teacher", "w1.00-d4"),
        ("elastic", "w1.00-d4"),
        ("elastic", "w0.50-d2"),
    ]
    with (data / "cola" / "train.jsonl").open("a") as file:
        file.write(json.dumps({"sentence1": "a big dog", "label": 1}) + "\n")
    with pytest.raises(ConfigError, match="other data"):
        Experiment(settings, tmp_path / "out").run()


def test_a_mean_over_tasks_deviates_between_the_seeds_that_have_all() -> None:
    def score(task: str, seed: int, accuracy: float) -> Score:
        return Score(task, seed, "elastic", "w1.00-d4", {"accuracy": accuracy}, 1e6)

    (row,) = rows([score("rte", 0, 0.5), score("rte", 1, 0.7), score("rte", 2, 0.6), score("cola", 0, 0.2)], {})
    assert str(row.mean(["rte"])) == "60.0 ± 10.0"
    assert str(row.mean(["rte", "cola"])) == "40.0"
    assert row.mean(["rte", "stsb"]) is None
    (row,) = rows([score("rte", 0, 0.5), score("rte", 1, 0.7), score("cola", 0, 0.3), score("cola", 1, 0.3)], {})
    assert str(row.mean(["rte", "cola"])) == "45.0 ± 7.1"


def test_the_report_keeps_to_the_seeds_that_a_row_has() -> None:
    def score(model: str, seed: int, accuracy: float, flops: float = 1e6) -> Score:
        return Score("rte", seed, model, "w1.00-d4", {"accuracy": accuracy}, flops)

    elastic, alone = rows([*(score("elastic", seed, 0.5 + seed / 5) for seed in range(3)), score("alone", 0, 0.5)], {})
    assert (elastic.seeds, alone.seeds) == (3, 1)
    assert elastic.share(elastic, ["rte"]) == 1
    assert alone.share(elastic, ["rte"]) == 1
    assert alone.share(elastic, ["cola"]) is None


def test_runs_that_were_trained_otherwise_need_another_folder(
    bert_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(model=str(bert_folder), tasks=("cola",), data=data, subnets=("w0.50-d2",))
    Experiment(settings, tmp_path / "out").run()
    again = Experiment(settings, tmp_path / "out")
    with (tmp_path / "out" / "scores.jsonl").open("a") as file:
        file.write('{"task": "co')
    again.scores.clear()
    with writer_lock(tmp_path / "out" / "cola" / "seed-0"), pytest.raises(IndexLockedError, match="is being written"):
        again.run()
    again.run()
    assert len(Experiment(settings, tmp_path / "out").scores) == 2 * len(again.scores)
    monkeypatch.setitem(TASKS, "cola", TASKS["cola"]._replace(epochs=30))
    with pytest.raises(ConfigError, match="trained otherwise"):
        Experiment(settings, tmp_path / "out").run()


def test_an_elastic_encoder_gives_what_its_subnets_have(
    bert_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = load_checkpoint(bert_folder)
    config = source.config.model_copy(update={"trained": ("w1.00-d4", "w0.50-d2")})
    save_checkpoint(tmp_path / "encoder", config, source.state, source.tokens)
    trained: list[Recipe] = []

    def noted(recipe: Recipe, *arguments: Any) -> Path:
        trained.append(recipe)
        return train(recipe, *arguments)

    monkeypatch.setattr(maker, "train", noted)
    settings = Settings(
        model=str(tmp_path / "encoder"), tasks=("cola",), data=data, subnets=("w0.50-d2",), baselines=True
    )
    Experiment(settings, tmp_path / "out").run()
    starts = {recipe.name: recipe.start for recipe in trained}
    encoder = str(tmp_path / "encoder")
    assert starts == {
        "cola-teacher": None,
        "cola-elastic": encoder,
        "cola-alone-w0.50-d2": encoder,
        "cola-first-2": None,
    }
    assert len({recipe.steps for recipe in trained[1:]}) == 1
