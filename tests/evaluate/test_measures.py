"""Three spellings, one measure."""

from __future__ import annotations

import pytest

from elastic_ir.errors import InputError
from elastic_ir.evaluate import Measure


@pytest.mark.parametrize(
    ("spellings", "printed"),
    [
        (("ndcg@10", "ndcg_cut_10", "ndcg_cut.10", "nDCG@10"), "ndcg@10"),
        (("ndcg", "nDCG"), "ndcg"),
        (("mrr@10", "RR@10"), "mrr@10"),
        (("mrr", "RR", "recip_rank"), "mrr"),
        (("recall@100", "recall_100", "recall.100", "R@100"), "recall@100"),
        (("map", "AP", "MAP"), "map"),
        (("map@100", "map_cut_100", "AP@100"), "map@100"),
        (("precision@5", "p@5", "P@5", "P_5", "P.5"), "precision@5"),
        (("hit_rate@3", "success_3", "Success@3"), "hit_rate@3"),
        (("r-precision", "Rprec"), "r-precision"),
        (("recall@100-l2", "R(rel=2)@100"), "recall@100-l2"),
        (("map-l2", "AP(rel=2)"), "map-l2"),
    ],
)
def test_spellings_meet_in_one_form_that_parses_back(spellings: tuple[str, ...], printed: str) -> None:
    assert {str(Measure.parse(spelling)) for spelling in spellings} == {printed}
    assert Measure.parse(printed) == Measure.parse(spellings[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ndgc@10", "unknown measure 'ndgc@10'; did you mean 'ndcg'. known: .*map.*recip_rank"),
        ("", "unknown measure ''; known: ap"),
        ("@10", "unknown"),
        ("ndcg@0", "cannot be read"),
        ("ndcg@ten", "cannot be read"),
        ("nDCG(dcg='exp-log2')@10", "cannot be read"),
        ("recall", "no cutoff; wanted e.g. 'recall@10'"),
        ("ndcg_cut", "no cutoff"),
        ("Rprec@5", "takes no cutoff; wanted 'r-precision'"),
        ("ndcg@10-l2", "grades as gains"),
        ("R(rel=2)@10-l2", "cannot be read"),
    ],
)
def test_what_is_no_measure_is_refused_with_a_hint(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Measure.parse(text)
