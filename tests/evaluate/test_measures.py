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
        (("map-l2", "AP(rel=2)", "ap(rel=2)"), "map-l2"),
        (("ndcg_burges@10", "nDCG(dcg='exp-log2')@10", 'NDCG(dcg="exp-log2")@10'), "ndcg_burges@10"),
        (("nDCG(dcg='log2')@10",), "ndcg@10"),
        (("dcg@5",), "dcg@5"),
        (("f1@5",), "f1@5"),
        (("hits", "num_rel_ret", "NumRelRet", "NumRet(rel=1)"), "hits"),
        (("hits-l2", "NumRet(rel=2)"), "hits-l2"),
        (("bpref", "Bpref", "BPref"), "bpref"),
        (("rbp.80", "rbp@8", "RBP(rel=1)", "RBP(rel=1, p=0.8)"), "rbp.8"),
        (("rbp.95-l2", "RBP(p=0.95,rel=2)"), "rbp.95-l2"),
        (("judged@10", "Judged@10"), "judged@10"),
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
        ("nDCG(dcg='exp-log3')@10", "cannot be read"),
        ("nDCG(gains={1:2})@10", "cannot be read"),
        ("AP(rel=2,judged_only=True)", "cannot be read"),
        ("AP(rel=2,rel=3)", "cannot be read"),
        ("AP(dcg='exp-log2')", "wanted 'dcg=' only on ndcg"),
        ("AP(p=0.8)", "wanted 'p=' only on rbp"),
        ("ERR@20", "unknown measure 'ERR@20'.*known: ap, bpref"),
        ("rbp", "RBP is binary here; wanted 'rbp.80'"),
        ("RBP(p=0.8)", "RBP is binary here"),
        ("RBP(rel=1,p=0.8)@10", "RBP is binary here"),
        ("rbp.0", "persistence 0"),
        ("NumRet", "hits of any kind"),
        ("judged@10-l2", "any grade is a judgement; wanted 'judged@10'"),
        ("Judged", "no cutoff"),
        ("bpref@10", "takes no cutoff"),
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
