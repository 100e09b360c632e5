"""Datasets of the ``ir_datasets`` catalogue, by their id; files are downloaded on first use."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from elastic_ir.datasets.base import Dataset, digest_of, key_of
from elastic_ir.errors import DatasetError, ElasticIRError
from elastic_ir.records import Document, Qrels, Query

TITLES = ("title", "document_title", "page_title", "headline")
"""Fields that may hold a document's title; the first one that is there does."""

TEXTS = (
    "text",
    "body",
    "abstract",
    "summary",
    "detailed_description",
    "eligibility",
    "code",
    "condition",
    "conclusion",
)
"""Fields joined to a document's text when its type has no ``default_text()``."""

QUERY_TEXTS = ("text", "title", "query", "description")
"""Fields that may hold a query's text when its type has no ``default_text()``."""


class IRDataset(Dataset):
    """One dataset of ``ir_datasets``. The split is part of its id; nothing is downloaded before it is read.

    Args:
        name: the id, e.g. ``beir/scifact/test``.

    Raises:
        DatasetError: if there is no such id.
    """

    remote = True

    def __init__(self, name: str) -> None:
        self.name = name
        with self._reading("description"):
            import ir_datasets

            try:
                self._data: Any = ir_datasets.load(name)
            except KeyError as exc:
                close = get_close_matches(name, _ids(), n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                wanted = "wanted a folder or a file of documents, an ir_datasets id (https://ir-datasets.com) or pydocs"
                raise DatasetError(f"dataset {name[:200]!r} is unknown, and no such file{hint}; {wanted}") from exc
            self._collection = ir_datasets.docs_parent_id(name) if self._data.has_docs() else name
        self.key = key_of(self._collection)

    @property
    def count(self) -> int | None:
        """Documents as the catalogue says; None when it does not."""
        return self._data.docs_metadata().get("count") if self._data.has_docs() else None

    def documents(self) -> Iterator[Document]:
        """The documents in the catalogue's order; ``contents`` is the catalogue's own ``default_text()``."""
        self._require("docs", "documents")
        with self._reading("documents"):
            for row in self._data.docs_iter():
                yield _document(row)

    def fingerprint(self) -> str:
        """Digest of the collection's id and count; the catalogue itself holds the hashes of what it downloads."""
        return digest_of(self._collection, self.count)

    def queries(self) -> list[Query]:
        self._require("queries", "queries")
        with self._reading("queries"):
            return [Query(row.query_id, _query_text(row)) for row in self._data.queries_iter()]

    def qrels(self) -> Qrels:
        """The judgments; of two grades for one pair (subtopics) the higher one."""
        self._require("qrels", "relevance judgments")
        qrels: Qrels = {}
        with self._reading("relevance judgments"):
            for row in self._data.qrels_iter():
                grades = qrels.setdefault(row.query_id, {})
                grades[row.doc_id] = max(int(row.relevance), grades.get(row.doc_id, int(row.relevance)))
        return qrels

    def answers(self) -> dict[str, tuple[str, ...]]:
        """The answers of its queries (``dpr-w100/*``), or the short ones of its judgments (``natural-questions/*``)."""
        self._require("queries", "queries")
        found: dict[str, tuple[str, ...]] = {}
        with self._reading("answers"):
            for row in self._data.queries_iter():
                if getattr(row, "answers", None):
                    found[row.query_id] = tuple(map(str, row.answers))
            if not found and self._data.has("qrels"):
                for row in self._data.qrels_iter():
                    if getattr(row, "short_answers", None):
                        found[row.query_id] = (*found.get(row.query_id, ()), *map(str, row.short_answers))
        return found or super().answers()

    def texts_of(self, doc_ids: Collection[str]) -> dict[str, str]:
        self._require("docs", "documents")
        with self._reading("documents"):
            rows = self._data.docs_store().get_many(doc_ids).values()
            return {document.doc_id: document.text for document in map(_document, rows)}

    def _require(self, kind: str, words: str) -> None:
        if not self._data.has(kind):
            below = [name for name in _ids() if name.startswith(f"{self.name}/")][:5]
            wanted = f"wanted one of its parts, e.g. {', '.join(below)}" if below else "wanted another dataset"
            raise DatasetError(f"dataset {self.name!r} has no {words}; {wanted}")

    @contextmanager
    def _reading(self, words: str) -> Iterator[None]:
        """Turn what goes wrong in a catalogue of many hands into one kind of error."""
        try:
            yield
        except (ElasticIRError, MemoryError):
            raise
        except Exception as exc:
            cause = " ".join(f"{type(exc).__name__}: {exc}".split())[:240]
            is_download = "download" in cause or (isinstance(exc, OSError) and not isinstance(exc, FileNotFoundError))
            hint = "; it is downloaded on first use, which requires network access" if is_download else ""
            raise DatasetError(f"the {words} of dataset {self.name!r} cannot be read ({cause}){hint}") from exc


def _ids() -> list[str]:
    import ir_datasets

    return [*ir_datasets.registry]


def _document(row: Any) -> Document:
    title = next((value for value in _strings(row, TITLES) if value), "")
    if not hasattr(row, "default_text"):
        return Document(row.doc_id, " ".join(_strings(row, TEXTS)), title)
    text = row.default_text()
    if not text.startswith(title):
        return Document(row.doc_id, text)
    return Document(row.doc_id, text[len(title) :].strip(), title)


def _query_text(row: Any) -> str:
    if hasattr(row, "default_text"):
        return str(row.default_text())
    for text in _strings(row, QUERY_TEXTS):
        return text
    raise DatasetError(
        f"queries with the fields {', '.join(row._fields)} have no text; wanted {', '.join(QUERY_TEXTS)}"
    )


def _strings(row: Any, fields: Iterable[str]) -> list[str]:
    values = (getattr(row, field, None) for field in fields)
    return [value for value in values if isinstance(value, str)]
