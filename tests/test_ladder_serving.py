"""A pipeline with a measured ladder: levels by the load, in searches and in batch runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from elastic_ir.cli import app
from elastic_ir.errors import BackendError, ConfigError, InputError
from elastic_ir.machine import machine, threads
from elastic_ir.pipeline import Pipeline
from elastic_ir.records import Query
from elastic_ir.runs import write
from elastic_ir.schedule import Ladder
from elastic_ir.schedule.ladderfile import LadderFile, LadderLevel, read_ladder, write_ladder
from elastic_ir.serve import server
from elastic_ir.serve.engine import Engine

LEVELS = {
    "dense:w1.00-d4+rerank:w1.00:4@1.00": (40.0, 0.7),
    "dense:w1.00-d4+rerank:w1.00:2@1.00": (20.0, 0.6),
    "dense:w0.50-d2": (1.0, 0.4),
}
QUERIES = [Query(f"q{i}", text) for i, text in enumerate(["cat on mat", "red tree", "a dog ran"] * 20)]


@pytest.fixture
def ladder(pipeline: Pipeline, tmp_path: Path) -> Path:
    """Invented times for this machine and these models, SLO 200 ms."""
    levels = [
        LadderLevel(level=name, quality=quality, p50_ms=(ms, 1.5 * ms), p95_ms=(1.2 * ms, 1.8 * ms))
        for name, (ms, quality) in LEVELS.items()
    ]
    file = LadderFile(
        slo_ms=200, threads=threads(), dataset="six", machine=machine(), models=pipeline.models, levels=tuple(levels)
    )
    write_ladder(file, tmp_path / "ladder.json")
    return tmp_path / "ladder.json"


@pytest.fixture
def scheduled(settings: dict[str, Any], six_documents: Path, ladder: Path) -> Iterator[Pipeline]:
    with Pipeline.from_config(settings, dataset=str(six_documents), ladder=ladder) as opened:
        yield opened


def test_a_search_takes_its_level_from_the_ladder(scheduled: Pipeline) -> None:
    hits = scheduled.search("cat on mat")
    assert str(hits.level) == next(iter(LEVELS))
    assert hits.degraded is None
    hurried = scheduled.search("cat on mat", deadline_ms=15)  # only the cheapest fits
    assert str(hurried.level) == "dense:w0.50-d2"
    assert hurried.degraded is not None
    assert hurried.degraded.reasons == ("load",)
    assert hurried.degraded.requested_level == hits.level
    assert str(scheduled.search("cat on mat", level="dense:w0.50-d2").level) == "dense:w0.50-d2"
    assert scheduled.to_config()["ladder"].endswith("ladder.json")


def test_a_run_under_load_has_a_level_for_every_query(pipeline: Pipeline, ladder: Path, tmp_path: Path) -> None:
    answers = list(pipeline.run(QUERIES, 5, ladder=ladder, load="poisson:100", batch=7))
    assert [hits.query.query_id for hits in answers] == [query.query_id for query in QUERIES]
    levels = [str(hits.level) for hits in answers]
    assert len(set(levels)) > 1
    for hits in answers:
        alone = pipeline.search(hits.query.text, 5, level=hits.level)
        assert [hit.doc_id for hit in alone] == [hit.doc_id for hit in hits]
        assert (hits.degraded is None) == (str(hits.level) == next(iter(LEVELS)))
    metadata = write(pipeline, QUERIES, tmp_path / "a.trec", tag="t", k=5, ladder=ladder, load="poisson:100", batch=7)
    assert list(metadata["levels"].values()) == levels
    assert metadata["load"] == "poisson:100"
    assert metadata["degraded"]["load"] == sum(level != next(iter(LEVELS)) for level in levels)
    before = (tmp_path / "a.trec").read_bytes()
    write(pipeline, QUERIES, tmp_path / "b.trec", tag="t", k=5, ladder=ladder, load="poisson:100", batch=7)
    assert (tmp_path / "b.trec").read_bytes() == before


def test_ladders_and_loads_that_cannot_be(
    pipeline: Pipeline, settings: dict[str, Any], six_documents: Path, ladder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="a load needs a ladder"):
        list(pipeline.run(QUERIES, load="poisson:1"))
    with pytest.raises(InputError, match="arrivals"):
        list(pipeline.run(QUERIES, ladder=ladder, load="often"))
    for change, match in (
        ({"threads": 77}, "for threads 77"),
        ({"machine": {"processor": "other"}}, "for machine"),
        ({"models": {"denser": "0" * 64}}, "made with denser 0000"),
    ):
        found = json.loads(ladder.read_text()) | change
        other = tmp_path / "other.json"
        other.write_text(json.dumps(found))
        with pytest.raises(ConfigError, match=match):
            Pipeline.from_config(settings, dataset=str(six_documents), ladder=other)
    config = tmp_path / "pipeline.yaml"
    config.write_text(json.dumps(settings))
    call = ["run", str(config), "--dataset", str(six_documents), "--output", str(tmp_path / "x.trec")]
    assert CliRunner().invoke(app, [*call, "--load", "poisson:1"]).exit_code != 0
    result = CliRunner().invoke(app, [*call, "--load", "poisson:1", "--ladder", str(ladder)])
    assert result.exit_code == 0, result.output


def test_a_ladder_of_another_collection_gets_the_times_of_this_one(
    settings: dict[str, Any], six_documents: Path, ladder: Path, tmp_path: Path
) -> None:
    config, retimed = tmp_path / "pipeline.yaml", tmp_path / "here.json"
    config.write_text(json.dumps(settings | {"ladder": str(retimed)}))  # which is to be made
    options = ["--dataset", str(six_documents), "--output", str(tmp_path / "profile.json"), "--seconds", "1"]
    asked = ["profile", str(config), *options, "--threads", str(threads()), "--retimed", str(retimed)]
    assert "--retimed needs --ladder" in str(CliRunner().invoke(app, asked).exception)
    result = CliRunner().invoke(app, [*asked, "--ladder", str(ladder)])
    assert result.exit_code == 0, result.output
    before, after = read_ladder(ladder), read_ladder(retimed)
    assert [(level.level, level.quality) for level in after.levels] == [
        (name, quality) for name, (_, quality) in LEVELS.items()
    ]
    assert after.slo_ms == before.slo_ms
    assert after.levels[0].p50_ms != before.levels[0].p50_ms
    assert all(len(level.p95_ms) == 2 for level in after.levels)


def test_a_service_takes_the_ladder_of_its_pipeline(
    settings: dict[str, Any], six_documents: Path, ladder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = list[tuple[Any, Ladder]]()
    monkeypatch.setattr(server, "serve", lambda service, pipeline, rungs, **_: served.append((service.mode, rungs)))
    config = tmp_path / "pipeline.yaml"
    config.write_text(json.dumps(settings | {"ladder": str(ladder)}))
    call = ["serve", str(config), "--dataset", str(six_documents), "--port", "0"]
    for options in ([], ["--slo-ms", "300"], ["--mode", "fixed:dense:w1.00-d2"]):
        result = CliRunner().invoke(app, [*call, *options])
        assert result.exit_code == 0, result.exception
    found = [(rungs.slo_s, [str(rung.level) for rung in rungs.rungs]) for _, rungs in served]
    assert found == [(0.2, [*LEVELS]), (0.3, [*LEVELS]), (0.2, ["dense:w1.00-d2"])]


def test_no_service_begins_that_would_refuse_all(scheduled: Pipeline) -> None:
    assert scheduled.scheduler.ladder is not None
    short = scheduled.scheduler.ladder._replace(slo_s=0.002)
    with pytest.raises(ConfigError, match="no level answers within 2 ms on this machine; wanted an SLO of at least"):
        server.serve(server.Service(lambda: scheduled, port=0), scheduled, short)


def test_a_reopened_pipeline_must_have_what_the_one_before_had(
    scheduled: Pipeline, settings: dict[str, Any], six_documents: Path
) -> None:
    assert scheduled.scheduler.ladder is not None
    engine = Engine(scheduled, scheduled.scheduler.ladder)
    with Pipeline.from_config(settings, dataset=str(six_documents)) as again:
        assert server.able(again, engine) is again
    poorer = Pipeline.from_config(settings | {"reranker": None}, dataset=str(six_documents))
    with pytest.raises(BackendError, match="its ranker cannot be had"):
        server.able(poorer, engine)
    with pytest.raises(BackendError, match="closed"):
        poorer.search("cat")


def test_times_never_rise_from_level_to_level(ladder: Path) -> None:
    first, second, third = LEVELS
    times = {
        first: ([9.0, 12.0, 15.0], [9.5, 13.0, 16.0]),
        second: ([8.0, 14.0], [11.0, 14.0]),
        third: ([1, 2], [2, 3]),
    }
    found = read_ladder(ladder).timed(times, {"processor": "another"}, 7)
    assert (found.machine, found.threads) == ({"processor": "another"}, 7)
    assert [level.p50_ms for level in found.levels] == [(9.0, 12.0), (8.0, 12.0), (1.0, 2.0)]
    assert [level.p95_ms for level in found.levels] == [(9.5, 13.0), (9.5, 13.0), (2.0, 3.0)]
    found.ladder()
