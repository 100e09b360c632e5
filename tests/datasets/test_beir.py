"""Folders in the BEIR layout, good and bad."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elastic_ir.datasets import load
from elastic_ir.errors import DatasetError
from elastic_ir.records import Document, Query


def corpus(folder: Path, *lines: str | bytes) -> str:
    (folder / "corpus.jsonl").write_bytes(
        b"\n".join(line.encode() if isinstance(line, str) else line for line in lines)
    )
    return str(folder)


def test_a_folder_gives_what_is_in_it(six_documents: Path) -> None:
    dataset = load(str(six_documents))
    assert list(dataset.documents())[3] == Document("d3", "a fish swam in the sea", "")
    assert dataset.queries()[1] == Query("q2", "where is the fish")
    assert dataset.qrels() == {"q1": {"d0": 2, "d4": 1}, "q2": {"d3": 1}, "q3": {"d5": 1}}
    assert dataset.count == 6
    assert dataset.key.startswith("six-")


def test_gzipped_files_are_the_same(six_documents: Path) -> None:
    plain = load(str(six_documents))
    expected = list(plain.documents()), plain.queries(), plain.qrels()
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        path = six_documents / name
        Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    packed = load(str(six_documents))
    assert (list(packed.documents()), packed.queries(), packed.qrels()) == expected


def test_documents_are_streamed(tmp_path: Path) -> None:
    documents = load(corpus(tmp_path, '{"_id": "a", "text": "first"}', "not JSON")).documents()
    assert next(documents).doc_id == "a"
    with pytest.raises(DatasetError, match="line 2"):
        next(documents)


def test_title_may_be_absent_or_null_and_other_fields_are_ignored(tmp_path: Path) -> None:
    lines = ['{"_id": "a", "text": ""}', "", '{"_id": "b", "title": null, "text": "t", "url": 1}']
    assert [*load(corpus(tmp_path, *lines)).documents()] == [Document("a", ""), Document("b", "t")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"_id": "b"', "not JSON"),
        ("[]", "found a JSON list"),
        ("[" * 100_000, "not JSON"),
        ("1" * 5_000, "not JSON"),
        ('{"text": "t"}', "'_id' is missing; found the fields .'text'."),
        ('{"_id": "b"}', "'text' is missing"),
        ('{"_id": 1, "text": "t"}', "'_id' is a int; wanted a string"),
        ('{"_id": "b", "text": ["t"]}', "'text' is a list"),
        ('{"_id": "b", "title": 3, "text": "t"}', "'title' is a int"),
        ('{"_id": "", "text": "t"}', "_id is empty"),
        ('{"_id": "b c", "text": "t"}', "white space"),
        ('{"_id": "b\\nc", "text": "t"}', "white space"),
        ('{"_id": "b\\tc", "text": "t"}', "white space"),
        ('{"_id": "b\\u0000", "text": "t"}', "control"),
        ('{"_id": "b\\u2028", "text": "t"}', "white space"),
        ('{"_id": "' + "b" * 1001 + '", "text": "t"}', "1,001 characters; wanted at most 1,000"),
        ('{"_id": "a", "text": "t"}', "'a' came before"),
        ('{"_id": "b", "text": "\\ud800"}', "unpaired surrogate"),
        (b'{"_id": "b", "text": "\xff"}', "not UTF-8"),
    ],
)
def test_bad_documents_are_told_with_file_and_line(tmp_path: Path, line: str | bytes, message: str) -> None:
    name = corpus(tmp_path, '{"_id": "a", "text": "t"}', "", line)
    with pytest.raises(DatasetError, match=f"corpus.jsonl, line 3: .*{message}") as raised:
        list(load(name).documents())
    assert len(str(raised.value)) < 600


def test_a_corpus_needs_documents(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="has no documents"):
        list(load(corpus(tmp_path, "", "  ")).documents())
    (tmp_path / "corpus.jsonl").rename(tmp_path / "corpus.jsonl.old")
    with pytest.raises(DatasetError, match=r"has neither corpus.jsonl \(the BEIR layout\) nor a text in .txt, .md"):
        load(str(tmp_path))


def test_a_damaged_gzip_file_is_told(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"_id": f"d{i}", "text": str(hash(str(i)))}) + "\n" for i in range(2000))
    (tmp_path / "corpus.jsonl.gz").write_bytes(gzip.compress(lines.encode())[:-100])
    with pytest.raises(DatasetError, match=r"corpus.jsonl.gz cannot be read after line [1-9]"):
        list(load(str(tmp_path)).documents())


def test_lines_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elastic_ir.datasets.lines.MAX_LINE_BYTES", 100)
    name = corpus(tmp_path, '{"_id": "a", "text": "t"}', '{"_id": "b", "text": "' + "t" * 100 + '"}')
    with pytest.raises(DatasetError, match="line 2: longer than 100 bytes"):
        list(load(name).documents())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60) | st.text(max_size=20).map(lambda text: json.dumps({"_id": text, "text": text}).encode()))
def test_any_bytes_give_documents_or_a_dataset_error(tmp_path: Path, line: bytes) -> None:
    try:
        documents = list(load(corpus(tmp_path, line)).documents())
    except DatasetError as exc:
        assert "corpus.jsonl" in str(exc)  # noqa: PT017
    else:
        assert all(document.doc_id.split() == [document.doc_id] for document in documents)


def test_only_queries_judged_in_the_split(six_documents: Path, caplog: pytest.LogCaptureFixture) -> None:
    (six_documents / "qrels" / "dev.tsv").write_text("q3\td5\t1\nq1\td0\t1\n")
    assert [query.query_id for query in load(str(six_documents), "dev").queries()] == ["q1", "q3"]
    (six_documents / "qrels" / "dev.tsv").write_text("q3\td5\t1\nq9\td0\t1\n")
    with caplog.at_level(logging.WARNING):
        assert [query.query_id for query in load(str(six_documents), "dev").queries()] == ["q3"]
    assert "lacks 1 of the queries" in caplog.text
    (six_documents / "qrels" / "dev.tsv").write_text("q9\td5\t1\n")
    with pytest.raises(DatasetError, match="none of the queries judged in split 'dev'"):
        load(str(six_documents), "dev").queries()


def test_a_wrong_split_names_the_right_ones(six_documents: Path) -> None:
    with pytest.raises(DatasetError, match=r"no split 'tset'; did you mean 'test'\?"):
        load(str(six_documents), "tset").qrels()


def test_without_judgments_all_queries_count(six_documents: Path) -> None:
    (six_documents / "qrels" / "test.tsv").unlink()
    dataset = load(str(six_documents))
    assert len(dataset.queries()) == 3
    with pytest.raises(DatasetError, match=r"no relevance judgments; wanted qrels/test.tsv"):
        dataset.qrels()


def test_the_fingerprint_follows_the_documents(six_documents: Path) -> None:
    before = load(str(six_documents)).fingerprint()
    (six_documents / "queries.jsonl").write_text("")
    assert load(str(six_documents)).fingerprint() == before
    with (six_documents / "corpus.jsonl").open("a") as file:
        file.write('{"_id": "d6", "text": "one more"}\n')
    assert load(str(six_documents)).fingerprint() != before


def test_scifact_is_whole(data_folder: Path) -> None:
    dataset = load(str(data_folder / "collections" / "scifact"))
    documents = list(dataset.documents())
    assert (len(documents), dataset.count, len(dataset.queries())) == (5183, 5183, 300)
    assert sum(map(len, dataset.qrels().values())) == 339
    assert len(load(dataset.name, "train").queries()) == 809
