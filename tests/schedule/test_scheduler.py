"""The scheduler of one process: what is in flight decides the level, and what a search took corrects the ladder."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from ladders import LEVELS, ladder

from elastic_ir.level import Level
from elastic_ir.schedule import Fixed, Scheduler
from elastic_ir.schedule.underload import under_load

IDLE = Level.parse(next(iter(LEVELS)))
NAMES = list(LEVELS)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_without_a_ladder_the_depth_budget_is_shared() -> None:
    scheduler = Scheduler()
    with scheduler.search(IDLE) as first, scheduler.search(IDLE) as second:
        assert first == IDLE
        assert second.rerank is not None
        assert second.rerank.budget == 0.5
        assert scheduler.in_flight == 2
    assert scheduler.in_flight == 0


def test_more_in_flight_gets_a_cheaper_level_and_back() -> None:
    scheduler = Scheduler(ladder(), clock=Clock())
    with ExitStack() as stack:
        places = [NAMES.index(str(stack.enter_context(scheduler.search(IDLE)))) for _ in range(60)]
    assert places[0] == 0
    assert places == sorted(places)
    assert places[-1] >= 4
    with scheduler.search(IDLE) as again:
        assert again == IDLE


def test_a_deadline_of_its_own_counts() -> None:
    scheduler = Scheduler(ladder(), clock=Clock())
    with scheduler.search(IDLE, seconds=0.06) as level:  # up to 43 ms are spared for what is not foreseen
        assert NAMES.index(str(level)) == 2


def test_a_search_that_takes_longer_than_the_ladder_says_makes_the_next_cheaper() -> None:
    clock = Clock()
    scheduler = Scheduler(ladder(), clock=clock)
    for _ in range(30):
        with scheduler.search(IDLE) as level:
            clock.now += 0.25
    assert level != IDLE


def test_any_policy_serves_and_failures_leave_nothing_behind() -> None:
    cheapest = Level.parse(NAMES[-1])
    scheduler = Scheduler(ladder(), lambda known: Fixed(known.rungs[-1].level))

    def one(fail: bool) -> Level:
        with scheduler.search(IDLE) as level:
            if fail:
                raise ValueError
            return level

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(one, i % 3 == 0) for i in range(300)]
    assert sum(future.exception() is not None for future in futures) == 100
    assert {future.result() for future in futures if not future.exception()} == {cheapest}
    assert scheduler.in_flight == 0


def test_levels_under_a_load_are_the_same_again_and_fall_with_it() -> None:
    known = ladder()
    calm, busy = (under_load(known, f"poisson:{rate}", 400) for rate in (1, 200))
    assert busy == under_load(known, "poisson:200", 400)
    assert calm.count(IDLE) > 390
    assert busy.count(IDLE) < 100
    assert under_load(known, "poisson:1", 0) == []


@pytest.mark.parametrize("rate", [5, 50])
def test_each_of_the_queries_has_a_level_of_the_ladder(rate: int) -> None:
    assert {str(level) for level in under_load(ladder(), f"gamma:{rate}:8", 100)} <= set(LEVELS)
