"""Load policies: pure callables ``Load -> Level``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from elastic_ir.errors import ConfigError
from elastic_ir.level import Level
from elastic_ir.schedule.ladder import Ladder, Rung

SMALLEST_SHARE = 0.1
MARGIN = 0.75


class Load(NamedTuple):
    """What a policy sees when a batch is formed.

    Attributes:
        in_flight: searches queued or in service, those of this batch included.
        level: what is asked for when idle; a ladder's policies have their dearest instead.
        now: seconds on the scheduler's clock.
        deadlines: seconds on the same clock by which each queued request must be answered, earliest first.
        correction: actual over predicted service time, lately.
        previous: the level of the batch before; None at the start.
        late: whether a request of the batch before missed its deadline.
    """

    in_flight: int
    level: Level
    now: float = 0.0
    deadlines: Sequence[float] = ()
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
    return load.level._replace(rerank=rerank._replace(budget=round(rerank.budget * share, 4)))


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
    """Ours: the dearest level at which the whole queue, served in deadline order, meets every deadline with margin.

    The whole queue counts, not its head alone, so that a burst is met before it is late; predicted times are multiplied
    by the correction, so that a wrong table is forgiven. Where no level suffices, the cheapest.

    Args:
        ladder: dearest first.
        margin: share of the SLO that plans may use; the rest absorbs what is not predicted. Smaller misses less, at
            lower quality.
    """

    ladder: Ladder
    margin: float = MARGIN
    _spare: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.margin <= 1:
            raise ConfigError(f"margin {self.margin} is out of range; wanted a share of the SLO in (0, 1]")
        object.__setattr__(self, "_spare", (1 - self.margin) * self.ladder.slo_s)

    def __call__(self, load: Load) -> Level:
        """The dearest level that suffices."""
        for rung in self.ladder.rungs[:-1]:
            if self.suffices(rung, load):
                return rung.level
        return self.ladder.rungs[-1].level

    def suffices(self, rung: Rung, load: Load) -> bool:
        """Whether every queued request is done in time at ``rung``."""
        queue, size = load.deadlines, rung.max_batch
        finished = load.now + self._spare
        for first in range(0, len(queue), size):
            finished += load.correction * rung.seconds[min(size, len(queue) - first) - 1]
            if finished > queue[first]:
                return False
        return True
