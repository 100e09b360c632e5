"""Runs keep their order through trec_eval; bad files are refused with their line."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from elastic_ir.errors import RunFileError
from elastic_ir.evaluate import read_metadata, read_run, write_metadata, write_run
from elastic_ir.evaluate.trec import tag_of
from elastic_ir.records import Hit, Query, Ranking, in_run_order

LARGEST = float(np.finfo(np.float32).max)
EXTREMES = [0.0, -0.0, 1.0, 1.0 + 1e-12, -1.0, 5e-324, 1e-45, -1e-45, 1e-38, LARGEST, -LARGEST, 1e300, -1e300]
scores = st.one_of(st.sampled_from(EXTREMES), st.floats(allow_nan=False, allow_infinity=False))


def ranking(query_id: str, *hits: tuple[str, float]) -> Ranking:
    return Ranking(Query(query_id, "text"), tuple(Hit(doc_id, score) for doc_id, score in hits))


@settings(deadline=None, database=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 99), scores), min_size=1, max_size=12, unique_by=lambda hit: hit[0]))
def test_order_survives_the_file_float32_and_trec_eval(
    tmp_path_factory: pytest.TempPathFactory, numbered: list[tuple[int, float]]
) -> None:
    hits = [(f"d{number}", score) for number, score in numbered]
    wanted = [doc_id for doc_id, _ in hits]
    path = tmp_path_factory.mktemp("runs") / "x.trec"
    write_run([ranking("q", *hits)], path, "tag")
    read = read_run(path)["q"]
    assert [doc_id for doc_id, _ in in_run_order(read)] == wanted
    singles = {doc_id: float(np.float32(score)) for doc_id, score in read.items()}
    assert [doc_id for doc_id, _ in in_run_order(singles)] == wanted
    assert all(np.isfinite(np.float32(score)) for score in read.values())

    evaluator = pytrec_eval.RelevanceEvaluator({doc_id: {doc_id: 1} for doc_id in wanted}, {"recip_rank"})
    places = evaluator.evaluate(dict.fromkeys(wanted, read))
    assert [round(1 / places[doc_id]["recip_rank"]) for doc_id in wanted] == list(range(1, len(wanted) + 1))


def test_scores_that_already_fall_are_printed_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "made" / "x.trec"
    rankings = [ranking("q2", ("b", 12.5), ("a", 0.25), ("c", -3.0)), ranking("q3"), ranking("q1", ("é", 1))]
    write_run(rankings, str(path), "t")
    assert path.read_bytes().decode() == ("q2 Q0 b 1 12.5 t\nq2 Q0 a 2 0.25 t\nq2 Q0 c 3 -3 t\nq1 Q0 é 1 1 t\n")
    assert list(read_run(str(path))) == ["q2", "q1"]


def test_ties_and_inversions_move_by_the_least_float32_step(tmp_path: Path) -> None:
    path = tmp_path / "x.trec"
    write_run([ranking("q", ("a", 1.0), ("b", 1.0), ("c", 2.0), ("d", 0.5))], path, "t")
    below = np.nextafter(np.float32(1), np.float32(0))
    steps = [1.0, below, np.nextafter(below, np.float32(0)), 0.5]
    assert [np.float32(score) for score in read_run(path)["q"].values()] == steps


@pytest.mark.parametrize(
    ("rankings", "tag", "message"),
    [
        ([ranking("q", ("a b", 1.0))], "t", "query 'q': doc_id 'a b'"),
        ([ranking("q", ("", 1.0))], "t", "doc_id ''"),
        ([ranking("q", ("a\x00", 1.0))], "t", "doc_id"),
        ([ranking("q", ("a\ud800", 1.0))], "t", "doc_id"),
        ([ranking("", ("a", 1.0))], "t", "query_id ''"),
        ([ranking("q\u00a0", ("a", 1.0))], "t", "query_id"),
        ([ranking("q", ("a", 1.0))], "my tag", "tag 'my tag'"),
        ([ranking("q", ("a", float("nan")))], "t", "query 'q': document 'a' has score nan"),
        ([ranking("q", ("a", float("-inf")))], "t", "score -inf"),
        ([ranking("q", ("a", 2.0), ("a", 1.0))], "t", "query 'q': document 'a' comes twice"),
        ([ranking("q"), ranking("q")], "t", "query 'q' comes twice"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_the_old_file(
    tmp_path: Path, rankings: list[Ranking], tag: str, message: str
) -> None:
    path = tmp_path / "x.trec"
    write_run([ranking("old", ("d", 1.0))], path, "t")
    before = path.read_bytes()
    with pytest.raises(RunFileError, match=message):
        write_run([ranking("fine", ("d", 1.0)), *rankings], path, tag)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_search_that_fails_midway_leaves_the_old_file(tmp_path: Path) -> None:
    def failing() -> Iterator[Ranking]:
        yield ranking("q", ("d", 1.0))
        raise KeyboardInterrupt

    path = tmp_path / "x.trec"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_run(failing(), path, "t")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", [".", "file/x.trec", "folder", "n" * 300])
def test_a_place_that_cannot_be_written_is_a_run_file_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunFileError):
        write_run([ranking("q", ("d", 1.0))], tmp_path / name, "t")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"q Q0 d 1 0.5", "line 2: found 5 fields, wanted 6"),
        (b"q Q0 d 1 0.5 t t", "line 2: found 7 fields"),
        (b"q Q0 d 1 nan t", "line 2: score 'nan'"),
        (b"q Q0 d 1 1e999 t", "line 2: score '1e999'"),
        (b"q Q0 d 1 1_0 t", "line 2: score '1_0'"),
        (b"q Q0 d 1 high t", "line 2: score 'high'"),
        (b"q Q0 a 2 0.5 t", "line 2: document 'a' comes twice for query 'q'"),
        (b"q Q0 \xff 1 0.5 t", "line 2 cannot be read"),
        (b"q Q0 " + b"d" * 70_000 + b" 1 0.5 t", "line 2: longer than 65536 bytes"),
    ],
)
def test_a_malformed_run_is_refused_with_its_line(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "x.trec"
    path.write_bytes(b"q Q0 a 1 1.0 t\n" + line + b"\n")
    with pytest.raises(RunFileError, match=message):
        read_run(path)


def test_runs_are_read_gzipped_with_tabs_blank_lines_and_without_final_newline(tmp_path: Path) -> None:
    path = tmp_path / "x.trec.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbfq\tQ0\ta\t1\t1.5\tt\r\n\nq Q0 b 2 -1e-3 t"))
    assert read_run(path) == {"q": {"a": 1.5, "b": -0.001}}


def test_files_that_cannot_be_read_are_run_file_errors(tmp_path: Path) -> None:
    whole = gzip.compress(b"q Q0 a 1 1.5 t\n" * 100)
    (tmp_path / "cut.gz").write_bytes(whole[:-12])
    (tmp_path / "plain.gz").write_bytes(b"q Q0 a 1 1.5 t\n")
    for name in ("cut.gz", "plain.gz", "none.trec", "."):
        with pytest.raises(RunFileError):
            read_run(tmp_path / name)


def test_metadata_stands_beside_the_run_and_comes_back(tmp_path: Path) -> None:
    metadata = {"pipeline": "bm25", "level": {"q": "bm25"}, "latency_ms": 1.5, "é": None}
    write_metadata(tmp_path / "x.trec", metadata)
    assert read_metadata(tmp_path / "x.trec") == metadata
    text = (tmp_path / "x.trec.meta.json").read_text(encoding="utf-8")
    assert text.index('"latency_ms"') < text.index('"level"') < text.index('"pipeline"')


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, "\ud800"])
def test_metadata_that_is_no_json_is_refused_and_leaves_the_old_file(tmp_path: Path, value: object) -> None:
    write_metadata(tmp_path / "x.trec", {"a": 1})
    with pytest.raises(RunFileError, match="no JSON"):
        write_metadata(tmp_path / "x.trec", {"a": value})
    assert read_metadata(tmp_path / "x.trec") == {"a": 1}


@pytest.mark.parametrize("content", ["{", "[1]", ""])
def test_metadata_that_cannot_be_read_is_a_run_file_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.trec.meta.json").write_text(content)
    for run in ("x.trec", "none.trec"):
        with pytest.raises(RunFileError, match=r"meta\.json"):
            read_metadata(tmp_path / run)


@pytest.mark.parametrize(
    ("name", "tag"),
    [("x.trec.gz", "x"), ("my  best run.trec", "my-best-run"), ("r\udcff.tsv", "r-.tsv"), (".trec", "run")],
)
def test_any_file_name_makes_a_tag(tmp_path: Path, name: str, tag: str) -> None:
    assert tag_of(Path(name)) == tag
    write_run([ranking("q", ("d", 1.0))], tmp_path / "run.trec", tag_of(Path(name)))
