"""The rerank stage keeps every stage's contract, and never loses an answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from contract import check_stage

from elastic_ir.level import Level, RerankLevel
from elastic_ir.records import Hit, Query, Ranking
from elastic_ir.rerank import ElasticRanker, Rerank, Scored
from elastic_ir.rerank.stage import prior
from elastic_ir.stage import SearchContext

TEXTS = {"d1": "the cat sat", "d2": "a dog ran", "d3": "a fish swam", "d4": "red tree"}
RANKINGS = [
    Ranking(Query("q1", "where is the cat"), tuple(Hit(d, 1.0 - i / 10) for i, d in enumerate(TEXTS))),
    Ranking(Query("q2", "dog"), ()),
]


@pytest.fixture(scope="module")
def stage(cross_encoder_folder: Path) -> Rerank:
    ranker = ElasticRanker.from_pretrained(cross_encoder_folder)
    return Rerank(ranker, lambda ids: list(ranker.tokens.ids([TEXTS[i] for i in ids], 20)), RerankLevel(1.0, 3, 1.0))


def test_contract(stage: Rerank) -> None:
    check_stage(stage, RANKINGS)


def test_the_tail_keeps_its_order_below_the_head(stage: Rerank) -> None:
    hits = stage(RANKINGS, SearchContext())[0].hits
    assert hits[-1].doc_id == "d4"
    assert [hit.score for hit in hits] == sorted({hit.score for hit in hits}, reverse=True)


def test_the_retriever_has_a_say(stage: Rerank) -> None:
    plain = [hit.doc_id for hit in stage(RANKINGS, SearchContext())[0].hits[:3]]
    weighted = Rerank(stage.ranker, stage.tokens_of, stage.settings, retriever_weight=100.0)
    assert [hit.doc_id for hit in weighted(RANKINGS, SearchContext())[0].hits[:3]] == ["d1", "d2", "d3"]
    assert plain != ["d1", "d2", "d3"]


def test_a_prior_is_in_standard_deviations() -> None:
    hits = [Hit("a", 5.0), Hit("b", 3.0), Hit("c", 1.0)]
    assert prior(hits, 2.0) == pytest.approx([2 * 1.5**0.5, 0, -2 * 1.5**0.5])
    assert prior(hits, 0.0) is None
    assert prior(hits[:1], 1.0) is None
    assert prior([Hit("a", float("inf")), *hits], 1.0) is None


def test_a_level_without_a_rerank_part_skips_the_stage(stage: Rerank) -> None:
    assert stage(RANKINGS, SearchContext(level=Level.parse("bm25"))) == RANKINGS


def test_a_score_that_is_not_finite_counts_as_a_failure(stage: Rerank, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Scored(np.array([1, np.nan, 2], np.float32), np.array([4, 4, 4], np.int32))
    monkeypatch.setattr(stage.ranker, "score_lists", lambda *_, **__: [broken])
    result = stage(RANKINGS, SearchContext())[0]
    assert result.hits == RANKINGS[0].hits
    assert result.degraded[0].reason == "ranker_down"
