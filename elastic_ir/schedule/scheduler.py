"""``Scheduler``: the level of each search in this process, by what is in flight."""

from __future__ import annotations

import math
import threading
import time
from bisect import insort
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from elastic_ir.level import Level
from elastic_ir.schedule.control import Correction
from elastic_ir.schedule.ladder import Ladder
from elastic_ir.schedule.policies import DrainRule, Load, Policy, shrink_with_load


class Scheduler:
    """Gives each search its level as it starts; safe to share between threads.

    Searches run side by side, each on its own, so a ladder's times of one query count: ``n`` in flight are taken to
    need as long as ``n`` one after the other.

    Args:
        ladder: measured levels and their SLO, which is the deadline of a search that names none; None shares one depth
            budget between the searches in flight.
        policy: makes the policy from the ladder; without a ladder there is nothing to choose.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        ladder: Ladder | None = None,
        policy: Callable[[Ladder], Policy] = DrainRule,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ladder = None if ladder is None else ladder.one_by_one()
        self._policy = shrink_with_load if self.ladder is None else policy(self.ladder)
        self._clock, self._correction = clock, Correction()
        self._due: list[float] = []
        self._since: list[float] = []
        self._last = math.inf
        self._previous: Level | None = None
        self._late = False
        self._lock = threading.Lock()

    @property
    def in_flight(self) -> int:
        """Searches in service."""
        return len(self._due)

    @contextmanager
    def search(self, asked: Level, seconds: float | None = None) -> Iterator[Level]:
        """Count one search for as long as the block runs; gives its level.

        Args:
            asked: level wanted when idle.
            seconds: from now until an answer is due; None means the ladder's SLO.
        """
        slo = float("inf") if self.ladder is None else self.ladder.slo_s
        with self._lock:
            started = self._clock()
            due = started + (slo if seconds is None else seconds)
            insort(self._due, due)
            self._since.append(started)
            beside = float(len(self._due))
            load = Load(
                len(self._due),
                asked,
                started,
                tuple(self._due),
                started - min(self._last, self._since[0]),
                self._correction.at(started),
                self._previous,
                self._late,
            )
            self._last = started
        try:
            level = self._policy(load)
            yield level
        except BaseException:
            with self._lock:
                self._forget(started, due)
            raise
        with self._lock:
            ended = self._clock()
            beside = (beside + len(self._due)) / 2
            self._forget(started, due)
            self._previous, self._late = level, ended > due
            rung = None if self.ladder is None else self.ladder.rung(level)
            if rung is not None:
                self._correction.observe(ended, (ended - started) / beside, rung.seconds[0])

    def _forget(self, started: float, due: float) -> None:
        self._due.remove(due)
        self._since.remove(started)
