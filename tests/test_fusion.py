from random import Random

import pytest

from elastic_ir.fusion import FUSIONS, fused_head, reciprocal_rank_fusion, weighted_fusion
from elastic_ir.records import Degradation, Hit, Query, Ranking

QUERY = Query("q", "text")
FIRST = Ranking(QUERY, (Hit("a", 9.0), Hit("b", 5.0), Hit("c", 1.0)))
SECOND = Ranking(QUERY, (Hit("c", 0.8), Hit("d", 0.4)))


def scores(ranking):
    return {hit.doc_id: hit.score for hit in ranking.hits}


def test_reciprocal_ranks_are_added():
    fused = reciprocal_rank_fusion([FIRST, SECOND], [1.0, 1.0])
    expected = {"c": 1 / 63 + 1 / 61, "a": 1 / 61, "d": 1 / 62, "b": 1 / 62}
    assert scores(fused) == pytest.approx(expected)
    assert [hit.doc_id for hit in fused.hits] == ["c", "a", "d", "b"]  # equal d and b: doc_id descending


def test_reciprocal_ranks_are_weighted_and_k_flattens_them():
    fused = reciprocal_rank_fusion([FIRST, SECOND], [3.0, 0.5], k=1)
    assert scores(fused) == pytest.approx({"a": 3 / 2, "b": 3 / 3, "c": 3 / 4 + 0.5 / 2, "d": 0.5 / 3})


def test_scores_are_spread_over_zero_to_one_before_they_are_added():
    fused = weighted_fusion([FIRST, SECOND], [0.25, 0.75])
    assert scores(fused) == pytest.approx({"a": 0.25, "b": 0.125, "c": 0.75, "d": 0.0})
    assert [hit.doc_id for hit in fused.hits] == ["c", "a", "b", "d"]


def test_equal_scores_count_as_best():
    constant = Ranking(QUERY, (Hit("x", 7.0), Hit("y", 7.0)))
    assert scores(weighted_fusion([constant, SECOND], [1.0, 1.0])) == {"x": 1.0, "y": 1.0, "c": 1.0, "d": 0.0}


@pytest.mark.parametrize("method", FUSIONS)
def test_empty_rankings_add_nothing(method):
    fuse, empty = FUSIONS[method], Ranking(QUERY)
    assert fuse([empty, empty], [1.0, 1.0]) == empty
    assert [hit.doc_id for hit in fuse([empty, SECOND], [1.0, 1.0]).hits] == ["c", "d"]


@pytest.mark.parametrize("method", FUSIONS)
def test_notes_are_merged_and_texts_kept(method):
    cut, down = Degradation("query_cut", "bm25"), Degradation("dense_down", "dense")
    first = FIRST._replace(degraded=(cut,))
    second = Ranking(QUERY, (Hit("c", 1.0, "text of c"),), (down, cut))
    fused = FUSIONS[method]([first, second], [1.0, 1.0])
    assert fused.degraded == (cut, down)
    assert {hit.doc_id: hit.text for hit in fused.hits} == {"a": "", "b": "", "c": "text of c"}


def test_what_is_deeper_than_the_head_stands_below_by_its_best_rank():
    fused = fused_head(weighted_fusion, [FIRST, SECOND], [1.0, 1.0], 1)
    assert scores(fused) == {"c": 1.0, "a": 1.0, "d": 0.0, "b": 0.0}
    assert [hit.doc_id for hit in fused.hits] == ["c", "a", "d", "b"]
    assert fused_head(weighted_fusion, [FIRST, SECOND], [1.0, 1.0], 3) == weighted_fusion([FIRST, SECOND], [1.0, 1.0])


@pytest.mark.parametrize("method", FUSIONS)
def test_deeper_rankings_only_add_to_the_end(method):
    dice = Random(0)
    whole = [[Hit(f"d{i}", dice.random()) for i in dice.sample(range(60), 40)] for _ in range(2)]
    rankings = [Ranking(QUERY, tuple(sorted(hits, key=lambda hit: -hit.score))) for hits in whole]

    def fused(k):
        cut = [ranking._replace(hits=ranking.hits[: max(k, 10)]) for ranking in rankings]
        return fused_head(FUSIONS[method], cut, [0.3, 0.7], 10).hits[:k]

    deepest = fused(40)
    assert all(fused(k) == deepest[:k] for k in range(1, 41))
    assert [hit.score for hit in deepest] == sorted((hit.score for hit in deepest), reverse=True)
