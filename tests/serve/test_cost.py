"""What HTTP takes of the processor."""

from __future__ import annotations

import pytest

from elastic_ir.serve import around
from elastic_ir.serve.around import REQUESTS, Cost


def test_it_is_the_time_of_the_thread_by_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    now, told = 5.0, list[float]()
    monkeypatch.setattr(around.time, "thread_time", lambda: now)
    cost = Cost(told.append)
    cost.request()
    for seconds in (0.001, 0.002):
        for _ in range(REQUESTS):
            now += seconds
            cost.request()
    assert told == pytest.approx([0.001, 0.0013])
