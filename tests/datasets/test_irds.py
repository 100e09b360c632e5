"""The ``ir_datasets`` catalogue: ids resolve without network, local data is read as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from elastic_ir.datasets import load
from elastic_ir.errors import DatasetError
from elastic_ir.records import Document, Query


class Page(NamedTuple):
    doc_id: str
    title: str
    body: str

    def default_text(self) -> str:
        return f"{self.title} {self.body}"


class Trial(NamedTuple):
    doc_id: str
    title: str
    summary: str


@pytest.fixture
def irds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The catalogue; when this is its first import, with its folder outside the user's home."""
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path / "irds"))
    import ir_datasets

    return ir_datasets


@pytest.mark.usefixtures("irds")
@pytest.mark.parametrize(
    ("name", "count", "key"),
    [
        ("beir/scifact/test", 5183, "beir-scifact"),
        ("vaswani", 11_429, "vaswani"),
        ("msmarco-passage/trec-dl-2019/judged", 8_841_823, "msmarco-passage"),
        ("natural-questions/dev", 28_390_850, "natural-questions"),
        ("dpr-w100/natural-questions/dev", 21_015_324, "dpr-w100"),
        ("dpr-w100/trivia-qa/dev", 21_015_324, "dpr-w100"),
    ],
)
def test_ids_resolve_without_network(name: str, count: int, key: str) -> None:
    dataset = load(name)
    assert (dataset.name, dataset.count, dataset.key) == (name, count, key)


def register(irds: Any, tmp_path: Path, docs: Any) -> str:
    from ir_datasets.formats import TrecQrels, TsvQueries
    from ir_datasets.util import LocalDownload

    (tmp_path / "queries.tsv").write_text("q1\tcat on mat\nq2\tfish\n")
    (tmp_path / "qrels.txt").write_text("q1 0 d1 2\nq1 0 d2 0\nq1 1 d1 1\n")
    name = f"local/{tmp_path.name}"
    queries, qrels = LocalDownload(tmp_path / "queries.tsv"), LocalDownload(tmp_path / "qrels.txt")
    irds.registry.register(name, irds.Dataset(docs, TsvQueries(queries), TrecQrels(qrels, {})))
    return name


@pytest.mark.parametrize("form", [Page, Trial])
def test_a_registered_dataset_is_read(irds: Any, tmp_path: Path, form: Any) -> None:
    (tmp_path / "docs.tsv").write_text("d1\tCats\ta cat sat\nd2\t\ta dog ran\n")
    docs = irds.formats.TsvDocs(irds.util.LocalDownload(tmp_path / "docs.tsv"), form)
    dataset = load(register(irds, tmp_path, docs))
    assert list(dataset.documents()) == [Document("d1", "a cat sat", "Cats"), Document("d2", "a dog ran")]
    assert dataset.queries() == [Query("q1", "cat on mat"), Query("q2", "fish")]
    assert dataset.qrels() == {"q1": {"d1": 2, "d2": 0}}
    assert dataset.count is None


def test_a_failing_download_names_the_dataset_and_the_need(
    irds: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    closed = irds.util.RequestsDownload("http://127.0.0.1:9/docs.tsv", tries=1)
    name = register(irds, tmp_path, irds.formats.TsvDocs(irds.util.Cache(closed, tmp_path / "docs.tsv")))
    with pytest.raises(DatasetError, match=f"documents of dataset '{name}' .*Connection.* requires network access"):
        list(load(name).documents())


def test_a_broken_line_is_told_without_blaming_the_network(irds: Any, tmp_path: Path) -> None:
    (tmp_path / "docs.tsv").write_text("d1\tno third column\n")
    docs = irds.formats.TsvDocs(irds.util.LocalDownload(tmp_path / "docs.tsv"), Page)
    with pytest.raises(DatasetError, match="expected 3 fields, got 2") as raised:
        list(load(register(irds, tmp_path, docs)).documents())
    assert "network" not in str(raised.value)


@pytest.mark.usefixtures("irds")
def test_what_a_dataset_lacks_is_told_with_where_it_is() -> None:
    with pytest.raises(DatasetError, match=r"'beir/scifact' has no relevance judgments; .*beir/scifact/test"):
        load("beir/scifact").qrels()


class Question(NamedTuple):
    """As ``dpr-w100`` has them."""

    query_id: str
    text: str
    answers: tuple[str, ...]


def test_questions_come_with_answers_and_passages_by_id(irds: Any, tmp_path: Path) -> None:
    class Questions(irds.formats.BaseQueries):
        def queries_iter(self) -> Iterator[Question]:
            yield Question("q1", "who sat", ("a cat", "the cat"))
            yield Question("q2", "who knows", ())

    (tmp_path / "docs.tsv").write_text("d1\tCats\ta cat sat\nd2\t\ta dog ran\n")
    docs = irds.formats.TsvDocs(irds.util.LocalDownload(tmp_path / "docs.tsv"), Page)
    name = register(irds, tmp_path, docs)
    with pytest.raises(DatasetError, match="has no answers"):
        load(name).answers()
    assert load(name).texts_of({"d1", "none"}) == {"d1": "a cat sat"}
    irds.registry.register(f"{name}/asked", irds.Dataset(docs, Questions()))
    assert load(f"{name}/asked").answers() == {"q1": ("a cat", "the cat")}
