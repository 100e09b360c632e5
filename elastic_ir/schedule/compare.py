"""Policies side by side on the same arrivals: what ``elastic-ir simulate`` prints."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from elastic_ir.errors import InputError, nearest
from elastic_ir.schedule.control import Admission
from elastic_ir.schedule.ladder import Ladder
from elastic_ir.schedule.policies import AdditiveIncrease, DrainRule, Fixed, HeadSlack, Policy, Thresholds
from elastic_ir.schedule.simulate import Outcome, simulate

ELASTIC = "elastic"
TUNING_SEED = 7919
"""Thresholds are tuned on arrivals of another seed than those they are measured on (a trace starts elsewhere)."""


def admission_of(policy: Policy, ladder: Ladder) -> Admission:
    """Admission that suits ``policy``: a static level is not asked to serve what only a cheaper one could."""
    static = [rung for rung in ladder.rungs if isinstance(policy, Fixed) and rung.level == policy.level]
    return Admission(ladder._replace(rungs=tuple(static)) if static else ladder)


class Row(NamedTuple):
    """A policy's outcome on one set of arrivals."""

    policy: str
    attainment: float
    utility: float
    quality: float
    refused: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    switches_per_s: float

    @classmethod
    def of(cls, policy: str, outcome: Outcome) -> Row:
        """The figures of ``outcome``."""
        p50, p99, p999 = (1000 * outcome.percentile(share) for share in (0.5, 0.99, 0.999))
        shares = outcome.attainment, outcome.utility, outcome.quality, outcome.refused
        return cls(policy, *shares, p50, p99, p999, outcome.switches_per_s)

    def figures(self) -> dict[str, str | float | None]:
        """As plain data; None where nothing was answered."""
        return {key: None if value != value else value for key, value in self._asdict().items()}

    @classmethod
    def mean(cls, rows: list[Row]) -> Row:
        """The mean over runs of one policy."""
        figures = np.mean([row[1:] for row in rows], axis=0).tolist()
        return cls(rows[0].policy, *figures)


def tune_thresholds(ladder: Ladder, arrived: NDArray[np.float64], admission: Admission | None) -> Thresholds:
    """The best thresholds for ``arrived`` of a grid: the first bound, and how fast they rise with a level's rate."""
    rates = [rung.rate / ladder.rungs[0].rate for rung in ladder.rungs[:-1]]
    best, most = None, -1.0
    for first, power in product(np.geomspace(1, 64, 13), (0.25, 0.5, 0.75, 1.0)):
        tried = Thresholds(ladder, tuple(max(1, round(first * rate**power)) for rate in rates))
        utility = simulate(ladder, tried, arrived, admission=admission).utility
        if utility > most:
            best, most = tried, utility
    assert best is not None
    return best


def policies(ladder: Ladder, names: list[str], tuning: NDArray[np.float64], admission: Admission) -> dict[str, Policy]:
    """Policies by name: ``elastic`` (the drain rule), ``head-slack``, ``aimd``, ``thresholds`` (tuned on the arrivals
    ``tuning``), ``static`` (every level on its own), ``full`` (the dearest), or a level of the ladder.

    Raises:
        InputError: for an unknown name.
    """
    levels = {str(rung.level): rung.level for rung in ladder.rungs}
    known: dict[str, Callable[[], Policy]] = {
        ELASTIC: lambda: DrainRule(ladder),
        "head-slack": lambda: HeadSlack(ladder),
        "aimd": lambda: AdditiveIncrease(ladder),
        "thresholds": lambda: tune_thresholds(ladder, tuning, admission),
        "full": lambda: Fixed(ladder.rungs[0].level),
    }
    found: dict[str, Policy] = {}
    for name in names:
        if name == "static":
            found |= {f"static {text}": Fixed(level) for text, level in levels.items()}
        elif name in levels:
            found[f"static {name}"] = Fixed(levels[name])
        elif name in known:
            found[name] = known[name]()
        else:
            choices = [*known, "static", *levels]
            raise InputError(f"unknown policy {name!r}{nearest(name, choices)}")
    return found
