"""Files of documents: JSONL, CSV, TSV."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elastic_ir.datasets import load
from elastic_ir.errors import DatasetError
from elastic_ir.records import Document


def written(folder: Path, name: str, content: str | bytes) -> str:
    raw = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return str(folder / name)


WANTED = [Document("a", "one, two", "T"), Document("7", 'he said "so" and left', "")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "d.jsonl",
            '{"id": "a", "contents": "one, two", "title": "T"}\n'
            '{"doc_id": 7, "text": "he said \\"so\\"\\nand left", "title": null}',
        ),
        ("d.csv", '\ufeffTitle,ID,Text,url\r\nT,a,"one, two",u\r\n,7,"he said ""so""\nand left",\r\n'),
        ("d.tsv", 'id\ttext\ttitle\na\tone, two\tT\n\n7\t"he said ""so"" and left"\t\n'),
        ("D.TSV", '"ID"\t text \t"title"\n"a"\tone, two\tT\n7\the said "so" and left\t\n'),
        ("d.csv.gz", 'id,text,body,title\na,"one, two",x,T\n7,,"he said ""so""\nand left",\n'),
    ],
)
def test_documents_are_the_same_in_every_form(tmp_path: Path, name: str, content: str) -> None:
    dataset = load(written(tmp_path, name, content))
    assert [document._replace(text=document.text.replace("\n", " ")) for document in dataset.documents()] == WANTED
    assert dataset.count == 2
    before = dataset.fingerprint()
    written(tmp_path, name, content.replace("one", "two"))
    assert load(dataset.name).fingerprint() != before


def test_ids_may_be_missing_and_columns_unnamed(tmp_path: Path) -> None:
    rows = load(written(tmp_path, "d.jsonl", '{"text": "a"}\n\n{"text": "b"}'))
    assert list(rows.documents()) == [Document("1", "a"), Document("2", "b")]
    collection = load(written(tmp_path, "collection.tsv", 'p0\ta "quoted word\np1\tb\n'))
    named = load(written(tmp_path, "n.tsv", 'id\ttext\n1\t"5 inch\n2\t"so" he said\n3\tz'))
    assert [document.text for document in named.documents()] == ['"5 inch', '"so" he said', "z"]
    assert list(collection.documents()) == [Document("p0", 'a "quoted word'), Document("p1", "b")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "d.jsonl",
            '{"id": "a", "words": "b"}',
            r"d.jsonl, line 1: no text; found the fields .'id', 'words'.; wanted one",
        ),
        ("d.jsonl", '{"id": "a", "text": ["b"]}', "line 1: field 'text' is a list"),
        ("d.jsonl", '{"id": true, "text": "b"}', "line 1: field 'id' is a bool"),
        ("d.jsonl", '{"id": "a b", "text": "b"}', "line 1: id 'a b' has ' '"),
        ("d.csv", "id,words\na,b", "line 1: no column of texts; found .'id', 'words'."),
        ("d.csv", "id,text\na,b\na,c", "line 3: id 'a' came before"),
        ("d.csv", "id,text\na,b,c", "line 2: 3 columns; wanted 2"),
        ("d.csv", 'id,text\na,"b', "after line 1: unexpected end of data"),
        ("d.csv", b"id,text\na,\xff", "codec can't decode"),
        ("d.csv", "id,text,Text\na,b,c", "line 1: column 'text' comes twice"),
        ("d.csv", "id,text\n" + "," * 1_000_001, "line 2: over 67,108,864 characters or 1,000,000 cells"),
        ("d.tsv", "id\tparagraph\na\tb", "line 1: no column of texts"),
        ("d.tsv", "a\tb\tc", "line 1: 3 columns without names; wanted id, tab, text"),
        ("d.csv", "", "has no documents"),
        ("d.tsv.gz", "", "has no documents"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        list(load(written(tmp_path, name, content)).documents())
    (tmp_path / "broken.csv.gz").write_bytes(gzip.compress(b"id,text\n" + bytes(range(32, 127)) * 99)[:-9])
    with pytest.raises(DatasetError, match="wanted a"):
        list(load(str(tmp_path / "broken.csv.gz")).documents())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["d.jsonl", "d.csv", "d.tsv"]), st.binary(max_size=80), st.booleans())
def test_any_bytes_give_documents_or_a_dataset_error(tmp_path: Path, name: str, rows: bytes, named: bool) -> None:
    head = b"id,text\n" if named else b""
    try:
        documents = list(load(written(tmp_path, name, head + rows)).documents())
    except DatasetError as exc:
        assert name in str(exc)  # noqa: PT017
    else:
        assert all(document.doc_id.split() == [document.doc_id] for document in documents)
