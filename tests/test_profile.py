"""Measured latencies: what is timed, and where a table is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from elastic_ir.cli import app
from elastic_ir.datasets import load
from elastic_ir.errors import ConfigError, InputError
from elastic_ir.level import Level
from elastic_ir.pipeline import Pipeline
from elastic_ir.profile import (
    LEAST_RUNS,
    best_threads,
    default_levels,
    measure,
    micro_batch,
    monotone,
    read_profile,
    write_profile,
)

LEVELS = [Level.parse("dense:w1.00-d4+rerank:w1.00:4@1.00"), Level.parse("dense:w0.50-d2")]


def test_every_level_and_batch_is_measured(pipeline: Pipeline, six_documents: Path, tmp_path: Path) -> None:
    queries = list(load(str(six_documents)).queries())
    profile = measure(pipeline, LEVELS, queries, batches=(1, 3), seconds=0.1)
    assert {(cell.level, cell.batch) for cell in profile.cells} == {(str(x), b) for x in LEVELS for b in (1, 3)}
    assert all(cell.runs >= LEAST_RUNS and 0 < cell.p50_ms <= cell.p95_ms for cell in profile.cells)
    p50, p95 = profile.times(LEVELS[0])
    assert len(p50) == 3
    assert p50 == sorted(p50)
    assert all(a <= b for a, b in zip(p50, p95, strict=True))
    with pytest.raises(ConfigError, match="bm25 was not measured"):
        profile.times("bm25")
    write_profile(profile, tmp_path / "profile.json")
    again = read_profile(tmp_path / "profile.json")
    assert again == profile
    again.check(pipeline)
    assert again.pipeline["index"] == {"factory": "Flat", "subnet": "w1.00-d4"}
    for change in ({"machine": {}}, {"threads": 99}, {"pipeline": {}}, {"corpus_sha256": "0"}, {"models": {}}):
        with pytest.raises(ConfigError, match=f"another {next(iter(change))}.*--refresh"):
            profile.model_copy(update=change).check(pipeline)


def test_threads_are_chosen_by_measurement(pipeline: Pipeline, six_documents: Path) -> None:
    queries = list(load(str(six_documents)).queries())
    assert best_threads(pipeline, queries, most=2) in (1, 2)


def test_nothing_to_measure_is_refused(pipeline: Pipeline) -> None:
    with pytest.raises(InputError, match="0 levels and 0 queries"):
        measure(pipeline, [], [])


def test_a_profile_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="make one with elastic-ir profile"):
        read_profile(tmp_path / "none.json")
    (tmp_path / "odd.json").write_text("{")
    with pytest.raises(ConfigError, match="not JSON"):
        read_profile(tmp_path / "odd.json")


def test_costs_are_made_to_fall_from_level_to_level() -> None:
    fitted = monotone(np.array([[5.0, 9.0], [6.0, 4.0], [1.0, 5.0]]))
    assert fitted.tolist() == [[5.5, 9.0], [5.5, 4.5], [1.0, 4.5]]


def test_default_levels_are_the_idle_one_and_cheaper_ones() -> None:
    assert [str(level) for level in default_levels(LEVELS[0])] == [
        "dense:w1.00-d4+rerank:w1.00:4@1.00", "dense:w1.00-d4+rerank:w1.00:4@0.50",
        "dense:w1.00-d4+rerank:w1.00:4@0.25", "dense:w1.00-d4+rerank:w1.00:4@0.10", "dense:w1.00-d4",
    ]  # fmt: skip
    assert default_levels(LEVELS[1]) == [LEVELS[1]]


def test_the_command_measures_once_and_then_checks(
    settings: dict[str, Any], six_documents: Path, tmp_path: Path
) -> None:
    config, output = tmp_path / "pipeline.yaml", tmp_path / "profile.json"
    config.write_text(json.dumps(settings))
    asked = ["profile", str(config), "--dataset", str(six_documents), "--output", str(output), "--seconds", "1"]
    first = CliRunner().invoke(app, [*asked, "--threads", "1", "--levels", "dense:w1.00-d4,dense:w0.50-d2"])
    assert first.exit_code == 0, first.output
    assert "C: " in first.output
    written = output.read_bytes()
    again = CliRunner().invoke(app, asked)
    assert again.exit_code == 0, again.output
    assert output.read_bytes() == written
    output.write_bytes(written.replace(b'"threads": 1', b'"threads": 2'))
    assert "another threads" in str(CliRunner().invoke(app, [*asked, "--threads", "1"]).exception)


def test_the_micro_batch_is_the_smallest_that_serves_nearly_the_most() -> None:
    assert micro_batch([[10.0, 20.0, 30.0, 40.0]]) == 1
    assert micro_batch([[10.0, 12.0, 18.0, 24.0]]) == 2
    assert micro_batch([[10.0, 15.0, 20.0, 22.0], [5.0, 9.9, 14.8, 19.5]]) == 4
