"""Load policies: pure callables ``Load -> Level``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import NormalDist
from typing import NamedTuple, TypeAlias

from elastic_ir.errors import ConfigError
from elastic_ir.level import FINEST_SHARE, Level
from elastic_ir.schedule.ladder import Ladder, Rung

SMALLEST_SHARE = 0.1
MARGIN = 0.8
WINDOW = 0.5
"""Share of the SLO over which, at least, the rate of arrivals is taken: a few that come at once are no rate yet."""
SURE = 0.99
"""Share of unforeseen delays that the whole margin absorbs."""


class Load(NamedTuple):
    """What a policy sees when a batch is formed.

    Attributes:
        in_flight: searches queued or in service, those of this batch included.
        level: what is asked for when idle; a ladder's policies have their dearest instead.
        now: seconds on the scheduler's clock.
        deadlines: seconds on the same clock by which each queued request must be answered, earliest first.
        gathered: seconds in which they came: since the batch before was formed, or the longest waiting came if earlier.
        correction: actual over predicted service time, lately.
        previous: the level of the batch before; None at the start.
        late: whether a request of the batch before missed its deadline.
    """

    in_flight: int
    level: Level
    now: float = 0.0
    deadlines: Sequence[float] = ()
    gathered: float = 0.0
    correction: float = 1.0
    previous: Level | None = None
    late: bool = False


Policy: TypeAlias = Callable[[Load], Level]


def shrink_with_load(load: Load) -> Level:
    """The asked level with its depth budget divided by the searches in flight, down to a tenth.

    The rule until a measured ladder exists: the ranker's total spending stays level while the load rises.
    """
    rerank = load.level.rerank
    if rerank is None:
        return load.level
    share = min(1.0, max(SMALLEST_SHARE, 1 / load.in_flight))
    budget = max(FINEST_SHARE, round(rerank.budget * share, 4))
    return load.level._replace(rerank=rerank._replace(budget=budget))


@dataclass(frozen=True)
class Fixed:
    """Always one level."""

    level: Level

    def __call__(self, load: Load) -> Level:
        """That level."""
        return self.level


@dataclass(frozen=True)
class Thresholds:
    """A table from concurrency to level, as the paper has it: the first level whose bound is not passed.

    Args:
        ladder: dearest first.
        bounds: one fewer than levels, rising: searches in flight up to which each level but the last serves.

    Source: On Elastic Language Models (arXiv:2311.07204).
    """

    ladder: Ladder
    bounds: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.bounds) != len(self.ladder.rungs) - 1 or list(self.bounds) != sorted(self.bounds):
            raise ConfigError(f"bounds {self.bounds} do not fit {len(self.ladder.rungs)} levels: one fewer, rising")

    def __call__(self, load: Load) -> Level:
        """The level for ``load.in_flight``."""
        for rung, bound in zip(self.ladder.rungs, self.bounds, strict=False):
            if load.in_flight <= bound:
                return rung.level
        return self.ladder.rungs[-1].level


@dataclass(frozen=True)
class HeadSlack:
    """The dearest level whose next batch is done before the most urgent request is due; blind to the rest of the queue.

    Source: SlackFit in SuperServe (NSDI 2025).
    """

    ladder: Ladder

    def __call__(self, load: Load) -> Level:
        """The level for the head's slack."""
        if not load.deadlines:
            return self.ladder.rungs[0].level
        slack = load.deadlines[0] - load.now
        for rung in self.ladder.rungs:
            size = min(len(load.deadlines), rung.max_batch)
            if load.correction * rung.seconds[size - 1] <= slack:
                return rung.level
        return self.ladder.rungs[-1].level


@dataclass(frozen=True)
class AdditiveIncrease:
    """AIMD on the ladder: one level dearer after every batch in time, half the way to the cheapest after a late one."""

    ladder: Ladder

    def __call__(self, load: Load) -> Level:
        """The level after ``load.previous``."""
        levels = [rung.level for rung in self.ladder.rungs]
        if load.previous not in levels:
            return levels[0]
        position, cheapest = levels.index(load.previous), len(levels) - 1
        return levels[cheapest - (cheapest - position) // 2] if load.late else levels[max(0, position - 1)]


@dataclass(frozen=True)
class DrainRule:
    """Ours: the dearest level at which the queue, and who joins it meanwhile, is answered in time.

    The whole queue counts, not its head alone, so that a burst is met before it is late; so do those who will have come
    by the time it is drained, at the rate at which this queue gathered, so that what is spent now is not lacked then;
    predicted times are multiplied by the correction, so that a wrong table is forgiven. Where no level suffices, the
    cheapest.

    How sure "in time" must be follows from what the next cheaper level would cost: at 97% of this one's quality, being
    late for more than 3% loses more than going down does. A small step down is taken early, a cliff late.

    Args:
        ladder: dearest first.
        margin: share of the SLO that plans may use where one must be sure; the rest absorbs what is not predicted.
            Smaller misses less, at lower quality.
    """

    ladder: Ladder
    margin: float = MARGIN
    _steps: tuple[_Step, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.margin <= 1:
            raise ConfigError(f"margin {self.margin} is out of range; wanted a share of the SLO in (0, 1]")
        rungs, most = self.ladder.rungs, (1 - self.margin) * self.ladder.slo_s
        steps = [_Step.of(rung, cheaper, most) for rung, cheaper in pairwise(rungs)]
        object.__setattr__(self, "_steps", tuple(steps))

    def __call__(self, load: Load) -> Level:
        """The dearest level that suffices."""
        for step in self._steps:
            if self._suffices(step, load):
                return step.rung.level
        return self.ladder.rungs[-1].level

    def sufficient(self, load: Load) -> list[Level]:
        """All levels but the cheapest that suffice."""
        return [step.rung.level for step in self._steps if self._suffices(step, load)]

    def _suffices(self, step: _Step, load: Load) -> bool:
        times, size, queue = step.rung.seconds, step.rung.max_batch, load.deadlines
        drained = step.spare
        for first in range(0, len(queue), size):
            drained += load.correction * times[min(size, len(queue) - first) - 1]
            if load.now + drained > queue[first]:
                return False
        rate = len(queue) / max(load.gathered, WINDOW * self.ladder.slo_s)
        joined = rate * (drained - step.spare)
        return drained + load.correction * step.rung.expected(joined) <= self.ladder.slo_s


class _Step(NamedTuple):
    """A rung above another, and the seconds spared for what is not foreseen."""

    rung: Rung
    spare: float

    @classmethod
    def of(cls, rung: Rung, cheaper: Rung, most: float) -> _Step:
        """Unforeseen delays are taken as normal: what is spared suffices in as large a share of all cases as the
        cheaper rung has of this one's quality, where ``most`` suffices in ``SURE`` of them."""
        share = cheaper.quality / rung.quality if rung.quality > 0 else 1.0
        sure = NormalDist().inv_cdf(min(max(share, 0.5), SURE)) / NormalDist().inv_cdf(SURE)
        return cls(rung, most * sure)
