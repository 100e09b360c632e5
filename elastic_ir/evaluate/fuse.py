"""Several runs made into one: reciprocal ranks and elections by ourselves, all else and normalisation by ranx.

ranx counts an election's candidates in the order of a set, so that its result changes from process to process.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cmp_to_key
from itertools import combinations, pairwise
from typing import Any, NamedTuple

import numpy as np

from elastic_ir.errors import InputError, nearest
from elastic_ir.evaluate.kernels import FORMULA_ONLY, NUMBA_LOCK, ranx_metrics
from elastic_ir.evaluate.measures import Measure
from elastic_ir.evaluate.trec import trec_order
from elastic_ir.fusion import RRF_K, reciprocal_rank_fusion
from elastic_ir.progress import track
from elastic_ir.records import Hit, Qrels, Query, Ranking, Run, in_run_order


class FusionMethod(NamedTuple):
    """A method of ranx.

    ``parameters`` must be given, or chosen on judged queries; ``learned`` ones can only be chosen.
    """

    about: str
    parameters: tuple[str, ...] = ()
    learned: bool = False
    optional: tuple[str, ...] = ()


METHODS: dict[str, FusionMethod] = {
    "rrf": FusionMethod("sum of 1 / (k + rank)", optional=("k",)),
    "wsum": FusionMethod("weighted sum of scores", ("weights",)),
    "sum": FusionMethod("CombSUM: sum of scores"),
    "mnz": FusionMethod("CombMNZ: sum of scores x runs that have the document"),
    "gmnz": FusionMethod("CombGMNZ: sum of scores x (runs that have it) ^ gamma", ("gamma",)),
    "anz": FusionMethod("CombANZ: mean of the scores there are"),
    "min": FusionMethod("CombMIN: least score"),
    "max": FusionMethod("CombMAX: greatest score"),
    "med": FusionMethod("CombMED: median score"),
    "wmnz": FusionMethod("weighted CombMNZ", ("weights",)),
    "mixed": FusionMethod("weighted sum x square root of runs that have it", ("weights",)),
    "isr": FusionMethod("inverse square rank"),
    "log_isr": FusionMethod("inverse square rank x log of runs that have it"),
    "logn_isr": FusionMethod("as log_isr, with sigma", optional=("sigma",)),
    "rbc": FusionMethod("rank-biased centroid", ("phi",)),
    "bordafuse": FusionMethod("Borda count"),
    "w_bordafuse": FusionMethod("weighted Borda count", ("weights",)),
    "condorcet": FusionMethod("Condorcet election"),
    "w_condorcet": FusionMethod("weighted Condorcet election", ("weights",)),
    "bayesfuse": FusionMethod("sum of log odds of relevance by rank", ("log_odds",), learned=True),
    "mapfuse": FusionMethod("average precision of the run / rank", ("map_scores",), learned=True),
    "posfuse": FusionMethod("probability of relevance at the rank", ("probs",), learned=True),
    "probfuse": FusionMethod("probability of relevance in the segment / its number", ("probs",), learned=True),
    "segfuse": FusionMethod("as probfuse, with growing segments, x score", ("probs",), learned=True),
    "slidefuse": FusionMethod("probability of relevance around the rank", ("probs", "w"), learned=True),
}
"""Name of a fusion method, as ranx spells it -> what it does and needs.

Source: Bassani and Romelli, "ranx.fuse", CIKM 2022, which cites the paper of each.
"""

NORMS: dict[str, str | None] = {
    "min-max": "min-max",
    "min-max-inverted": "min-max-inverted",
    "max": "max",
    "sum": "sum",
    "zmuv": "zmuv",
    "rank": "rank",
    "borda": "borda",
    "none": None,
}
"""Name of a normalisation of scores, as ours and as ranx's."""


_UNSEARCHED = {"bayesfuse", "mapfuse", "posfuse", "segfuse"}
"""Methods whose parameters are counted, not searched for."""
_ELECTIONS = {"condorcet", "w_condorcet"}
_TENTHS = 10
"""Weights are tried in steps of one part of so many."""


def fuse(
    runs: Sequence[Run], method: str = "rrf", norm: str = "min-max", parameters: Mapping[str, Any] | None = None
) -> list[Ranking]:
    """One run of several, its queries in the order in which they are first met, the hits of each best first.

    Hits are taken in trec_eval's order. A query that some runs lack is fused from the others, with their
    parameters; one that a single run has keeps that run's scores.

    Args:
        runs: at least two.
        method: a name of ``METHODS``.
        norm: a name of ``NORMS``; ``rrf`` needs none.
        parameters: of the method, e.g. ``{"weights": [0.3, 0.7]}`` or ``{"k": 60}``.

    Raises:
        InputError: on unknown names, fewer than two runs, or parameters that do not fit.
    """
    found = _checked(runs, method, norm)
    parameters = _parameters(found, method, dict(parameters or {}), len(runs))
    queries = list(dict.fromkeys(query_id for run in runs for query_id, hits in run.items() if hits))
    groups: dict[tuple[int, ...], list[str]] = {}
    for query_id in queries:
        groups.setdefault(tuple(i for i, run in enumerate(runs) if run.get(query_id)), []).append(query_id)
    fused: dict[str, dict[str, float]] = {}
    for members, query_ids in groups.items():
        parts = [{query_id: _falling(runs[i], query_id) for query_id in query_ids} for i in members]
        if len(parts) == 1:
            fused |= parts[0]
            continue
        own = {name: _of_members(value, members, len(runs)) for name, value in parameters.items()}
        if method == "rrf":
            fused |= _rrf(parts, query_ids, int(parameters.get("k", RRF_K)))
        elif method in _ELECTIONS:
            weights = own.get("weights", [1.0] * len(parts))
            fused |= {q: _elected([part[q] for part in parts], weights) for q in query_ids}
        else:
            fused |= _by_ranx(parts, method, NORMS[norm], own)
    return [
        Ranking(Query(query_id, ""), tuple(Hit(*pair) for pair in in_run_order(fused[query_id])))
        for query_id in queries
    ]


def optimize(
    runs: Sequence[Run], qrels: Qrels, method: str = "wsum", norm: str = "min-max", measure: str = "ndcg@10"
) -> dict[str, Any]:
    """The method's parameters that do best on ``qrels``, which should be of a train split.

    Only queries that are judged and that every run has are looked at. All weights in steps of 0.1 that add up to 1 are
    tried; of equally good ones those are taken that were tried first.

    Raises:
        InputError: on unknown names, a method without parameters, a measure that ranx lacks, or no such query.
    """
    found = _checked(runs, method, norm)
    if not (found.parameters or found.optional):
        some = ", ".join(name for name, about in METHODS.items() if about.parameters or about.optional)
        raise InputError(f"fusion method {method!r} has no parameters to choose; these have: {some}")
    parsed = Measure.parse(measure)
    if parsed.name in FORMULA_ONLY:
        raise InputError(f"parameters cannot be chosen by {measure}; wanted another measure, e.g. ndcg@10")
    judged = [q for q, grades in qrels.items() if any(g > 0 for g in grades.values()) and all(r.get(q) for r in runs)]
    if not judged:
        raise InputError("no query has a relevant document and is in every run; are the qrels of these runs' queries?")
    relevant = {q: {d: g for d, g in qrels[q].items() if g > 0} for q in judged}
    parts = [{q: _falling(run, q) for q in judged} for run in runs]
    if found.parameters == ("weights",):
        return {"weights": _best_weights(parts, relevant, method, norm, parsed)}
    with _quiet_ranx() as library:
        chosen = library.optimize_fusion(
            qrels=library.Qrels(relevant),
            runs=[library.Run(part) for part in parts],
            norm=NORMS[norm],
            method=method,
            metric=str(parsed),
            **({"show_progress": False} if method not in _UNSEARCHED else {}),
        )
    return {name: _plain(value) for name, value in chosen.items()}


def _best_weights(parts: Sequence[Run], qrels: Qrels, method: str, norm: str, measure: Measure) -> list[float]:
    """Of all weights in tenths that add up to 1, those that do best."""
    tried = list(_shares(len(parts)))
    with _quiet_ranx() as library:
        judged = library.Qrels(qrels)
        wanted = None if method in _ELECTIONS else NORMS[norm]
        ready = [library.Run(part) for part in parts]
        if wanted == "borda":
            ready = library.normalization.norm_switch(wanted)(ready)
        elif wanted is not None:
            ready = [library.normalization.norm_switch(wanted)(run) for run in ready]

        def value(weights: list[float]) -> float:
            if method in _ELECTIONS:
                elected = {q: _elected([part[q] for part in parts], weights) for q in qrels}
                fused = library.Run(elected)
            else:
                fused = library.fuse(runs=ready, norm=None, method=method, params={"weights": weights})
            return float(library.evaluate(judged, fused, str(measure)))

        values = [value(weights) for weights in track(tried, "weights")]
    return tried[int(np.argmax(values))]


def _shares(count: int) -> Iterator[list[float]]:
    """All ways to part 1 in tenths among ``count`` runs, the last run's largest first."""
    end = _TENTHS + count - 1
    for bars in combinations(range(end), count - 1):
        yield [(right - left - 1) / _TENTHS for left, right in pairwise((-1, *bars, end))]


@contextmanager
def _quiet_ranx() -> Iterator[Any]:
    """ranx, for one thread at a time, with a place for compiled code and without numba's remarks on it."""
    with NUMBA_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ranx_metrics()
        import ranx

        yield ranx


def _checked(runs: Sequence[Run], method: str, norm: str) -> FusionMethod:
    if method not in METHODS:
        raise InputError(f"unknown fusion method {method!r}{nearest(method, METHODS)}")
    if norm not in NORMS:
        raise InputError(f"unknown normalisation {norm!r}{nearest(norm, NORMS)}")
    if len(runs) < 2:
        raise InputError(f"found {len(runs)} run to fuse; wanted at least two")
    return METHODS[method]


def _parameters(found: FusionMethod, method: str, given: dict[str, Any], runs: int) -> dict[str, Any]:
    known = (*found.parameters, *found.optional)
    if unknown := [name for name in given if name not in known]:
        raise InputError(
            f"fusion method {method!r} takes no {unknown[0]!r}; it takes {', '.join(known) or 'no parameters'}"
        )
    if missing := [name for name in found.parameters if name not in given]:
        how = "--optimize --qrels TRAIN chooses it" + ("" if found.learned else f", or give {missing[0]}")
        raise InputError(f"fusion method {method!r} needs {missing[0]!r}; {how}")
    for name in ("k", "sigma", "gamma", "phi"):
        if name in given and (type(given[name]) not in (int, float) or not math.isfinite(given[name])):
            raise InputError(f"{name} is {given[name]!r}; wanted a number")
    if "k" in given and (given["k"] < 0 or given["k"] != int(given["k"])):
        raise InputError(f"k is {given['k']!r}; wanted a whole number from 0 on")
    if "phi" in given and not 0 < given["phi"] < 1:
        raise InputError(f"phi is {given['phi']!r}; wanted a number between 0 and 1")
    given = {name: _plain(value) for name, value in given.items()}
    for name, each in _OF_RUNS.items():
        if name not in given:
            continue
        if not isinstance(given[name], list):
            raise InputError(f"{name} is {given[name]!r}; wanted a list with one for each of {runs} runs")
        if len(given[name]) != runs:
            raise InputError(f"found {len(given[name])} {name} for {runs} runs; wanted one for each")
        for one in given[name]:
            numbers = one if each == _LISTS else [one]
            if not (isinstance(numbers, list) and numbers and all(map(_is_finite, numbers))):
                raise InputError(f"{name} has {one!r:.60}; wanted {each}")
    return given


_NUMBERS, _LISTS = "finite numbers", "lists of finite numbers"
_OF_RUNS = {"weights": _NUMBERS, "map_scores": _NUMBERS, "log_odds": _LISTS, "probs": _LISTS}
"""Parameter with one entry for each run -> what an entry is."""


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _falling(run: Run, query_id: str) -> dict[str, float]:
    """The scores of a query in trec_eval's order; where they do not fall, by the least step that makes them.

    ranx sorts equal scores in no particular order.
    """
    scores, falling, last = run[query_id], dict[str, float](), np.inf
    for doc_id in trec_order(scores, f"query {query_id!r}"):
        last = scores[doc_id] if scores[doc_id] < last else float(np.nextafter(last, -np.inf))
        falling[doc_id] = last
    return falling


def _rrf(parts: Sequence[Run], query_ids: Sequence[str], k: int) -> Run:
    weights = [1.0] * len(parts)

    def one(query_id: str) -> dict[str, float]:
        rankings = [
            Ranking(Query(query_id, ""), tuple(Hit(*pair) for pair in part[query_id].items())) for part in parts
        ]
        return {hit.doc_id: hit.score for hit in reciprocal_rank_fusion(rankings, weights, k).hits}

    return {query_id: one(query_id) for query_id in query_ids}


def _elected(parts: Sequence[Mapping[str, float]], weights: Sequence[float]) -> dict[str, float]:
    """Documents by weighted majority: one stands before another that more runs have below it or not at all.

    Where votes go in circles or are equal, the order of Borda's count decides, then doc_id.

    Source: Montague and Aslam, CIKM 2002 (Condorcet fusion).
    """
    ranks = [{doc_id: rank for rank, doc_id in enumerate(part)} for part in parts]
    documents = list(dict.fromkeys(doc_id for part in parts for doc_id in part))
    ballots = {doc_id: [rank.get(doc_id, len(documents)) for rank in ranks] for doc_id in documents}
    points = {
        doc_id: sum(weight * -rank for weight, rank in zip(weights, ballot, strict=True))
        for doc_id, ballot in ballots.items()
    }

    def compare(one: str, other: str) -> int:
        votes = zip(weights, ballots[one], ballots[other], strict=True)
        lost = sum(weight * ((mine > theirs) - (mine < theirs)) for weight, mine, theirs in votes)
        return (lost > 0) - (lost < 0)

    first = [doc_id for doc_id, _ in in_run_order(points.items())]
    order = sorted(first, key=cmp_to_key(compare))
    return {doc_id: float(len(order) - rank) for rank, doc_id in enumerate(order)}


def _by_ranx(parts: Sequence[Run], method: str, norm: str | None, parameters: Mapping[str, Any]) -> Run:
    deepest = max(len(hits) for part in parts for hits in part.values())
    with _quiet_ranx() as library:
        result = library.fuse(
            runs=[library.Run(part) for part in parts],
            norm=norm,
            method=method,
            params={name: _arrays(name, value, deepest) for name, value in parameters.items()},
        )
        found: Run = result.to_dict()
    return found


def _of_members(value: Any, members: tuple[int, ...], runs: int) -> Any:
    """A parameter with one entry for each run, for some of the runs."""
    return [value[i] for i in members] if isinstance(value, list) and len(value) == runs else value


def _plain(value: Any) -> Any:
    """numpy and tuples to what JSON has."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value


def _arrays(name: str, value: Any, deepest: int) -> Any:
    """Lists of lists to the lists of arrays that ranx's kernels take.

    bayesfuse has odds for the first 1,000 ranks; its kernel would read past the end for more.
    """
    if not (isinstance(value, list) and value and isinstance(value[0], list)):
        return value
    rows = [np.asarray(row, dtype=np.float64) for row in value]
    return [np.pad(row, (0, max(0, deepest - len(row))), mode="edge") for row in rows] if name == "log_odds" else rows
