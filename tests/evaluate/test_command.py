"""``elastic-ir evaluate`` from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from elastic_ir.cli import app
from elastic_ir.errors import CrossCheckError, ElasticIRError


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two datasets of two queries, two runs over each; ``b`` misses a query of ``cats``."""
    for name in ("cats", "dogs"):
        (tmp_path / name / "qrels").mkdir(parents=True)
        (tmp_path / name / "corpus.jsonl").write_text('{"_id": "d1", "text": "one"}\n')
        (tmp_path / name / "queries.jsonl").write_text('{"_id": "q1", "text": "one"}\n{"_id": "q2", "text": "two"}\n')
        (tmp_path / name / "qrels" / "test.tsv").write_text("q1\td1\t2\nq1\td2\t1\nq2\td1\t1\n")
        (tmp_path / f"a-{name}.trec").write_text("q1 Q0 d2 1 1 t\nq1 Q0 d1 1 1 t\nq2 Q0 d3 1 2 t\n")
        (tmp_path / f"b-{name}.trec").write_text("q1 Q0 d1 1 9 t\n" + "q2 Q0 d1 1 9 t\n" * (name == "dogs"))
    return tmp_path


def test_several_datasets_have_a_table_each_and_means(folder: Path) -> None:
    runs = (folder / "a-{dataset}.trec", folder / "b-{dataset}.trec")
    for ending in ("json", "md", "tex"):
        output = folder / f"table.{ending}"
        options = ("--metrics", "AP, AP(rel=2),RBP(rel=1,p=0.8)", "--cross-check", "-o", output)
        result = call("-d", folder / "cats", "-d", folder / "dogs", *runs, *options)
        assert result.exit_code == 0, result.output
        assert output.stat().st_size > 100
    assert "2 judged queries; without a hit, counted as 0: b 1" in result.stdout
    assert "2 judged queries, all with hits in every run" in result.stdout
    assert "mean of 2 datasets" in result.stdout
    assert "cats: 8 figures against trec_eval: largest difference 0" in result.stdout
    read = json.loads((folder / "table.json").read_text())
    assert read["means"]["b"]["map"] == pytest.approx((0.5 / 2 + (0.5 + 1) / 2) / 2)
    assert read["datasets"]["cats"]["measures"] == ["map", "map-l2", "rbp.8"]


def test_files_that_cannot_be_written_are_refused_first(folder: Path) -> None:
    qrels, run = folder / "cats" / "qrels" / "test.tsv", folder / "a-cats.trec"
    same = call("--qrels", qrels, run, "-o", folder / "x.md", "--report", folder / "x.md")
    assert "wanted two files" in str(same.exception)
    (folder / "d.json").mkdir()
    assert "is a folder" in str(call("--qrels", qrels, run, "-o", folder / "d.json").exception)


def test_a_run_may_have_any_name(folder: Path) -> None:
    odd = os.fsdecode(os.fsencode(folder) + b"/r\xff.trec")
    (folder / "a-cats.trec").rename(odd)
    command = [sys.executable, "-m", "elastic_ir.cli", "evaluate", "--qrels", str(folder / "cats/qrels/test.tsv"), odd]
    done = subprocess.run([*command, "-o", str(folder / "y.json")], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "y.json").read_text())["queries"] == 2


def test_qrels_margin_engine_and_report(folder: Path) -> None:
    qrels, report = folder / "cats" / "qrels" / "test.tsv", folder / "r.html"
    runs = (folder / "a-cats.trec", folder / "b-cats.trec")
    result = call(
        "--qrels", qrels, *runs, "--margin", "0.25", "--report", report, "-o", folder / "t.json", "--engine", "numpy"
    )
    assert result.exit_code == 0, result.output
    read = json.loads((folder / "t.json").read_text())
    assert read["comparisons"][0]["margin"] == 0.25
    assert set(read["means"]) == {"a-cats", "b-cats"}
    assert report.read_text().startswith("<!DOCTYPE html>")


def test_a_figure_that_is_not_trec_evals_fails_and_writes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elastic_ir.evaluate.crosscheck.CUT", {"precision": "recall"})
    output = folder / "t.json"
    result = call("-d", folder / "cats", folder / "a-cats.trec", "--metrics", "P@5", "--cross-check", "-o", output)
    assert isinstance(result.exception, CrossCheckError)
    assert result.exception.exit_code == 1
    assert "largest difference 0.6 (precision@5 of a-cats, query q1)" in result.stdout
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a-cats.trec"], "exactly one of --dataset"),
        (["-d", "cats", "--qrels", "q.tsv", "a-cats.trec"], "exactly one of --dataset"),
        (["--qrels", "q.tsv", "a-{dataset}.trec"], "needs --dataset"),
        (["-d", "cats", "-d", "dogs", "a-cats.trec"], "one file for 2 datasets"),
        (["-d", "cats", "-d", "cats", "a-{dataset}.trec"], "dataset 'cats' is given twice"),
        (["-d", "cats", "a-{dataset}.trec", "--engine", "fast"], "wanted numpy or ranx"),
        (["-d", "cats", "a-{dataset}.trec", "--margin", "0"], "margin is 0.0"),
        (["-d", "cats", "a-{dataset}.trec", "-o", "t.pdf"], "wanted one of .json, .tex, .md"),
        (["-d", "cats", "a-{dataset}.trec", "--metrics", "ndgc"], "did you mean 'ndcg'"),
    ],
)
def test_what_does_not_fit_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(folder)
    result = call(*arguments)
    assert isinstance(result.exception, ElasticIRError)
    assert message in str(result.exception)


def test_a_small_evaluation_compiles_nothing(folder: Path) -> None:
    code = (
        "import sys; from elastic_ir.cli import app; app(sys.argv[1:], standalone_mode=False); "
        "sys.exit(bool({'ranx', 'numba', 'torch', 'pandas', 'scipy.stats', 'matplotlib'} & set(sys.modules)))"
    )
    arguments = ["evaluate", "-d", folder / "cats", folder / "a-{dataset}.trec", folder / "b-{dataset}.trec"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
