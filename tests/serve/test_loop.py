"""What HTTP takes of the processor, and how far behind the event loop is."""

from __future__ import annotations

import asyncio
import time

import pytest

from elastic_ir.serve import loop
from elastic_ir.serve.loop import REQUESTS, Cost, Lag


def test_it_is_the_time_of_the_thread_by_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    spent, now, told = 5.0, 9.0, list[float]()
    monkeypatch.setattr(loop.time, "thread_time", lambda: spent)
    monkeypatch.setattr(loop.time, "monotonic", lambda: now)
    cost = Cost(told.append)
    cost.request()
    for seconds, apart in ((0.001, 0.01), (0.05, 10.0), (0.002, 0.01)):  # the second ones come now and then
        for _ in range(REQUESTS):
            spent, now = spent + seconds, now + apart
            cost.request()
    assert told == pytest.approx([0.001, 0.0013])


def test_the_loop_is_behind_when_it_is_late_twice() -> None:
    async def run() -> tuple[float, float, float]:
        lag = Lag()
        lag.watch(asyncio.get_running_loop())
        await asyncio.sleep(0.1)
        idle = lag.seconds
        time.sleep(0.1)
        await asyncio.sleep(0.001)
        once = lag.seconds
        await asyncio.sleep(0.015)
        time.sleep(0.1)
        await asyncio.sleep(0.001)
        return idle, once, lag.seconds

    idle, once, twice = asyncio.run(run())
    assert idle < 0.05
    assert once < 0.05
    assert twice > 0.05
