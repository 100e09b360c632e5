"""A failing stage is left alone, tried again, and trusted again."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from elastic_ir.errors import BackendError, InputError, StartingError
from elastic_ir.records import Query, Ranking
from elastic_ir.retrieve import Breaker
from elastic_ir.stage import SearchContext, Stage

ASKED = [Ranking(Query("", "cat"))]


class Moody(Stage):
    name = "bm25"

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.calls = 0

    def __call__(self, rankings: Sequence[Ranking], context: SearchContext) -> list[Ranking]:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return list(rankings)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def after_five_failures() -> tuple[Moody, Clock, Breaker]:
    moody, clock = Moody(), Clock()
    breaker = Breaker(moody, clock)
    moody.error = RuntimeError("gone")
    for _ in range(5):
        with pytest.raises(RuntimeError):
            breaker(ASKED, SearchContext())
    return moody, clock, breaker


def test_after_five_failures_it_is_left_alone_ever_longer_until_it_answers() -> None:
    moody, clock, breaker = after_five_failures()
    pauses = []
    for _ in range(8):
        begun = clock.now
        with pytest.raises(BackendError, match="bm25 failed"):
            breaker(ASKED, SearchContext())
        while breaker.open:
            clock.now += 0.5
        pauses.append(clock.now - begun)
        with pytest.raises(RuntimeError):
            breaker(ASKED, SearchContext())
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert moody.calls == 5 + 8
    moody.error, clock.now = None, clock.now + 30
    assert breaker(ASKED, SearchContext()) == ASKED
    moody.error = RuntimeError("again")
    with pytest.raises(RuntimeError):
        breaker(ASKED, SearchContext())
    assert not breaker.open


def test_what_is_being_started_is_asked_again_soon() -> None:
    moody, clock, breaker = after_five_failures()
    clock.now, moody.error = 1.5, StartingError("soon")
    with pytest.raises(StartingError):
        breaker(ASKED, SearchContext())
    moody.error = None
    assert breaker(ASKED, SearchContext()) == ASKED


def test_the_callers_mistakes_do_not_count() -> None:
    moody = Moody()
    breaker = Breaker(moody)
    moody.error = InputError("empty")
    for _ in range(9):
        with pytest.raises(InputError):
            breaker(ASKED, SearchContext())
    assert not breaker.open


def test_answers_that_come_far_too_late_count() -> None:
    clock = Clock()

    class Slow(Moody):
        def __call__(self, rankings: Sequence[Ranking], context: SearchContext) -> list[Ranking]:
            clock.now += 1.5
            return super().__call__(rankings, context)

    breaker = Breaker(Slow(), clock)
    for _ in range(5):
        breaker(ASKED, SearchContext(deadline=clock.now + 0.1))
    assert breaker.open
