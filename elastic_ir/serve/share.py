"""How the engine's thread is shared between searches and jobs, which are done in parts."""

from __future__ import annotations

JOBS_SHARE = 0.2
"""Of the time, while searches wait: what jobs have at least, and what searches count with as lost to them."""
LEAST_PART_S = 0.001
"""A shorter part was none: nothing was done yet."""


class Share:
    """What searches have of the time before the next part of a job follows from how long the one before took.

    Attributes:
        owed_s: seconds that searches may have first; below 0 they had more already, in one batch.
        part_s: seconds that a part takes lately.
    """

    def __init__(self) -> None:
        self.owed_s = self.part_s = self._began = 0.0

    def begin(self, now: float) -> None:
        """A part begins."""
        self._began = now

    def end(self, now: float) -> float:
        """It is done; the seconds it took."""
        seconds = now - self._began
        if seconds > LEAST_PART_S:
            self.part_s = max(seconds, self.part_s / 2)
        self.owed_s += seconds * (1 - JOBS_SHARE) / JOBS_SHARE
        return seconds
