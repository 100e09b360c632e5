"""Levels of queries that arrive under a load, on a virtual clock: what a batch run answers at."""

from __future__ import annotations

from elastic_ir.level import Level
from elastic_ir.schedule.arrivals import arrivals
from elastic_ir.schedule.ladder import Ladder
from elastic_ir.schedule.policies import DrainRule
from elastic_ir.schedule.simulate import simulate


def under_load(ladder: Ladder, load: str, count: int, seed: int = 0) -> list[Level]:
    """The level of each of ``count`` requests, all of which are answered, however late.

    Args:
        ladder: levels, times and SLO.
        load: arrivals, e.g. ``poisson:40``.
        count: requests.
        seed: of arrivals and of the noise in service times.

    Raises:
        InputError: if ``load`` cannot be read.
    """
    if not count:
        return []
    outcome = simulate(ladder, DrainRule(ladder), arrivals(load, count, seed), seed=seed)
    return [ladder.rungs[place].level for place in outcome.rung.tolist()]
