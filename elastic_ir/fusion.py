"""Several rankings of one query made into one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import TypeAlias

from elastic_ir.records import Hit, Ranking, in_run_order

RRF_K = 60

Fuse: TypeAlias = Callable[[Sequence[Ranking], Sequence[float]], Ranking]
"""Rankings of one query, at least one, and a weight of at least 0 for each -> the fused ranking."""


def reciprocal_rank_fusion(rankings: Sequence[Ranking], weights: Sequence[float], k: int = RRF_K) -> Ranking:
    """Score each document by the sum of weight / (k + rank), with ranks from 1.

    Source: Cormack, Clarke and Buettcher 2009, "Reciprocal Rank Fusion outperforms Condorcet and
    individual Rank Learning Methods".
    """
    return _fused(rankings, weights, lambda hits: (1 / (k + rank) for rank in range(1, len(hits) + 1)))


def weighted_fusion(rankings: Sequence[Ranking], weights: Sequence[float]) -> Ranking:
    """Score each document by the sum of weight x score, with the scores of each ranking spread over [0, 1].

    A document missing from a ranking gets 0 there, as its last one does. Where all scores of a ranking are
    equal they become 1.
    """
    return _fused(rankings, weights, _min_max)


FUSIONS: dict[str, Fuse] = {
    "rrf": reciprocal_rank_fusion,
    "weighted": weighted_fusion,
}


def fused_head(fuse: Fuse, rankings: Sequence[Ranking], weights: Sequence[float], depth: int) -> Ranking:
    """``fuse`` of the first ``depth`` hits of each ranking; other documents stand below, by their best rank in any.

    So rankings that go deeper only add to the end. Scores fall by 1 from rank to rank there.
    """
    head = fuse([ranking._replace(hits=ranking.hits[:depth]) for ranking in rankings], weights)
    known, below = {hit.doc_id for hit in head.hits}, dict[str, Hit]()
    for rank, hits in enumerate(zip_longest(*(ranking.hits[depth:] for ranking in rankings)), start=1):
        for hit in hits:
            if hit is not None and hit.doc_id not in known:
                below.setdefault(hit.doc_id, hit._replace(score=head.hits[-1].score - rank))
    ordered = in_run_order((hit.doc_id, hit.score) for hit in below.values())
    return head._replace(hits=(*head.hits, *(below[doc_id] for doc_id, _ in ordered)))


def _min_max(hits: Sequence[Hit]) -> Iterator[float]:
    """(score - min) / (max - min) of each hit."""
    scores = [hit.score for hit in hits]
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    return ((score - low) / (high - low) if high > low else 1.0 for score in scores)


def _fused(
    rankings: Sequence[Ranking], weights: Sequence[float], points: Callable[[Sequence[Hit]], Iterable[float]]
) -> Ranking:
    """Add up the points of each document; the query is the first ranking's, the notes are everyone's."""
    total: dict[str, float] = {}
    texts: dict[str, str] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        for hit, point in zip(ranking.hits, points(ranking.hits), strict=True):
            total[hit.doc_id] = total.get(hit.doc_id, 0.0) + weight * point
            if hit.text:
                texts.setdefault(hit.doc_id, hit.text)
    return Ranking(
        rankings[0].query,
        tuple(Hit(doc_id, score, texts.get(doc_id, "")) for doc_id, score in in_run_order(total)),
        tuple(dict.fromkeys(note for ranking in rankings for note in ranking.degraded)),
    )
