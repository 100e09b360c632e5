"""What all retrievers do with queries and hits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from elastic_ir.errors import InputError
from elastic_ir.records import Degradation, Hit, Query, Ranking
from elastic_ir.stage import SearchContext


class Found(NamedTuple):
    """What an index found for one query: (doc_id, score) best first, and why it may be less than it should."""

    hits: Sequence[tuple[str, float]]
    degraded: tuple[Degradation, ...] = ()


def answer(rankings: Sequence[Ranking], search: Callable[[list[Query]], Sequence[Found]]) -> list[Ranking]:
    """Give each ranking the hits of its query; a blank query finds nothing and is not searched for."""
    asked = [ranking.query for ranking in rankings if ranking.query.text.strip()]
    found = iter(search(asked) if asked else ())
    return [_answered(ranking, next(found) if ranking.query.text.strip() else Found(())) for ranking in rankings]


def _answered(ranking: Ranking, found: Found) -> Ranking:
    hits = tuple(Hit(doc_id, score) for doc_id, score in found.hits)
    return ranking._replace(hits=hits, degraded=ranking.degraded + found.degraded)


def wanted(context: SearchContext, candidates: int) -> int:
    """Hits to fetch: ``candidates`` for what follows, or as many as asked for where, by the level, nothing does."""
    level = context.level
    if level is not None and level.rerank is None and level.retriever != "hybrid":
        return context.k
    return max(context.k, candidates)


def check_candidates(candidates: int) -> int:
    """``candidates``, or an error when it is less than 1."""
    if candidates < 1:
        raise InputError(f"candidates is {candidates}; wanted at least 1")
    return candidates
