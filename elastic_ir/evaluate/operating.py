"""What a run costs beside what it gives: operating points, their Pareto front, levels and latencies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from elastic_ir.errors import SubnetError
from elastic_ir.evaluate.evaluation import Evaluation
from elastic_ir.level import Level

Sidecar = Mapping[str, Any]
"""What stands in ``<run>.meta.json``; every reader here takes what it finds and leaves out what it does not."""


class Point(NamedTuple):
    """One run as quality for a price.

    ``level`` is the one that answered most queries; ``latency_ms`` and ``flops`` are means of one query. Each
    is None where the sidecar does not say.
    """

    run: str
    quality: float
    level: Level | None = None
    latency_ms: float | None = None
    flops: float | None = None


class LevelShare(NamedTuple):
    """The judged queries of a run that one level answered: how many, how well and how fast.

    ``means`` are by measure, over these queries; ``latency_ms`` is None where the sidecar has no times.
    """

    level: str
    queries: int
    means: dict[str, float]
    latency_ms: float | None


class Latency(NamedTuple):
    """Milliseconds of one query in a run, over all its queries."""

    mean: float
    p5: float
    p25: float
    p50: float
    p75: float
    p95: float
    p99: float
    max: float


def points(evaluation: Evaluation, sidecars: Mapping[str, Sidecar], measure: str) -> list[Point]:
    """Each run of the evaluation as an operating point; quality is the mean of ``measure``."""
    return [
        Point(run, means[measure], main_level(about), mean_latency_ms(about), mean_flops(about))
        for run, means in evaluation.means.items()
        for about in (sidecars.get(run, {}),)
    ]


def front(points: Sequence[Point], cost: Callable[[Point], float | None]) -> list[Point]:
    """The points that no other one beats, cheapest first; those without a cost are left out.

    A point is beaten by one that costs no more and gives at least as much, and is better in one of the two.
    """
    priced = sorted(((price, p) for p in points if (price := cost(p)) is not None), key=lambda x: (x[0], -x[1].quality))
    best: list[Point] = []
    for price, point in priced:
        tied = bool(best) and (price, point.quality) == (cost(best[-1]), best[-1].quality)
        if not best or point.quality > best[-1].quality or tied:
            best.append(point)
    return best


def main_level(about: Sidecar) -> Level | None:
    """The level that answered most queries."""
    counted = Counter(_levels(about).values()).most_common(1)
    with suppress(SubnetError):
        return Level.parse(counted[0][0]) if counted else None
    return None


def mean_latency_ms(about: Sidecar) -> float | None:
    """Mean milliseconds of a query."""
    if times := _times(about):
        return float(np.mean(list(times.values())))
    return _number(_mapping(about, "latency_ms").get("mean"))


def mean_flops(about: Sidecar) -> float | None:
    """Mean floating-point operations of a query, by the level that answered it."""
    known, levels = _mapping(about, "flops"), _levels(about).values()
    costs = [_number(known.get(level)) for level in levels]
    priced = [cost for cost in costs if cost is not None]
    return float(np.mean(priced)) if priced and len(priced) == len(costs) else None


def by_level(evaluation: Evaluation, run: str, about: Sidecar) -> list[LevelShare]:
    """What each level did for the judged queries of ``run``, the busiest first; empty without levels."""
    levels, times = _levels(about), _times(about)
    figures = evaluation.per_query[run]
    groups: dict[str, list[str]] = {}
    for query_id in figures[evaluation.measures[0]]:
        if query_id in levels:
            groups.setdefault(levels[query_id], []).append(query_id)
    return [
        LevelShare(
            level,
            len(query_ids),
            {measure: float(np.mean([figures[measure][q] for q in query_ids])) for measure in evaluation.measures},
            float(np.mean(timed)) if (timed := [times[q] for q in query_ids if q in times]) else None,
        )
        for level, query_ids in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    ]


def latency(about: Sidecar) -> Latency | None:
    """How the times of single queries are spread; None where the sidecar has only their mean, or nothing."""
    times = list(_times(about).values())
    if not times:
        return None
    p5, p25, p50, p75, p95, p99 = np.percentile(times, [5, 25, 50, 75, 95, 99]).tolist()
    return Latency(float(np.mean(times)), p5, p25, p50, p75, p95, p99, max(times))


def _levels(about: Sidecar) -> dict[str, str]:
    return {query_id: str(level) for query_id, level in _mapping(about, "levels").items()}


def _times(about: Sidecar) -> dict[str, float]:
    found = {query_id: _number(ms) for query_id, ms in _mapping(about, "queries_ms").items()}
    return {query_id: ms for query_id, ms in found.items() if ms is not None}


def _mapping(about: Sidecar, key: str) -> Mapping[str, Any]:
    value = about.get(key)
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float | None:
    ok = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value) and value >= 0
    return float(value) if ok else None
