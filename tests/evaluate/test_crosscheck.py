"""The cross-check finds what is off, and says what it could not check."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from elastic_ir.errors import BackendError, CrossCheckError
from elastic_ir.evaluate import Evaluation, cross_check, evaluate
from elastic_ir.records import Qrels, Run

QRELS: Qrels = {"q1": {"a": 2, "b": 1}, "q2": {"x": 1}}
RUNS: dict[str, Run] = {"run": {"q1": {"b": 1.0, "a": 1.0, "c": 1.0}}}


def altered(evaluation: Evaluation, by: float) -> Evaluation:
    per_query = {"run": {"map": {"q1": evaluation.per_query["run"]["map"]["q1"] + by, "q2": 0.0}}}
    return replace(evaluation, measures=("map",), per_query=per_query)


def test_a_figure_that_is_off_is_found() -> None:
    evaluation = evaluate(QRELS, RUNS, ["map", "rbp.80"])
    checked = cross_check(evaluation, QRELS, RUNS)
    checked.demand()
    assert (checked.figures, checked.unchecked) == (2, ("rbp.8",))
    assert str(checked).endswith("not in trec_eval: rbp.8")
    for by in (1e-9, float("nan")):
        off = cross_check(altered(evaluation, by), QRELS, RUNS)
        with pytest.raises(CrossCheckError, match="map of run, query q1 differs from trec_eval's figure by"):
            off.demand()
    cross_check(altered(evaluation, 1e-12), QRELS, RUNS).demand()


def test_a_query_with_negative_grades_alone_counts_zero() -> None:
    qrels: Qrels = {f"q{number}": {"a": -2, "b": -1 - number % 2} for number in range(40)}
    runs: dict[str, Run] = {"run": {query_id: {"a": 2.0, "c": 1.0} for query_id in qrels}}
    checked = cross_check(evaluate(qrels, runs, ["map", "bpref", "judged@10"]), qrels, runs)
    assert (checked.figures, checked.largest) == (120, 0.0)


def test_nothing_to_check_is_an_error() -> None:
    checked = cross_check(evaluate(QRELS, RUNS, ["rbp.80", "dcg@5"]), QRELS, RUNS)
    with pytest.raises(CrossCheckError, match=r"none of rbp\.8, dcg@5"):
        checked.demand()


def test_without_trec_eval_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytrec_eval", None)
    with pytest.raises(BackendError, match="pip install pytrec-eval-terrier"):
        cross_check(evaluate(QRELS, RUNS, ["map"]), QRELS, RUNS)
