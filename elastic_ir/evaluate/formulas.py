"""The measures as numpy formulas over all queries at once: nothing to compile, equal to trec_eval's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from elastic_ir.evaluate.figures import NO_HIT, Floats, Tables
from elastic_ir.evaluate.measures import Measure


def numpy_figures(tables: Tables, measures: Sequence[Measure]) -> list[Floats]:
    """One ``[queries]`` array for each measure."""
    ranked = _Ranked.of(tables)
    return [FORMULAS[measure.name](ranked, measure) for measure in measures]


class _Ranked(NamedTuple):
    """What the formulas read.

    Attributes:
        gains: ``[queries, depth]`` grade of each hit; 0 where nobody judged it or it is not relevant.
        judged: ``[queries, depth]`` whether somebody judged the hit.
        in_pool: ``[queries, depth]`` whether its grade is at least 0, which trec_eval asks of a judgement.
        hits: ``[queries]`` how many documents the run returned.
        ideal: ``[queries, judged]`` grades of the relevant documents, highest first, then 0.
        grades: ``[queries, judged]`` all grades, highest first, filled up with one below 0.
    """

    gains: NDArray[np.int64]
    judged: NDArray[np.bool_]
    in_pool: NDArray[np.bool_]
    hits: NDArray[np.int64]
    ideal: NDArray[np.int64]
    grades: NDArray[np.int64]

    @classmethod
    def of(cls, tables: Tables) -> _Ranked:
        judged = tables.ranking >= 0
        grades = np.take_along_axis(tables.grades, np.maximum(tables.ranking, 0), axis=1)
        gains = np.where(judged, np.maximum(grades, 0), 0)
        hits = (tables.ranking != NO_HIT).sum(axis=1)
        return cls(gains, judged, judged & (grades >= 0), hits, np.maximum(tables.grades, 0), tables.grades)

    def relevant_hits(self, measure: Measure) -> NDArray[np.bool_]:
        """``[queries, depth or cutoff]``: is the hit relevant."""
        return self.gains[:, : measure.cutoff] >= measure.relevance

    def relevant(self, measure: Measure) -> Floats:
        """``[queries]``: how many documents are relevant."""
        return _count(self.ideal >= measure.relevance)


def _hits(ranked: _Ranked, measure: Measure) -> Floats:
    return _count(ranked.relevant_hits(measure))


def _precision(ranked: _Ranked, measure: Measure) -> Floats:
    return _hits(ranked, measure) / (measure.cutoff or 1)


def _recall(ranked: _Ranked, measure: Measure) -> Floats:
    return _ratio(_hits(ranked, measure), ranked.relevant(measure))


def _f1(ranked: _Ranked, measure: Measure) -> Floats:
    relevant = ranked.relevant(measure)
    return _ratio(2 * _hits(ranked, measure), np.where(relevant > 0, relevant + (measure.cutoff or 1), 0))


def _hit_rate(ranked: _Ranked, measure: Measure) -> Floats:
    return np.minimum(_hits(ranked, measure), 1.0)


def _reciprocal_rank(ranked: _Ranked, measure: Measure) -> Floats:
    first = ranked.relevant_hits(measure).argmax(axis=1) + 1
    return _ratio(_hit_rate(ranked, measure), first)


def _average_precision(ranked: _Ranked, measure: Measure) -> Floats:
    relevant = ranked.relevant_hits(measure)
    precision = relevant.cumsum(axis=1) / _ranks(relevant)
    return _ratio((precision * relevant).sum(axis=1), ranked.relevant(measure))


def _r_precision(ranked: _Ranked, measure: Measure) -> Floats:
    relevant, total = ranked.relevant_hits(measure), ranked.relevant(measure)
    return _ratio((relevant & (_ranks(relevant) <= total[:, None])).sum(axis=1), total)


def _dcg(ranked: _Ranked, measure: Measure) -> Floats:
    return _discounted(ranked.gains[:, : measure.cutoff], measure)


def _ndcg(ranked: _Ranked, measure: Measure) -> Floats:
    return _ratio(_dcg(ranked, measure), _discounted(ranked.ideal[:, : measure.cutoff], measure))


def _bpref(ranked: _Ranked, measure: Measure) -> Floats:
    """Relevant hits, each less the share of judged nonrelevant ones above it.

    Source: Buckley and Voorhees, SIGIR 2004, as in trec_eval 9.
    """
    level = measure.relevance
    relevant, total = ranked.gains >= level, ranked.relevant(measure)
    pool = ((ranked.grades >= 0) & (ranked.grades < level)).sum(axis=1)
    above = (ranked.in_pool & ~relevant).cumsum(axis=1)
    share = _ratio(np.minimum(above, total[:, None]), np.broadcast_to(np.minimum(pool, total)[:, None], above.shape))
    return _ratio((relevant * (1.0 - share)).sum(axis=1), total)


def _rank_biased_precision(ranked: _Ranked, measure: Measure) -> Floats:
    """Source: Moffat and Zobel, TOIS 2008."""
    persistence = measure.persistence or 0.0
    relevant = ranked.relevant_hits(measure)
    weights = (1 - persistence) * persistence ** (_ranks(relevant) - 1.0)
    return np.asarray((relevant * weights).sum(axis=1), dtype=np.float64)


def _judged(ranked: _Ranked, measure: Measure) -> Floats:
    """Share of the top hits that somebody judged; of those there are, where there are fewer than the cutoff."""
    shown = np.minimum(ranked.hits, measure.cutoff or ranked.hits)
    return _ratio(ranked.judged[:, : measure.cutoff].sum(axis=1), shown)


def _discounted(gains: NDArray[np.int64], measure: Measure) -> Floats:
    amounts = np.exp2(gains) - 1 if measure.name.endswith("burges") else gains
    return np.asarray((amounts / np.log2(_ranks(gains) + 1)).sum(axis=1), dtype=np.float64)


def _count(where: NDArray[np.bool_]) -> Floats:
    return np.asarray(where.sum(axis=1), dtype=np.float64)


def _ranks(ranking: NDArray[Any]) -> NDArray[np.int64]:
    return np.arange(1, ranking.shape[1] + 1)


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    """``part / whole``, 0 where ``whole`` is 0."""
    ratio: Floats = np.divide(part, whole, out=np.zeros(part.shape), where=whole != 0)
    return ratio


FORMULAS: dict[str, Callable[[_Ranked, Measure], Floats]] = {
    "hits": _hits,
    "precision": _precision,
    "recall": _recall,
    "f1": _f1,
    "hit_rate": _hit_rate,
    "mrr": _reciprocal_rank,
    "map": _average_precision,
    "r-precision": _r_precision,
    "dcg": _dcg,
    "dcg_burges": _dcg,
    "ndcg": _ndcg,
    "ndcg_burges": _ndcg,
    "bpref": _bpref,
    "rbp": _rank_biased_precision,
    "judged": _judged,
}
"""ranx's name of a measure -> its formula."""
