"""How the event loop fares: how far it is behind, and what a request costs it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

LAG_S = 0.02
REQUESTS, WEIGHT = 32, 0.3
"""Requests between two looks at what they cost, and the weight of the last look."""
LEAST_RATE = 10.0
"""Requests a second below which a look tells of the idle loop, which works some milliseconds each second, and not of
requests."""


class Lag:
    """How far the event loop is behind: seconds from when something should happen to when it does.

    The lesser of the last two looks: one slow request alone is no sign that too much is sent.
    """

    def __init__(self) -> None:
        self.seconds = self._last = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look every 20 ms from now on; more calls change nothing."""
        if self._loop is not loop:
            self._loop = loop
            loop.call_later(LAG_S, self._look, loop.time() + LAG_S)

    def _look(self, due: float) -> None:
        assert self._loop is not None
        now = self._loop.time()
        last, self._last = self._last, max(0.0, now - due)
        self.seconds = min(last, self._last)
        self._loop.call_later(LAG_S, self._look, now + LAG_S)


class Cost:
    """Processor seconds of the event loop's thread that a request takes, a moving average.

    Args:
        tell: called with it now and then, in that thread.
    """

    def __init__(self, tell: Callable[[float], None]) -> None:
        self._tell, self._requests, self._since, self._begun, self._value = tell, 0, 0.0, 0.0, 0.0

    def request(self) -> None:
        """One more was answered; called in the thread of the event loop."""
        if not self._since:
            self._since, self._begun = time.thread_time(), time.monotonic()
            return
        self._requests += 1
        if self._requests == REQUESTS:
            spent, now = time.thread_time(), time.monotonic()
            if LEAST_RATE * (now - self._begun) < REQUESTS:
                lately = (spent - self._since) / REQUESTS
                self._value += WEIGHT * (lately - self._value) if self._value else lately
                self._tell(self._value)
            self._requests, self._since, self._begun = 0, spent, now
