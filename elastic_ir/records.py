"""The values that travel between rooms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

Qrels: TypeAlias = dict[str, dict[str, int]]
"""query_id -> doc_id -> grade."""

Run: TypeAlias = dict[str, dict[str, float]]
"""query_id -> doc_id -> score."""


class Document(NamedTuple):
    """One document of a collection."""

    doc_id: str
    text: str
    title: str = ""

    @property
    def contents(self) -> str:
        """What is indexed and encoded: title, a space, text (the form of Anserini's flat BEIR indexes)."""
        return f"{self.title} {self.text}".strip()


class Query(NamedTuple):
    """One query of a topic set; ``query_id`` is empty for an ad-hoc search."""

    query_id: str
    text: str


class Hit(NamedTuple):
    """One retrieved document.

    ``text`` is empty unless the pipeline was asked for it; ``retrieved`` is the retriever's score of a hit that was
    reranked, else None.
    """

    doc_id: str
    score: float
    text: str = ""
    retrieved: float | None = None


class Degradation(NamedTuple):
    """Where an answer is less than what was asked for, and why.

    ``reason`` is one word of: load, deadline, dense_down, bm25_down, ranker_down, query_cut, abandoned.
    """

    reason: str
    stage: str
    detail: str = ""


class Ranking(NamedTuple):
    """A query and its hits, best first; the order of ``hits`` is the ranking."""

    query: Query
    hits: tuple[Hit, ...] = ()
    degraded: tuple[Degradation, ...] = ()


class EncoderCard(NamedTuple):
    """What made a set of vectors, so that only vectors of one space are ever compared.

    ``space`` names the vector space: two models share it only when trained to (by default it is the
    model's own fingerprint). ``fingerprint`` is the sha256 of weights, config and tokenizer.
    """

    model: str
    fingerprint: str
    space: str
    subnet: str
    dimension: int
    pooling: str
    query_prompt: str
    document_prompt: str
    max_length: int


def in_run_order(scores: Mapping[str, float] | Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    """Sort (doc_id, score) pairs as trec_eval does: score descending, ties by doc_id descending."""
    pairs = scores.items() if isinstance(scores, Mapping) else scores
    return sorted(pairs, key=lambda pair: (pair[1], pair[0]), reverse=True)
