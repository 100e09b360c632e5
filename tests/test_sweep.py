"""The sweep on six documents: every level of the grid is what the pipeline itself would answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from elastic_ir import grid as grid_module
from elastic_ir.cli import app
from elastic_ir.datasets import load
from elastic_ir.errors import BackendError, ConfigError, DatasetError
from elastic_ir.grid import SweepJournal, runs_of_grid
from elastic_ir.level import Level
from elastic_ir.pipeline import Pipeline
from elastic_ir.profile import measure
from elastic_ir.records import Query
from elastic_ir.rerank import ElasticRanker
from elastic_ir.schedule.ladderfile import LadderLevel, read_ladder
from elastic_ir.sweep import MOST_LEVELS, Served, _levels, _spread, sweep


def test_every_level_of_the_grid_answers_as_the_pipeline_does(pipeline: Pipeline, six_documents: Path) -> None:
    queries = list(load(str(six_documents)).queries())
    runs = dict(runs_of_grid(pipeline, queries, False))
    assert str(next(iter(runs))) == "dense:w1.00-d4+rerank:w1.00:6@1.00"
    assert {level.retriever for level in runs} == {"dense", "hybrid", "bm25"}
    for level, run in runs.items():
        for hits in pipeline.run(queries, 6, level):
            found = sorted(run[hits.query.query_id], key=lambda doc_id, r=run[hits.query.query_id]: -r[doc_id])
            assert found == [hit.doc_id for hit in hits], level


def test_the_configured_retriever_leads_and_a_missing_model_is_an_error(
    settings: dict[str, Any], six_documents: Path
) -> None:
    plain = settings | {"retriever": "hybrid", "reranker": None}
    queries = list(load(str(six_documents)).queries())
    with Pipeline.from_config(plain, dataset=str(six_documents)) as opened:
        runs = dict(runs_of_grid(opened, queries, False))
        assert str(next(iter(runs))) == "hybrid:w1.00-d4"
        index = opened.index_path
    broken = {"retriever": "dense", "denser": {"model": str(six_documents / "none")}, "index": str(index)}
    with Pipeline.from_config(broken) as opened, pytest.raises(BackendError, match="nothing was measured"):
        measure(opened, [Level.parse("dense:w1.00-d4")], queries, seconds=0.1)


def test_a_sweep_gives_a_ladder_for_its_slo(pipeline: Pipeline, six_documents: Path) -> None:
    found = sweep(pipeline, load(str(six_documents)), slo_ms=60_000, seconds=0.1, progress=False)
    ladder = found.file.ladder()
    assert 1 <= len(ladder.rungs) <= MOST_LEVELS
    assert found.file.notes["reference"]["level"] == str(found.reference)
    assert {str(rung.level) for rung in ladder.rungs} <= {point.run for point in found.points}
    assert found.evaluation.baseline == str(found.reference)
    with pytest.raises(ConfigError, match="raise the SLO"):
        sweep(pipeline, load(str(six_documents)), slo_ms=0.001, seconds=0.1, progress=False)
    with pytest.raises(ConfigError, match="slo inf s"):
        sweep(pipeline, load(str(six_documents)), slo_ms=float("inf"))


def test_levels_may_be_timed_over_another_collection(
    pipeline: Pipeline, settings: dict[str, Any], six_documents: Path, tmp_path: Path
) -> None:
    dataset, folder = load(str(six_documents)), tmp_path / "served"
    folder.mkdir()
    (folder / "corpus.jsonl").write_text("".join(f'{{"_id": "d{i}", "text": "a cat {i}"}}\n' for i in range(30)))
    with Pipeline.from_config(settings, dataset=str(folder)) as opened:
        with pytest.raises(DatasetError, match="has no quer"):
            sweep(pipeline, dataset, served=Served(opened, load(str(folder))), slo_ms=60_000, seconds=0.1)
        (folder / "queries.jsonl").write_text('{"_id": "1", "text": "which cat"}\n')
        asked: list[str] = []
        run = opened.run
        opened.run = lambda queries, *rest, **more: asked.extend(q.text for q in queries) or run(queries, *rest, **more)  # type: ignore[method-assign, func-returns-value]
        found = sweep(
            pipeline, dataset, served=Served(opened, load(str(folder))), slo_ms=60_000, seconds=0.1, progress=False
        )
    assert set(asked) == {"which cat"}
    assert found.file.dataset == dataset.name
    assert found.file.notes["timed_on"] == str(folder)
    assert found.evaluation.queries == len(dataset.qrels())


def test_a_killed_sweep_goes_on(pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = [Query(str(i), text) for i, text in enumerate(("cat on mat", "a red tree", "what swam"))]
    path, scored = tmp_path / "ladder.json.scored", list[str]()
    whole = dict(runs_of_grid(pipeline, queries, False))
    score = grid_module._scores

    def counted(pipeline: Pipeline, ranker: ElasticRanker, query: Query, asked: Any) -> Any:
        scored.append(query.query_id)
        if len(scored) == 2:
            raise KeyboardInterrupt
        return score(pipeline, ranker, query, asked)

    monkeypatch.setattr(grid_module, "_scores", counted)
    with pytest.raises(KeyboardInterrupt):
        dict(runs_of_grid(pipeline, queries, False, journal=SweepJournal(path, {"models": 1})))
    with path.open("a") as file:
        file.write('{"text": "a red')
    assert dict(runs_of_grid(pipeline, queries, False, journal=SweepJournal(path, {"models": 1}))) == whole
    assert scored == ["0", "1", "1", "2"]
    assert dict(runs_of_grid(pipeline, queries, False, journal=SweepJournal(path, {"models": 1}))) == whole
    assert len(scored) == 4
    assert not SweepJournal(path, {"models": 2}).best(queries[0])


def test_levels_that_are_slow_or_dominated_are_left_out() -> None:
    dear, worse, cheap, slow = (Level.parse(f"dense:w1.00-d{depth}") for depth in (4, 3, 2, 12))
    times = {dear: ([8.0], [9.0]), worse: ([5.0], [6.0]), cheap: ([2.0], [3.0]), slow: ([80.0], [90.0])}
    quality = {dear: 0.7, worse: 0.5, cheap: 0.6, slow: 0.9}

    class Intervals:
        intervals = {str(level): {"ndcg@10": (0.4, 0.9)} for level in quality}  # noqa: RUF012

    found: list[LadderLevel] = list(_levels(times, quality, Intervals(), 100.0))  # type: ignore[arg-type]
    assert [level.level for level in found] == [str(dear), str(cheap)]
    quality[Level("bm25")] = 0.65
    assert [level.level for level in _levels(times, quality, Intervals(), 100.0)] == [str(dear)]  # type: ignore[arg-type]
    assert _spread([dear, worse, cheap], [0.7, 0.69, 0.1], 2) == [dear, cheap]


def test_without_splits_all_judgements_there_are_choose(settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text("# Page\n\na cat")
    config = tmp_path / "p.yaml"
    config.write_text(json.dumps(settings))
    asked = ["sweep", str(config), "--dataset", str(tmp_path / "docs"), "--output", str(tmp_path / "ladder.json")]
    result = CliRunner().invoke(app, asked)
    assert "has no splits: levels are chosen by all its judgements" in result.stderr
    assert "no relevance judgments" in str(result.exception)
    assert "has no splits" in str(CliRunner().invoke(app, [*asked, "--split", "train"]).exception)


def test_the_command_writes_ladder_picture_and_page(
    settings: dict[str, Any], six_documents: Path, tmp_path: Path
) -> None:
    config, ladder, plot, page = (tmp_path / name for name in ("p.yaml", "ladder.json", "sweep.png", "sweep.html"))
    config.write_text(json.dumps(settings))
    asked = ["sweep", str(config), "--dataset", str(six_documents), "--split", "test", "--slo-ms", "60000"]
    options = ["--output", str(ladder), "--plot", str(plot), "--report", str(page), "--seconds", "1", "--threads", "1"]
    result = CliRunner().invoke(app, [*asked, *options])
    assert result.exit_code == 0, f"{result.output} {result.exception}"
    assert "given up: dense:w1.00-d4+rerank:w1.00:6@1.00" in result.output
    for chosen in ([], ["--split", "train"]):
        absent = CliRunner().invoke(app, [*asked[:4], *chosen, "--output", str(ladder)])
        assert isinstance(absent.exception, DatasetError)
        assert "no split 'train'; known: test" in str(absent.exception)
    assert read_ladder(ladder).slo_ms == 60000
    assert plot.stat().st_size > 0
    assert "Sweep" in page.read_text()
    simulated = CliRunner().invoke(
        app, ["simulate", "--ladder", str(ladder), "--arrivals", "poisson:1", "--requests", "50"]
    )
    assert simulated.exit_code == 0, simulated.output
