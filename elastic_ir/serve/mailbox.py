"""From the engine's thread to the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class Mailbox:
    """Brings answers to the event loop, those of a batch with one wake-up.

    ``asyncio.wrap_future`` wakes the loop for every one, by a system call in the thread that should search.
    """

    def __init__(self) -> None:
        self._posted: deque[tuple[asyncio.Future[Any], Future[Any]]] = deque()
        self._woken = False

    def wait_for(self, answer: Future[T]) -> asyncio.Future[T]:
        """A future of the running loop that will be what ``answer`` is; cancelling it cancels ``answer``."""
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[T] = loop.create_future()
        mine.add_done_callback(lambda done: answer.cancel() if done.cancelled() else None)
        answer.add_done_callback(lambda done: self._post(loop, mine, done))  # no answer that holds itself
        return mine

    def _post(self, loop: asyncio.AbstractEventLoop, mine: asyncio.Future[T], answer: Future[T]) -> None:
        self._posted.append((mine, answer))
        if not self._woken:
            self._woken = True
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._woken = False  # before looking: what is posted from here on wakes the loop again
        while self._posted:
            mine, answer = self._posted.popleft()
            if mine.done():
                continue
            if answer.cancelled():
                mine.cancel()
            elif (error := answer.exception()) is not None:
                mine.set_exception(error)
            else:
                mine.set_result(answer.result())
