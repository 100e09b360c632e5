"""A stage that fails is left alone for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from elastic_ir.errors import BackendError, InputError, StartingError
from elastic_ir.records import Ranking
from elastic_ir.stage import SearchContext, Stage

FAILURES = 5
FIRST_S, LONGEST_S = 1.0, 30.0
TOO_SLOW, SLOW_S = 2.0, 1.0
"""Times the time that was left, and seconds: an answer that takes longer than both counts as a failure."""


def patience(left: float) -> float:
    """Seconds after which an answer is too late to wait for, where ``left`` are left."""
    return max(SLOW_S, TOO_SLOW * left)


class Breaker(Stage):
    """``stage``, refused at once while it is believed to be down.

    After five failures in a row it is left alone for a second; then one call may try. If that fails too, it is left
    alone twice as long, up to half a minute. An ``InputError`` is the caller's mistake and counts as no failure; nor
    does a process that is being started already.

    Source: the circuit breaker of Nygard, Release It! (2007).
    """

    def __init__(self, stage: Stage, clock: Callable[[], float] = time.monotonic) -> None:
        self.stage, self.name, self.composite = stage, stage.name, stage.composite
        self._clock, self._lock = clock, threading.Lock()
        self._failures, self._pause, self._closed_again = 0, FIRST_S, 0.0

    @property
    def open(self) -> bool:
        """Whether calls are refused now."""
        return self._failures >= FAILURES and self._clock() < self._closed_again

    def __call__(self, rankings: Sequence[Ranking], context: SearchContext) -> list[Ranking]:
        with self._lock:
            started = self._clock()
            if self._failures >= FAILURES:
                if started < self._closed_again:
                    left = self._closed_again - started
                    raise BackendError(f"{self.name} failed {self._failures} times in a row; next try in {left:.1f} s")
                self._closed_again = started + self._pause  # others wait for this one's outcome
        try:
            found = self.stage(rankings, context)
        except InputError:
            raise
        except StartingError:
            with self._lock:
                self._closed_again = min(self._closed_again, started)  # this was no try
            raise
        except Exception:
            self._failed()
            raise
        left = float("inf") if context.deadline is None else context.deadline - started
        if self._clock() - started > patience(left):
            self._failed()
        else:
            self._failures, self._pause = 0, FIRST_S
        return found

    def _failed(self) -> None:
        with self._lock:
            self._failures += 1
            if self._failures > FAILURES:
                self._pause = min(LONGEST_S, 2 * self._pause)
            if self._failures >= FAILURES:
                self._closed_again = self._clock() + self._pause

    def close(self) -> None:
        self.stage.close()
