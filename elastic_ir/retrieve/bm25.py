"""BM25 over a Lucene index."""

from __future__ import annotations

import time
from collections.abc import Sequence

from elastic_ir.index.lucene import LuceneIndex
from elastic_ir.records import Degradation, Ranking
from elastic_ir.retrieve.breaker import patience
from elastic_ir.retrieve.queries import Found, answer, check_candidates, wanted
from elastic_ir.stage import SearchContext, Stage

HANGS_S = 3.0
"""Seconds without an answer from which a search with a deadline takes the process for one that hangs."""


class BM25Retriever(Stage):
    """The best documents under BM25. Queries that had to be cut are noted as degraded.

    A search with a deadline does not wait for a Lucene process that died to be started anew, nor long for one that
    hangs.

    Args:
        lucene: the index; closed with this stage.
        candidates: hits for the stages that follow; more when the context wants more.
        threads: queries searched at the same time.

    Raises:
        InputError: if ``candidates`` is less than 1.
    """

    name = "bm25"

    def __init__(self, lucene: LuceneIndex, candidates: int = 100, *, threads: int = 1) -> None:
        self.lucene, self.candidates, self.threads = lucene, check_candidates(candidates), threads

    def __call__(self, rankings: Sequence[Ranking], context: SearchContext) -> list[Ranking]:
        k, deadline = wanted(context, self.candidates), context.deadline
        timeout_s = None if deadline is None else max(HANGS_S, patience(deadline - time.monotonic()))
        return answer(rankings, lambda queries: self._search([query.text for query in queries], k, timeout_s))

    def _search(self, queries: list[str], k: int, timeout_s: float | None) -> list[Found]:
        cut = Degradation("query_cut", self.name, "too many different terms; only the rarest were searched for")
        results = self.lucene.search(queries, k, threads=self.threads, wait=timeout_s is None, timeout_s=timeout_s)
        return [Found(result.hits, (cut,) if result.cut else ()) for result in results]

    def close(self) -> None:
        self.lucene.close()
