"""The engine on a stub of a pipeline: batches, levels, deadlines, those who leave, and the end."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from elastic_ir.answer import Degraded, Hits
from elastic_ir.errors import BackendError, ExpiredError, InputError, OverloadedError, OverShareError
from elastic_ir.level import Level
from elastic_ir.records import Hit, Query
from elastic_ir.schedule import Ladder, Rung
from elastic_ir.serve.engine import Engine
from elastic_ir.stage import ABANDONED

DEAR, CHEAP = Level.parse("dense:w1.00-d12+rerank:w1.00:10@1.00"), Level.parse("dense:w0.50-d6")
ODD = Level.parse("dense:w0.25-d2")
LADDER = Ladder(
    (Rung(DEAR, 0.7, (0.05, 0.1, 0.15, 0.2)), Rung(CHEAP, 0.5, (0.005, 0.01, 0.015, 0.02))), slo_s=0.5
).checked()


class Stub:
    """Answers at once, or when it is let; keeps what it was asked."""

    generation = 1

    def __init__(self) -> None:
        self.asked: list[tuple[Level, list[str]]] = []
        self.requested: list[Level] = []
        self.texts: list[bool] = []
        self.gate = threading.Event()
        self.gate.set()
        self.fails = self.closed = False
        self.parts = 20
        self.stands_in: Level | None = None
        self.at_work: Callable[[list[str]], None] = lambda texts: None

    def answers(
        self, queries: Sequence[Query], k: int, requested: Level, levels: Sequence[Level], **options: Any
    ) -> list[Hits]:
        self.asked.append((levels[0], [query.text for query in queries]))
        self.texts.append(options["texts"])
        self.requested.append(requested)
        while not self.gate.wait(0.005):
            if all(map(options["abandoned"], queries)):
                break
        self.at_work(self.asked[-1][1])
        for _ in range(self.parts if "long" in queries[0].text else 0):
            time.sleep(0.005)
            options["abandoned"](queries[0])
        if self.fails:
            raise RuntimeError("out of memory")
        hits = [Hit(f"d{row}", -float(row)) for row in range(k)]
        left = [Degraded((ABANDONED.reason,), levels[0], requested, 0, "") if options["abandoned"](query) else None
                for query in queries]  # fmt: skip
        return [Hits(query, () if its else hits, self.stands_in or levels[0], its, 1.0, {}, 1)
                for query, its in zip(queries, left, strict=True)]  # fmt: skip

    def close(self) -> None:
        self.closed = True


class Told:
    """An observer that counts."""

    def __init__(self) -> None:
        self.gone: list[str] = []
        self.answered = Counter[Level]()
        self.levels: list[tuple[Level, Level]] = []

    def batch(self, levels: Counter[Level], *_: object) -> None:
        self.answered += levels

    def waited(self, seconds: float) -> None: ...

    def chosen(self, wanted: Level, acting: Level) -> None:
        self.levels.append((wanted, acting))

    def dropped(self, reason: str) -> None:
        self.gone.append(reason)


@pytest.fixture
def stub() -> Stub:
    return Stub()


@pytest.fixture
def start(stub: Stub) -> Iterator[Callable[..., Engine]]:
    made: list[Engine] = []

    def make(**options: Any) -> Engine:
        engine = Engine(stub, LADDER, **options)  # type: ignore[arg-type]
        engine.start()
        made.append(engine)
        return engine

    yield make
    stub.gate.set()
    for engine in made:
        engine.close()


def held(engine: Engine, stub: Stub) -> None:
    """One question in service, until the gate opens."""
    stub.gate.clear()
    engine.search("first", 1, 10.0)
    while not stub.asked:
        time.sleep(0.001)


def test_alone_it_gets_the_dearest_and_in_a_crowd_all_get_less(start: Callable[..., Engine], stub: Stub) -> None:
    engine = start()
    assert engine.search("alone", 2, 0.5).answer.result(5).level == DEAR
    held(engine, stub)
    waiting = [engine.search(f"q{row}", 2, 0.6) for row in range(12)]
    stub.gate.set()
    assert len(waiting[0].answer.result(5)) == 2
    levels = [task.answer.result(5).level for task in waiting]
    assert levels[0] == CHEAP
    assert max(len(texts) for _, texts in stub.asked) == 4


def test_the_most_urgent_go_first_and_a_level_of_their_own_is_kept(start: Callable[..., Engine], stub: Stub) -> None:
    engine = start()
    held(engine, stub)
    later, forced, sooner = (
        engine.search("later", 1, 9.0), engine.search("forced", 1, 0.4, DEAR), engine.search("sooner", 1, 0.3),
    )  # fmt: skip
    alone = engine.search("forced, and alone", 1, 0.45, DEAR)
    stub.gate.set()
    assert forced.answer.result(5).level == alone.answer.result(5).level == DEAR
    assert later.answer.result(5) is not None
    assert sooner.answer.result(5) is not None
    assert [texts for _, texts in stub.asked] == [["first"], ["sooner", "later"], ["forced"], ["forced, and alone"]]


def test_who_left_or_is_too_late_costs_nothing(start: Callable[..., Engine], stub: Stub) -> None:
    told = Told()
    engine = start(observer=told, mode="monitor")
    held(engine, stub)
    left, late = engine.search("left", 1, 9.0), engine.search("late", 1, 0.001)
    left.abandon()
    time.sleep(0.02)
    stub.gate.set()
    with pytest.raises(ExpiredError):
        late.answer.result(5)
    engine.search("after", 1, 5.0).answer.result(5)
    assert [texts for _, texts in stub.asked] == [["first"], ["after"]]
    assert sorted(told.gone) == ["abandoned", "deadline"]


def test_work_ends_when_all_of_a_batch_have_left(start: Callable[..., Engine], stub: Stub) -> None:
    engine = start()
    stub.gate.clear()
    task = engine.search("slow", 1, 5.0)
    while not stub.asked:
        time.sleep(0.001)
    task.abandon()
    assert engine.run(lambda _: "free", 5.0).answer.result(2) == "free"


def test_who_leaves_while_a_batch_is_at_work_is_not_counted_as_answered(
    start: Callable[..., Engine], stub: Stub
) -> None:
    told = Told()
    engine = start(observer=told)
    held(engine, stub)
    left, stays = engine.search("left", 1, 5.0), engine.search("stays", 1, 5.0)
    stub.at_work = lambda texts: left.abandon() if "left" in texts else None
    stub.gate.set()
    assert len(stays.answer.result(5)) == 1
    engine.run(lambda _: None, 5.0).answer.result(5)
    assert [texts for _, texts in stub.asked] == [["first"], ["left", "stays"]]
    assert told.answered.total() == 2
    assert told.gone == ["abandoned"]


def test_who_has_hung_up_is_not_searched_for_though_nobody_said_so_yet(
    start: Callable[..., Engine], stub: Stub
) -> None:
    told = Told()
    engine = start(observer=told)
    held(engine, stub)
    left = engine.search("left", 1, 5.0, hung_up=lambda: True)
    stays = engine.search("stays", 1, 5.0, hung_up=lambda: False)
    stub.gate.set()
    assert len(stays.answer.result(5)) == 1
    with pytest.raises(ExpiredError, match="hung up"):
        left.answer.result(5)
    assert [texts for _, texts in stub.asked] == [["first"], ["stays"]]
    assert told.gone == ["abandoned"]


def test_the_time_of_what_stands_in_for_a_level_that_a_client_insists_on_is_not_learned(
    start: Callable[..., Engine], stub: Stub
) -> None:
    told = Told()
    engine = start(observer=told)
    stub.at_work = lambda texts: time.sleep(0.2)
    stub.stands_in = Level.parse("dense:w0.25-d2")
    engine.search("bm25 is down", 1, 5.0, CHEAP).answer.result(5)
    engine.run(lambda _: None, 5.0).answer.result(5)
    assert engine.state.correction == 1.0
    engine.search("so are all that the policy sends there", 1, 5.0).answer.result(5)
    engine.run(lambda _: None, 5.0).answer.result(5)
    assert engine.state.correction > 1.0
    assert told.answered == {stub.stands_in: 2}


def test_a_deadline_that_nobody_could_keep_is_the_clients_mistake(start: Callable[..., Engine]) -> None:
    engine = start()
    with pytest.raises(InputError, match=r"a deadline of 5 ms cannot be kept; an idle service needs 17\.1 ms"):
        engine.search("q", 1, 0.005)


def test_one_client_cannot_take_the_whole_queue(start: Callable[..., Engine], stub: Stub) -> None:
    told = Told()
    engine = start(observer=told)
    held(engine, stub)
    with suppress(OverShareError):
        for _ in range(200):
            engine.search("many", 1, 0.5, client="greedy")
    alone = engine.state.queued
    assert engine.turns_away("greedy") == "share"
    assert engine.turns_away("modest") is None
    engine.search("one", 1, 0.5, client="modest")
    with pytest.raises(OverShareError):
        engine.search("many", 1, 0.5, client="greedy")
    engine.search("two", 1, 0.5, client="modest")
    assert engine.state.queued == alone + 2
    assert set(told.gone) == {"share"}


def test_who_is_announced_counts_until_the_next_batch(start: Callable[..., Engine], stub: Stub) -> None:
    engine = start()
    assert [engine.announce("greedy") for _ in range(300)] == [None] * 300  # idle: the next one is served at once
    held(engine, stub)
    announced = 0
    while engine.announce("") is None:
        announced += 1
    assert 40 < announced < 100
    engine.search("comes", 1, 0.5)
    assert engine.turns_away() == "overload"  # it takes the place that was kept for it
    stub.gate.set()
    engine.search("after", 1, 9.0).answer.result(5)
    assert engine.turns_away() is None


def test_who_is_announced_and_never_comes_is_forgotten(start: Callable[..., Engine], stub: Stub) -> None:
    engine = start()
    held(engine, stub)
    while engine.announce("") is None:
        pass
    stub.gate.set()
    deadline = time.monotonic() + 30
    while engine.turns_away() is not None:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_the_announced_of_one_client_are_not_charged_to_another(start: Callable[..., Engine], stub: Stub) -> None:
    engine = start()
    held(engine, stub)
    while engine.announce("greedy") is None:
        pass
    assert engine.turns_away("greedy") == "share"
    assert [engine.announce("modest") for _ in range(2)] == [None, None]


def test_who_asks_for_a_dear_level_takes_the_room_it_needs(start: Callable[..., Engine], stub: Stub) -> None:
    engine = start()
    assert engine.search("idle", 1, 0.08, DEAR).answer.result(5).level == DEAR  # 50 ms of 80: who insists may be late
    held(engine, stub)
    admitted = 0
    with suppress(OverloadedError):
        while admitted < 200:
            engine.search("dear", 1, 0.5, DEAR)
            admitted += 1
    assert 1 < admitted <= 7  # 0.7 of the SLO at 50 ms each


def test_what_cannot_be_in_time_is_refused_at_once(start: Callable[..., Engine], stub: Stub) -> None:
    told = Told()
    engine = start(observer=told)
    held(engine, stub)
    admitted = 0
    with suppress(OverloadedError):
        while admitted < 200:
            engine.search("more", 1, 0.5)
            admitted += 1
    with pytest.raises(OverloadedError) as refused:
        engine.search("more", 1, 0.5)
    assert refused.value.retry_after_s >= 1
    assert engine.turns_away() == "overload"
    assert 40 < engine.state.queued < 100  # 0.7 of the SLO at 5 ms each, at the cheapest level
    assert told.gone == ["overload"] * 2


def test_modes(start: Callable[..., Engine], stub: Stub) -> None:
    told = Told()
    monitored = start(mode="monitor", observer=told)
    held(monitored, stub)
    waiting = [monitored.search(f"q{row}", 1, 0.6) for row in range(12)]
    stub.gate.set()
    assert {task.answer.result(5).level for task in waiting} == {DEAR}
    assert (CHEAP, DEAR) in told.levels
    fixed = start(mode=CHEAP)
    assert fixed.search("x", 1, 0.5).answer.result(5).level == CHEAP


def test_texts_are_read_only_where_somebody_wants_them(start: Callable[..., Engine], stub: Stub) -> None:
    engine = start()
    held(engine, stub)
    without = engine.search("without", 1, 0.5, text=False)
    stub.gate.set()
    without.answer.result(5)
    assert stub.texts == [True, False]


def test_a_failure_is_answered_and_the_next_is_served(start: Callable[..., Engine], stub: Stub) -> None:
    engine = start()
    stub.fails = True
    with pytest.raises(RuntimeError, match="memory"):
        engine.search("x", 1, 0.5).answer.result(5)
    with pytest.raises(ZeroDivisionError):
        engine.run(lambda _: 1 // 0, 0.5).answer.result(5)
    stub.fails = False
    assert engine.search("x", 1, 0.5).answer.result(5).level == DEAR


def test_a_swap_waits_for_the_batch_in_service(start: Callable[..., Engine], stub: Stub) -> None:
    engine, other = start(), Stub()
    held(engine, stub)
    swapping = threading.Thread(target=engine.swap, args=(other,))
    swapping.start()
    time.sleep(0.02)
    assert not stub.closed
    stub.gate.set()
    swapping.join(5)
    assert stub.closed
    engine.search("new", 1, 5.0).answer.result(5)
    assert other.asked == [(DEAR, ["new"])]


def test_a_swap_waits_for_no_batch_of_the_new_one(start: Callable[..., Engine], stub: Stub) -> None:
    engine, other = start(), Stub()
    held(engine, stub)
    for row in range(40):
        engine.search(f"q{row}", 1, 9.0, DEAR)
    other.at_work = lambda texts: time.sleep(0.02)
    swapping = threading.Thread(target=engine.swap, args=(other,))
    swapping.start()
    time.sleep(0.02)
    stub.gate.set()
    swapping.join(5)
    assert stub.closed
    assert len(other.asked) < 40


def test_a_long_job_gives_way_to_searches_and_ends_when_nobody_wants_it(
    start: Callable[..., Engine], stub: Stub
) -> None:
    engine = start()
    parts, begun = list[int](), threading.Event()

    def work(between: Callable[[], bool]) -> str:
        begun.set()
        for part in range(1000):
            assert not between()
            parts.append(part)
            time.sleep(0.005)
        return "done"

    job = engine.run(work, 20.0)
    begun.wait(5)
    assert [engine.search(text, 1, 1.0).answer.result(5).level for text in "ab"] == [DEAR, DEAR]
    assert not job.answer.done()
    job.abandon()
    engine.run(lambda between: between(), 5.0).answer.result(5)
    assert len(parts) < 1000
    late = engine.run(work, 0.1)
    with pytest.raises(InputError, match=r"0\.1 s of work were not enough"):
        late.answer.result(5)
    last = engine.run(work, 20.0)
    engine.close()
    with pytest.raises(OverloadedError, match="closing"):
        last.answer.result(0)


def in_parts(parts: int, seconds: float = 0.005) -> Callable[[Callable[[], bool]], str]:
    """Work for ``Engine.run``."""

    def work(between: Callable[[], bool]) -> str:
        for _ in range(parts):
            between()
            time.sleep(seconds)
        return "done"

    return work


@contextmanager
def searches_without_end(engine: Engine, seconds: float) -> Iterator[None]:
    """Eight or nine of them wait all the time, each due in ``seconds``."""
    ended = threading.Event()

    def ask_on() -> None:
        waiting = [engine.search("first", 1, seconds)]
        while not ended.is_set():
            with suppress(OverloadedError, ExpiredError):
                waiting.append(engine.search("more", 1, seconds))
                if len(waiting) > 8:
                    waiting.pop(0).answer.result(5)

    asking = threading.Thread(target=ask_on)
    asking.start()
    yield
    ended.set()
    asking.join(5)


def test_jobs_that_wait_take_no_quality_and_no_place_from_searches(start: Callable[..., Engine], stub: Stub) -> None:
    engine = start()
    jobs = [engine.run(in_parts(20), 60.0) for _ in range(300)]
    assert [engine.search("alone", 1, 0.5).answer.result(5).level for _ in range(3)] == [DEAR] * 3
    assert engine.turns_away() is None
    for job in jobs:
        job.abandon()


def test_jobs_get_on_however_many_searches_wait(start: Callable[..., Engine], stub: Stub) -> None:
    engine = start()
    stub.at_work = lambda texts: time.sleep(0.005)
    with searches_without_end(engine, 0.5):
        assert engine.run(in_parts(20), 60.0).answer.result(20) == "done"
        job = engine.run(in_parts(1000), 60.0)
        before = len(stub.asked)
        time.sleep(1)
        searched_s = 0.005 * (len(stub.asked) - before)
    job.abandon()
    assert searched_s > job.worked_s


def test_a_search_at_a_level_of_its_own_with_time_gives_way_to_the_others(
    start: Callable[..., Engine], stub: Stub
) -> None:
    engine, other = start(), Stub()
    stub.parts = 200
    slow = engine.search("long", 1, 60.0, ODD)
    while not stub.asked:
        time.sleep(0.001)
    assert [engine.search(text, 1, 0.5).answer.result(5).level for text in "ab"] == [DEAR, DEAR]
    swapping = threading.Thread(target=engine.swap, args=(other,))
    swapping.start()
    while engine.pipeline is stub:
        time.sleep(0.001)
    engine.search("new", 1, 0.5).answer.result(5)
    assert not slow.answer.done()
    assert not stub.closed
    assert slow.answer.result(20).level == ODD
    swapping.join(5)
    assert stub.closed
    assert [texts for _, texts in other.asked] == [["new"]]


def test_one_client_cannot_have_all_jobs(start: Callable[..., Engine], stub: Stub) -> None:
    engine = start()
    held(engine, stub)
    with suppress(OverShareError):
        for _ in range(2000):
            engine.run(in_parts(1), 60.0, client="greedy")
    modest = engine.run(in_parts(1), 60.0, client="modest")
    with pytest.raises(OverShareError):
        engine.run(in_parts(1), 60.0, client="greedy")
    assert engine.turns_away("greedy") is None
    engine.close(0)
    with pytest.raises(OverloadedError, match="closing"):
        modest.answer.result(5)


def test_a_search_at_a_level_of_its_own_goes_before_other_jobs(start: Callable[..., Engine], stub: Stub) -> None:
    engine = start()
    job = engine.run(in_parts(2000), 60.0)
    assert engine.search("long", 1, 1.0, ODD).answer.result(5).level == ODD
    assert engine.search("on the ladder", 1, 1.0, DEAR).answer.result(5).level == DEAR
    admitted = 0
    with suppress(OverloadedError):
        while admitted < 500:
            engine.search("long", 1, 1.0, ODD)
            admitted += 1
    assert 1 < admitted <= 14  # 0.7 of a second at the 50 ms of the dearest level
    job.abandon()


def test_a_part_of_a_job_is_no_reason_to_refuse_searches(start: Callable[..., Engine], stub: Stub) -> None:
    engine = start()
    job = engine.run(in_parts(2000, 0.1), 60.0)
    while job.worked_s < 0.3:
        time.sleep(0.01)
        assert engine.turns_away() is None
    job.abandon()


def test_jobs_have_a_fifth_however_short_their_parts(start: Callable[..., Engine], stub: Stub) -> None:
    engine = start()
    stub.at_work = lambda texts: time.sleep(0.05)
    with searches_without_end(engine, 5.0):
        job = engine.run(in_parts(10_000), 60.0)
        time.sleep(1)
        before = job.worked_s
        time.sleep(2)
        worked_s = job.worked_s - before
    job.abandon()
    assert 0.2 < worked_s < 0.7  # of 2 seconds


def test_an_urgent_search_makes_none_late_that_was_taken(start: Callable[..., Engine], stub: Stub) -> None:
    engine = start(clock=lambda: 100.0)
    held(engine, stub)
    with suppress(OverloadedError):
        while engine.state.queued < 2000:
            engine.search("patient", 1, 5.0)
    patient = engine.state.queued
    with suppress(OverloadedError):
        while engine.state.queued < 2000:
            engine.search("urgent", 1, 4.0)
    assert 600 < patient <= 700  # 0.7 of their time at 5 ms each
    assert 200 < engine.state.queued - patient <= 310  # and not 0.7 of 4 seconds


def test_a_panic_ends_no_more_than_what_it_came_from(start: Callable[..., Engine], stub: Stub) -> None:
    class PanicError(BaseException): ...

    def panics(_: object) -> None:
        raise PanicError("of a library in Rust")

    engine = start()
    with pytest.raises(BackendError, match="in Rust"):
        engine.run(panics, 5.0).answer.result(5)
    stub.at_work = panics
    with pytest.raises(BackendError, match="in Rust"):
        engine.search("x", 1, 0.5).answer.result(5)
    stub.at_work = lambda texts: None
    assert engine.search("x", 1, 0.5).answer.result(5).level == DEAR


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_an_engine_that_broke(start: Callable[..., Engine], stub: Stub) -> None:
    class Broken(Told):
        def chosen(self, wanted: Level, acting: Level) -> None:
            raise ZeroDivisionError

    engine = start(observer=Broken())
    with pytest.raises(OverloadedError, match="closing"):
        engine.search("x", 1, 0.5).answer.result(5)
    assert not engine.running
    with pytest.raises(OverloadedError, match="closing"):
        engine.search("x", 1, 0.5)


def test_a_fixed_level_is_no_less_than_what_was_asked_for(start: Callable[..., Engine], stub: Stub) -> None:
    start(mode=CHEAP).search("x", 1, 0.5).answer.result(5)
    assert stub.requested == [CHEAP]


def test_closing_answers_what_waits_and_refuses_what_comes(start: Callable[..., Engine], stub: Stub) -> None:
    engine = start()
    held(engine, stub)
    waiting = engine.search("waits", 1, 5.0)
    closing = threading.Thread(target=engine.close)
    closing.start()
    while engine.running:
        time.sleep(0.001)
    with pytest.raises(OverloadedError, match="closing"):
        engine.search("comes", 1, 5.0)
    stub.gate.set()
    closing.join(5)
    assert waiting.answer.result(1).level == DEAR
    assert stub.closed


def test_what_http_takes_counts_too(start: Callable[..., Engine]) -> None:
    observer = Told()
    engine = start(observer=observer)
    engine.search("a", 1, 0.1).answer.result(10)
    engine.add_overhead(0.05)
    engine.search("b", 1, 0.1).answer.result(10)
    assert [wanted for wanted, _ in observer.levels] == [DEAR, CHEAP]
    with pytest.raises(InputError):
        engine.search("c", 1, 0.001)
    with pytest.raises(OverloadedError):
        engine.search("d", 1, 0.06)
