"""The same figures once more by trec_eval itself, through ``pytrec_eval``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from elastic_ir.errors import BackendError, CrossCheckError
from elastic_ir.evaluate.evaluation import Evaluation
from elastic_ir.evaluate.measures import Measure
from elastic_ir.evaluate.trec import trec_order
from elastic_ir.records import Qrels, Run

TOLERANCE = 1e-10
LARGEST_BURGES_GRADE, LARGEST_GRADE = 12, 1_000_000  # trec_eval keeps a counter for each gain up to the largest

WHOLE = {"ndcg": "ndcg", "ndcg_burges": "ndcg", "map": "map", "mrr": "recip_rank", "hits": "num_rel_ret"} | {
    "r-precision": "Rprec",
    "bpref": "bpref",
}
"""Measure -> trec_eval's name, of the whole ranking."""

CUT = {"ndcg": "ndcg_cut", "ndcg_burges": "ndcg_cut", "map": "map_cut", "recall": "recall", "precision": "P"} | {
    "hit_rate": "success"
}
"""Measure -> trec_eval's name where it takes a cutoff."""

OF_A_CUT_RUN = {"mrr": "recip_rank", "hits": "num_rel_ret", "judged": "set_P"}
"""Measure -> trec_eval's name where only the run can be cut."""


class CrossCheck(NamedTuple):
    """How far the figures are from trec_eval's.

    Attributes:
        figures: how many were compared.
        largest: absolute difference between two figures of one query.
        where: measure, run and query of it; empty when all are equal.
        unchecked: measures that trec_eval does not have.
    """

    figures: int
    largest: float
    where: str
    unchecked: tuple[str, ...]

    def __str__(self) -> str:
        where = f" ({self.where})" if self.where else ""
        missing = f"; not in trec_eval: {', '.join(self.unchecked)}" if self.unchecked else ""
        return f"{self.figures:,} figures against trec_eval: largest difference {self.largest:.2g}{where}{missing}"

    def demand(self, tolerance: float = TOLERANCE) -> None:
        """Nothing, if every figure is trec_eval's to ``tolerance``.

        Raises:
            CrossCheckError: if one is not, or none could be compared.
        """
        if not self.figures:
            raise CrossCheckError(
                f"trec_eval has none of {', '.join(self.unchecked)}; wanted one that it has, e.g. map"
            )
        if self.largest > tolerance:
            raise CrossCheckError(
                f"{self.where} differs from trec_eval's figure by {self.largest:.2g}; wanted at most {tolerance:g}; "
                "please report it with the run and the qrels"
            )


def cross_check(evaluation: Evaluation, qrels: Qrels, runs: Mapping[str, Run]) -> CrossCheck:
    """Compare ``evaluation`` of ``runs`` against ``qrels`` with trec_eval, query by query; missing ones with 0.

    Raises:
        BackendError: if pytrec_eval is not installed.
    """
    figures, largest, where, unchecked = 0, 0.0, "", []
    for text in evaluation.measures:
        counterpart = _counterpart(Measure.parse(text), qrels)
        if counterpart is None:
            unchecked.append(text)
            continue
        for name, run in runs.items():
            theirs = counterpart.figures(run)
            for query_id, ours in evaluation.per_query[name][text].items():
                figures += 1
                difference = abs(ours - theirs.get(query_id, 0.0))
                if not difference <= largest:  # so is a NaN
                    difference = math.inf if math.isnan(difference) else difference
                    largest, where = difference, f"{text} of {name}, query {query_id}"
    return CrossCheck(figures, largest, where, tuple(unchecked))


class _Counterpart(NamedTuple):
    """trec_eval set up for one measure; ``cutoff`` None leaves runs whole."""

    evaluator: Any
    name: str
    cutoff: int | None

    def figures(self, run: Run) -> dict[str, float]:
        """query_id -> figure, of the judged queries the run has hits for."""
        given = {query_id: scores for query_id, scores in run.items() if scores}
        if self.cutoff is not None:
            given = {
                query_id: {doc_id: scores[doc_id] for doc_id in trec_order(scores, query_id)[: self.cutoff]}
                for query_id, scores in given.items()
            }
        return {query_id: by[self.name] for query_id, by in self.evaluator.evaluate(given).items()}


def _counterpart(measure: Measure, qrels: Qrels) -> _Counterpart | None:
    """None where trec_eval has no such measure.

    A query with negative grades alone is kept from it: pytrec_eval 0.5 may end the process on one. Every
    figure of such a query is 0.
    """
    if measure.cutoff is None:
        name, cutoff = WHOLE.get(measure.name), None
    elif measure.name in CUT:
        name, cutoff = f"{CUT[measure.name]}_{measure.cutoff}", None
    else:
        name, cutoff = OF_A_CUT_RUN.get(measure.name), measure.cutoff
    largest = max((grade for by in qrels.values() for grade in by.values()), default=0)
    if largest > (LARGEST_BURGES_GRADE if measure.name == "ndcg_burges" else LARGEST_GRADE):
        return None
    if measure.name == "ndcg_burges":
        qrels = {q: {doc: 2 ** max(grade, 0) - 1 for doc, grade in by.items()} for q, by in qrels.items()}
    elif measure.name == "judged":
        qrels = {q: dict.fromkeys(by, 1) for q, by in qrels.items()}
    if name is None:
        return None
    try:
        from pytrec_eval import RelevanceEvaluator
    except ImportError as exc:
        raise BackendError(
            "the cross-check needs trec_eval's own code, which is not installed; pip install pytrec-eval-terrier"
        ) from exc
    judged = {q: by for q, by in qrels.items() if any(grade >= 0 for grade in by.values())}
    return _Counterpart(RelevanceEvaluator(judged, {name}, relevance_level=measure.relevance), name, cutoff)
