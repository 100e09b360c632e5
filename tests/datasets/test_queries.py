"""Query files."""

from __future__ import annotations

from pathlib import Path

import pytest

from elastic_ir.datasets import read_queries
from elastic_ir.errors import DatasetError
from elastic_ir.records import Query


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("q.tsv", "1\twhat is this\n2\tsecond\n"),
        ("q.tsv", "\ufeff1\twhat is this\r\n\r\n2\tsecond"),
        ("q.jsonl", '{"_id": "1", "text": "what is this"}\n{"_id": "2", "text": "second", "metadata": {}}\n'),
    ],
)
def test_both_forms(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert read_queries(tmp_path / name) == [Query("1", "what is this"), Query("2", "second")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 no tab", "no tab; wanted query id, tab, text"),
        ("1\tagain", "'1' came before"),
        ("\ttext", "query id is empty"),
        ("a b\ttext", "white space"),
        ("2\t ", "text is empty"),
        ("2\t" + "x" * 100_001, "has 100,001 characters; wanted at most 100,000"),
    ],
)
def test_bad_queries_are_told_with_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "q.tsv").write_text(f"1\tfine\n{line}\n")
    with pytest.raises(DatasetError, match=f"q.tsv, line 2: .*{message}"):
        read_queries(tmp_path / "q.tsv")


def test_files_that_are_no_query_files(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"unknown form of query file '.txt'; .*\.jsonl, \.tsv"):
        read_queries(tmp_path / "q.txt")
    with pytest.raises(DatasetError, match=r"cannot be read"):
        read_queries(tmp_path / "absent.tsv")
    (tmp_path / "q.tsv").write_text("\n")
    with pytest.raises(DatasetError, match="has no queries"):
        read_queries(tmp_path / "q.tsv")
