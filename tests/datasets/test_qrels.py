"""Judgments in BEIR's form and in TREC's, read by one set of rules."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from elastic_ir import evaluate
from elastic_ir.datasets import read_qrels
from elastic_ir.errors import DatasetError


@pytest.mark.parametrize(
    "text",
    [
        "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td1\t-1\n",
        "q1\td1\t2\r\nq1\td2\t0\r\nq2\td1\t-1",
        "q1 0 d1 2\nq1 0 d2 0\n\nq2 0 d1 -1\n",
        "q1\t0\td1\t2\nq1\t0\td2\t0\nq2\t0\td1\t-1\nq2\t0\td1\t-1\n",
        "queryid docid grade\nq1 0\td1 2\nq1  0 d2\t0 \n q2 0 d1 -1\n",
    ],
)
def test_the_forms_of_qrels(tmp_path: Path, text: str) -> None:
    (tmp_path / "test.tsv").write_bytes(text.encode())
    assert read_qrels(tmp_path / "test.tsv") == {"q1": {"d1": 2, "d2": 0}, "q2": {"d1": -1}}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q1\td1", "found 2 columns"),
        ("q1\t0\td1\t1\tmore", "found 5 columns"),
        ("q1\td1\tyes", "grade 'yes' cannot be read"),
        ("q1\td1\t1.5", "grade '1.5' cannot be read"),
        ("q1\td 1\t1", "white space"),
        ("q1\td0\t2", "is judged 2 and before 1"),
        ("query-id\tcorpus-id\tscore", "grade 'score'"),
        ("q1 0 b 99999999999999999999", "grade '99999999999999999999'"),
    ],
)
def test_bad_judgments_are_told_with_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "test.tsv").write_text(f"q1\td0\t1\n{line}\n")
    with pytest.raises(DatasetError, match=f"test.tsv, line 2: .*{message}"):
        read_qrels(tmp_path / "test.tsv")


def test_gzipped_judgments_and_a_query_called_query(tmp_path: Path) -> None:
    (tmp_path / "qrels.gz").write_bytes(gzip.compress(b"\xef\xbb\xbfquery 0 d1 1\n"))
    assert read_qrels(tmp_path / "qrels.gz") == {"query": {"d1": 1}}


@pytest.mark.parametrize("content", ["", "query-id\tcorpus-id\tscore\n"])
def test_a_file_without_judgments_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "test.tsv").write_text(content)
    with pytest.raises(DatasetError, match="has no judgments"):
        read_qrels(tmp_path / "test.tsv")


def test_evaluation_reads_judgments_by_the_same_rules() -> None:
    assert evaluate.read_qrels is read_qrels
