"""``Dataset``: what every collection, with its queries and judgments, looks like from outside."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator

from elastic_ir.errors import DatasetError
from elastic_ir.records import Document, Qrels, Query


class Dataset(ABC):
    """A collection of documents, the queries over it, and the judgments of them.

    Attributes:
        name: what the user called it.
        key: short name of the documents, safe as a file name; datasets over the same documents share it.
        remote: whether documents may have to be downloaded before they can be read.
        has_splits: whether its judgments come in splits that ``load`` chooses from.
    """

    name: str
    key: str
    remote = False
    has_splits = False

    @property
    def count(self) -> int | None:
        """Number of documents when it is cheap to know, for progress bars; None otherwise."""
        return None

    @abstractmethod
    def documents(self) -> Iterator[Document]:
        """The documents, one at a time, in the same order every time.

        Raises:
            DatasetError: when reading comes to something that cannot be used; it says where.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """A hex digest that changes when the documents do, without reading them all where there are many."""

    def queries(self) -> list[Query]:
        """The queries, in file order.

        Raises:
            DatasetError: if there are none, or one cannot be used.
        """
        raise DatasetError(f"dataset {self.name!r} has no queries; wanted a dataset with queries, or a file of them")

    def query_ids(self) -> set[str]:
        """Ids of all the queries there are, judged or not.

        Raises:
            DatasetError: if there are none, or one cannot be used.
        """
        return {query.query_id for query in self.queries()}

    def qrels(self) -> Qrels:
        """The judgments.

        Raises:
            DatasetError: if there are none, or one cannot be used.
        """
        raise DatasetError(f"dataset {self.name!r} has no relevance judgments; wanted a dataset or split with qrels")

    def answers(self) -> dict[str, tuple[str, ...]]:
        """query_id -> strings, any of which answers it, where the queries are questions that come with answers.

        Raises:
            DatasetError: if there are none, or one cannot be used.
        """
        raise DatasetError(f"dataset {self.name!r} has no answers; wanted a question answering dataset")

    def texts_of(self, doc_ids: Collection[str]) -> dict[str, str]:
        """doc_id -> text without the title, of those of ``doc_ids`` that there are."""
        return {document.doc_id: document.text for document in self.documents() if document.doc_id in doc_ids}


def key_of(name: str) -> str:
    """``name`` as a file name: its plain characters, 60 at most."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60] or "dataset"


def digest_of(*parts: object) -> str:
    """One hex digest of several values."""
    return hashlib.sha256("\n".join(map(str, parts)).encode("utf-8", "surrogateescape")).hexdigest()
