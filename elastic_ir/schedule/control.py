"""What the scheduler learns and whom it lets in: the correction of the latency table, and admission."""

from __future__ import annotations

from dataclasses import dataclass

from elastic_ir.schedule.ladder import Ladder

WEIGHT = 0.1
LARGEST_CHANGE = 1.2
BOUNDS = (0.5, 5.0)
IDLE_S = 10.0
"""Seconds without work after which the correction is forgotten."""


@dataclass
class Correction:
    """A moving average of actual over predicted service time, for a table that does not fit today's machine.

    One step changes it by a fifth at most, and it stays within [0.5, 5].
    """

    value: float = 1.0
    last: float = 0.0

    def at(self, now: float) -> float:
        """The correction for a batch that is formed ``now``; 1 after 10 idle seconds."""
        if now - self.last > IDLE_S:
            self.value = 1.0
        return self.value

    def observe(self, now: float, actual: float, predicted: float) -> None:
        """Learn from a batch that took ``actual`` seconds where the table says ``predicted``."""
        wanted = (1 - WEIGHT) * self.value + WEIGHT * actual / predicted
        nearest = min(max(wanted, self.value / LARGEST_CHANGE), self.value * LARGEST_CHANGE)
        self.value, self.last = min(max(nearest, BOUNDS[0]), BOUNDS[1]), now


@dataclass(frozen=True)
class Admission:
    """Refuses a request that even the cheapest level could not serve in time, before any work is done for it.

    Args:
        ladder: its last level counts.
        share: of the request's slack that waiting and service may take.
    """

    ladder: Ladder
    share: float = 0.7

    def wait(self, queued: int, busy_s: float, correction: float = 1.0) -> float:
        """Seconds until a request behind ``queued`` others is answered, with the worker busy for ``busy_s`` more."""
        return busy_s + correction * self.ladder.rungs[-1].drain(queued + 1)

    def admits(self, slack_s: float, queued: int, busy_s: float, correction: float = 1.0) -> bool:
        """Whether a request that must be answered within ``slack_s`` is let in."""
        return self.wait(queued, busy_s, correction) <= self.share * slack_s
