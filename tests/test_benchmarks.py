"""The parts of the benchmarks that decide or write something: reproduction pages and the sweep page."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from elastic_ir.evaluate import write_metadata, write_run
from elastic_ir.level import Level
from elastic_ir.records import Hit, Query, Ranking

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def repro(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("repro")


def test_pages_name_what_exists_and_cover_every_collection(repro: ModuleType) -> None:
    from measured import COLLECTIONS

    rows = list(repro.rows())
    for row in rows:
        assert (repro.PIPELINES / f"{row.pipeline}.yaml").is_file(), row.name
        assert row.level is None or str(Level.parse(row.level)) == row.level
        assert row.tolerance > 0
        assert bool(row.expected) or not row.published
    names = {row.name for row in rows}
    assert len(names) == len(rows)
    for collection in COLLECTIONS:
        for kind in ("bm25", "dense", "dense-w0.50-d6", "hybrid", "elastic"):
            assert f"{collection}/{kind}" in names
    assert {"msmarco-passage/bm25", "trec-dl-2019/bm25", "trec-dl-2020/bm25"} <= names


def test_verdicts_and_the_command_of_a_row(repro: ModuleType) -> None:
    row = repro.Row("page/bm25", "d", "bm25", None, {"map": 0.3}, 0.01, "", "")
    assert repro.verdict(row, {"map": 0.3099}) == "ok"
    assert repro.verdict(row, {"map": 0.3101}) == "differs"
    assert repro.verdict(row, None) == "not run"
    assert repro.verdict(row._replace(expected={}), {"map": 0.3}) == "no expectation"
    assert repro.verdict(row._replace(needs="network"), None) == "not run: needs a network"
    assert (
        "| page/bm25 | map 0.3101 | map 0.3000 ± 0.01 | differs | `python benchmarks/repro.py --only page/bm25` |"
        in (repro.matrix([(row, {"map": 0.3101})]))
    )


def test_accepting_keeps_published_figures_and_comments(repro: ModuleType, tmp_path: Path) -> None:
    page = {
        "dataset": "d",
        "rows": {
            "bm25": {"pipeline": "bm25", "published": "somewhere", "tolerance": 0.01, "expected": {"map": 0.3}},
            "dense": {"pipeline": "dense", "level": "dense:w0.50-d6", "tolerance": 0.01, "expected": {}},
            "elastic": {"pipeline": "elastic", "tolerance": 0.01, "expected": {"map": 0.4}},
        },
    }
    (tmp_path / "p.yaml").write_text("# why\n" + yaml.safe_dump(page))
    found = dict.fromkeys(repro.MEASURES, 0.12345)
    bm25, dense, elastic = repro.rows(tmp_path)
    repro.accept([(bm25, found), (dense, found), (elastic, None)], tmp_path)
    assert (tmp_path / "p.yaml").read_text().startswith("# why\n")
    after = list(repro.rows(tmp_path))
    assert [row.expected for row in after] == [{"map": 0.3}, dict.fromkeys(repro.MEASURES, 0.1235), {"map": 0.4}]
    assert [row._replace(expected={}) for row in after] == [row._replace(expected={}) for row in (bm25, dense, elastic)]


def test_the_matrix_remembers_rows_that_are_not_run_again(repro: ModuleType, tmp_path: Path) -> None:
    row = repro.Row("page/bm25", "d", "bm25", None, {"map": 0.3}, 0.01, "", "")
    repro.stored([(row, {"map": 0.3, "ndcg@10": 0.5})], tmp_path)
    [(_, found)] = repro.stored([(row, None)], tmp_path)
    assert found == {"map": 0.3, "ndcg@10": 0.5}
    assert json.loads((tmp_path / "repro.json").read_text())["page/bm25"]["verdict"] == "ok"
    assert "map 0.3000" in (tmp_path / "repro.md").read_text()


def test_a_sweep_is_drawn_from_any_folder_of_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, six_documents: Path
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    sweep = importlib.import_module("sweep_page")
    runs = {"bm25": ("d4", 1.0), "dense:w1.00-d4": ("d0", 4.0), "dense:w0.50-d4": ("d1", 3.0)}
    runs |= {f"dense:w1.00-d4+rerank:w1.00:4@{budget}": ("d0", 9.0) for budget in ("0.25", "1.00")}
    for number, (level, (doc_id, ms)) in enumerate(runs.items()):
        path = tmp_path / f"{number}.trec"
        write_run([Ranking(Query("q1", "x"), (Hit(doc_id, 1.0),))], path, "tag")
        write_metadata(path, {"levels": {"q1": level}, "queries_ms": {"q1": ms}})
    figures = sweep.sweep_page(tmp_path, str(six_documents), "ndcg@10", tmp_path / "out")
    assert {point["run"]: point["on_front"] for point in figures["points"]} == {
        "bm25": True, "dense:w1.00-d4": True, "dense:w0.50-d4": False,
        "dense:w1.00-d4+rerank:w1.00:4@0.25": False, "dense:w1.00-d4+rerank:w1.00:4@1.00": False,
    }  # fmt: skip
    assert (tmp_path / "out" / "sweep.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "out" / "sweep.html").read_text(encoding="utf-8")
    assert page.count('<polyline class="plan"') == 1
    assert "dense:w0.50-d4: ndcg@10 0.0000, 3 ms a query" in page
