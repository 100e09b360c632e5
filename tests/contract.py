"""What holds for every ``Stage``: each stage's test calls ``check_stage``."""

from __future__ import annotations

from collections.abc import Sequence

from elastic_ir.records import Hit, Query, Ranking
from elastic_ir.stage import SearchContext, Stage

QUERIES = [
    Ranking(Query("q1", "quick fox"), (Hit("fox", 2.0), Hit("dog", 1.5), Hit("run", 1.0))),
    Ranking(Query("q2", "lazy dog"), (Hit("dog", 3.0),)),
    Ranking(Query("q3", "  ")),
    Ranking(Query("q1", "quick fox"), (Hit("fox", 2.0), Hit("dog", 1.5), Hit("run", 1.0))),
]


def check_stage(
    stage: Stage, rankings: Sequence[Ranking] = QUERIES, context: SearchContext | None = None
) -> list[Ranking]:
    """Check the contract on ``rankings`` and return what the stage made of them."""
    context = context or SearchContext()
    given = list(rankings)
    results = stage(given, context)
    assert given == list(rankings), "the input was changed"
    assert [result.query for result in results] == [ranking.query for ranking in rankings], "query order"
    for result in results:
        doc_ids = [hit.doc_id for hit in result.hits]
        scores = [hit.score for hit in result.hits]
        assert isinstance(result.hits, tuple)
        assert len(set(doc_ids)) == len(doc_ids), "a document is there twice"
        assert scores == sorted(scores, reverse=True), "hits are not best first"
        assert all(isinstance(score, float) for score in scores)
    assert stage([], context) == []
    assert [stage([ranking], context)[0] for ranking in rankings] == results, "a query depends on its neighbours"
    return results
