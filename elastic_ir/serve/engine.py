"""``Engine``: one queue, one thread that owns the models, and a level for every batch."""

from __future__ import annotations

import logging
import math
import threading
import time
from bisect import insort
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from elastic_ir.errors import ExpiredError, InputError, OverloadedError, OverShareError
from elastic_ir.level import Level
from elastic_ir.pipeline import Hits, Pipeline
from elastic_ir.records import Query
from elastic_ir.schedule import Correction, DrainRule, Fixed, Ladder, Load, Policy
from elastic_ir.schedule.compare import admission_of

logger = logging.getLogger(__name__)

T = TypeVar("T")
Mode = Literal["enforce", "monitor"]
Refusal = Literal["overload", "share"]
"""Why a task is not taken: too much waits, or too much of this client."""
MOST_QUEUED = 10_000
SLOW_MOMENT_S = 0.01
"""Seconds that an idle service may need beside the search itself, to read and to write."""
CLIENTS_SHARE = 0.9
"""Of the room in the queue that those who wait may share: the rest is left to who comes next."""


class Observer(Protocol):
    """What the engine tells of its work; called with its lock held or from its thread, so it must be quick."""

    def batch(self, level: Level, size: int, seconds: float, stage_ms: dict[str, float]) -> None:
        """A batch was answered."""

    def waited(self, seconds: float) -> None:
        """A request waited so long for its batch."""

    def chosen(self, wanted: Level, acting: Level) -> None:
        """The policy wanted one level, and this one acts (another where the engine only monitors)."""

    def dropped(self, reason: str) -> None:
        """A request left the queue unanswered: ``deadline`` or ``abandoned``; or was refused: ``overload``, or
        ``share`` where only this client has too much in the queue."""


class Silent:
    """An observer that does not care."""

    def batch(self, level: Level, size: int, seconds: float, stage_ms: dict[str, float]) -> None:
        """Ignore it."""

    def waited(self, seconds: float) -> None:
        """Ignore it."""

    def chosen(self, wanted: Level, acting: Level) -> None:
        """Ignore it."""

    def dropped(self, reason: str) -> None:
        """Ignore it."""


@dataclass(eq=False)
class Task(Generic[T]):
    """Something in the queue.

    Attributes:
        arrived: seconds on the engine's clock.
        due: seconds on the same clock by which the answer must be there.
        client: who asks, such as an address; "" where that is not known.
        answer: what will be answered. Cancelling it takes the task out of the queue.
        abandoned: nobody waits any more; work on it may stop.
        waited_s: seconds in the queue, once it has left it.
    """

    arrived: float
    due: float
    client: str = ""
    answer: Future[T] = field(default_factory=Future)
    abandoned: bool = False
    waited_s: float = 0.0

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        self.abandoned = True
        self.answer.cancel()


@dataclass(eq=False, kw_only=True)
class Question(Task[Hits]):
    """A search: ``query``, its ``k`` hits, with ``text`` or not, and the ``level`` asked for exactly.

    None lets the engine choose the level.
    """

    query: str
    k: int
    level: Level | None
    text: bool


@dataclass(eq=False, kw_only=True)
class Job(Task[T]):
    """Other work for the thread that owns the models, done on its own."""

    work: Callable[[], T]


Queued = TypeVar("Queued", bound=Task[Any])


class State(NamedTuple):
    """What the engine is doing now: queued tasks, whether it is at work, the last level, the correction."""

    queued: int
    busy: bool
    level: Level
    correction: float


class Engine:
    """Serves what is queued in the order in which it is due: questions in batches, each at the level the policy takes.

    Nothing is awaited to fill a batch: while one is worked on, the next gathers. What has expired or been abandoned is
    dropped before any work; what even the cheapest level could not answer in time is refused on arrival.

    Args:
        pipeline: what searches; the engine closes it.
        ladder: measured levels and the SLO.
        mode: ``enforce``; ``monitor`` takes note of what it would do, and answers at the dearest level; a level is
            always that one.
        observer: told of everything.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        ladder: Ladder,
        mode: Mode | Level = "enforce",
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ladder, self.mode = ladder, mode
        self._pipeline, self._observer, self._clock = pipeline, observer or Silent(), clock
        self._use(ladder)
        self._idle_s = self._admission.wait(0, 0.0) / self._admission.share + SLOW_MOMENT_S
        self._queue: list[Task[Any]] = []
        self._clients: Counter[str] = Counter()
        self._announced: Counter[str] = Counter()
        self._queued_alone_s = 0.0
        self._changed = threading.Condition()
        self._correction, self._previous, self._late = Correction(), ladder.rungs[0].level, False
        self._formed, self._free_at = math.inf, 0.0
        self._busy = self._closing = False
        self._thread = threading.Thread(target=self._work, name="elastic-ir-engine", daemon=True)

    @property
    def state(self) -> State:
        """What it is doing now."""
        return State(len(self._queue), self._busy, self._previous, self._correction.value)

    @property
    def least_s(self) -> float:
        """Seconds: no shorter deadline is taken, since even an idle service might not keep it."""
        return 0.0 if self.mode == "monitor" else self._idle_s

    def turns_away(self, client: str = "") -> Refusal | None:
        """Why a question of ``client`` that is due in the SLO would be refused now; None if it would not."""
        return self._refusal(client, self._clock(), self._admission.share * self.ladder.slo_s)

    def announce(self, client: str) -> Refusal | None:
        """As ``turns_away``, of a question that comes when it is read.

        While the engine is at work it counts as queued from now on, so that no more are read at once than there is room
        for; at the latest until the next batch, for some never come.
        """
        refusal = self.turns_away(client)
        if refusal is None and self._busy:
            self._announced[client] += 1
        return refusal

    @property
    def running(self) -> bool:
        """Whether it takes questions."""
        return self._thread.is_alive() and not self._closing

    @property
    def pipeline(self) -> Pipeline:
        """What searches at this moment."""
        return self._pipeline

    def add_overhead(self, seconds: float) -> None:
        """Count with ``seconds`` more of the same core for each request, such as HTTP takes."""
        with self._changed:
            self._use(self.ladder.with_overhead(seconds))

    def _use(self, timed: Ladder) -> None:
        """Take levels by the times of ``timed``."""
        self._timed = timed
        self._policy: Policy = Fixed(self.mode) if isinstance(self.mode, Level) else DrainRule(timed)
        self._admission = admission_of(self._policy, timed)

    def start(self, warm_up: Sequence[str] = ()) -> None:
        """Answer each of ``warm_up`` once at every level, so that the first question pays for nothing, and begin."""
        for rung in self.ladder.rungs:
            queries = [Query(str(row), text) for row, text in enumerate(warm_up[: rung.max_batch])]
            if queries:
                self._pipeline.answers(queries, 10, rung.level, [rung.level] * len(queries), texts=True)
        self._thread.start()

    def search(
        self,
        query: str,
        k: int,
        seconds: float,
        level: Level | None = None,
        *,
        text: bool = True,
        client: str = "",
        late: float = 0.0,
    ) -> Question:
        """Queue a question that must be answered within ``seconds``, of which ``late`` have passed already; ``level``
        None lets the engine choose.

        A question that asks for its level is answered on its own: in a batch its scores would depend, in their last
        digits, on who else asks.

        Who waits for an answer shares the queue with the other clients that do, in equal parts.

        Raises:
            InputError: if even an idle service could not answer in ``seconds``.
            OverShareError: if this client has its part of the queue already.
            OverloadedError: if it could not be answered in time even at the cheapest level, or the engine is closing.
        """
        now = self._clock() - late
        question = Question(now, now + seconds, client, query=query, k=k, level=level, text=text)
        self._enqueue(question)
        return question

    def run(self, work: Callable[[], T], seconds: float, *, client: str = "") -> Job[T]:
        """Queue other work for the thread that owns the models.

        Raises:
            OverloadedError: as ``search``.
        """
        now = self._clock()
        job = Job(now, now + seconds, client, work=work)
        self._enqueue(job)
        return job

    def _enqueue(self, task: Task[Any]) -> None:
        with self._changed:
            if self._announced[task.client]:
                self._announced[task.client] -= 1
            now, given = self._clock(), task.due - task.arrived
            room = self._admission.share * given - (now - task.arrived)
            if given < self.least_s:
                wanted = f"an idle service needs {1000 * self.least_s:.3g} ms"
                raise InputError(f"a deadline of {1000 * given:.3g} ms cannot be kept; {wanted}")
            room -= self._alone_s(task)
            refusal = self._refusal(task.client, now, room)
            if refusal is not None:
                self._observer.dropped(refusal)
            if refusal == "overload":
                found = "the service is closing" if self._closing else f"{len(self._queue)} requests wait already"
                missing = self._wait(now, len(self._queue)) - room
                raise OverloadedError(f"{found}; come again later", max(1, math.ceil(missing)))
            if refusal == "share":
                raise OverShareError("this client's part of the queue is full; send less at once", 1)
            self._clients[task.client] += 1
            self._queued_alone_s += self._alone_s(task)
            insort(self._queue, task, key=lambda queued: queued.due)
            self._changed.notify()

    def swap(self, pipeline: Pipeline) -> None:
        """Search ``pipeline`` from the next batch on; the one before is closed when it is free."""
        with self._changed:
            before, self._pipeline = self._pipeline, pipeline
            while self._busy:
                self._changed.wait()
        before.close()

    def close(self, seconds: float = 10.0) -> None:
        """Refuse what comes, answer what waits, for at most ``seconds``, and end."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(seconds)
        with self._changed:
            left = self._queue
            self._keep([])
        for task in left:
            _fail(task, OverloadedError("the service is closing", 1))
        self._pipeline.close()

    def _refusal(self, client: str, now: float, room: float) -> Refusal | None:
        """Why no task of ``client`` is taken that ``room`` seconds of waiting and service are left for."""
        if self._closing or len(self._queue) >= MOST_QUEUED:
            return "overload"
        if self.mode == "monitor":
            return None
        queued, announced = self._clients, self._announced
        if self._wait(now, len(self._queue) + announced.total()) > room:
            return "overload"
        # the queue would be too long if all who wait had as much in it as this client has
        mine = queued[client] + announced[client] if client else 0
        shared = mine * len({*queued, *(who for who, count in announced.items() if count)})
        return "share" if mine > 0 and self._wait(now, shared) > CLIENTS_SHARE * room else None

    def _wait(self, now: float, queued: int) -> float:
        """Seconds until a question that arrives now, behind ``queued`` others, is answered at the cheapest level."""
        busy = max(0.0, self._free_at - now) if self._busy else 0.0
        correction = self._correction.at(now)
        return self._admission.wait(queued, busy + correction * self._queued_alone_s, correction)

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            pipeline, tasks = taken
            if isinstance(tasks, Job):
                self._do(tasks)
            else:
                self._answer(pipeline, *tasks)
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _take(self) -> tuple[Pipeline, Job[Any] | tuple[list[Question], Level]] | None:
        """The pipeline, and a job or a batch and its level; None at the end."""
        with self._changed:
            while True:
                self._drop()
                if not self._queue:
                    if self._closing:
                        return None
                    self._announced = Counter()
                    self._changed.wait()
                    continue
                head, now = self._queue[0], self._clock()
                if isinstance(head, Job):
                    if self._started(now, [head]):
                        self._formed = self._free_at = now
                        return self._pipeline, head
                    continue
                assert isinstance(head, Question)
                level = self._choose(now, head)
                rung = self._timed.rung(level)
                most = self.ladder.rungs[0].max_batch if rung is None else rung.max_batch
                alike = [task for task in self._queue if isinstance(task, Question) and task.level is None]
                batch = self._started(now, [head] if head.level is not None else alike[:most])
                if batch:
                    self._formed = now
                    self._free_at = now + (self._correction.value * rung.seconds[len(batch) - 1] if rung else 0.0)
                    return self._pipeline, (batch, level)

    def _started(self, now: float, tasks: list[Queued]) -> list[Queued]:
        """Take ``tasks`` out of the queue; those that are still wanted."""
        self._announced = Counter()
        self._keep([task for task in self._queue if task not in tasks])
        wanted = [task for task in tasks if task.answer.set_running_or_notify_cancel()]
        for task in wanted:
            task.waited_s = now - task.arrived
            self._observer.waited(task.waited_s)
        self._busy = bool(wanted)
        return wanted

    def _drop(self) -> None:
        """Take out what nobody waits for any more, and what is too late."""
        now, kept = self._clock(), []
        for task in self._queue:
            if task.answer.cancelled():
                self._observer.dropped("abandoned")
            elif task.due < now:
                self._observer.dropped("deadline")
                _fail(task, ExpiredError("the deadline passed before there was time to answer"))
            else:
                kept.append(task)
        self._keep(kept)

    def _keep(self, queue: list[Task[Any]]) -> None:
        self._queue, self._clients = queue, Counter(task.client for task in queue)
        self._queued_alone_s = sum(map(self._alone_s, queue))

    def _alone_s(self, task: Task[Any]) -> float:
        """Seconds that ``task`` takes on its own where it names its level; 0 where it shares a batch."""
        level = task.level if isinstance(task, Question) else None
        return 0.0 if level is None else (self._timed.rung(level) or self._timed.rungs[0]).seconds[0]

    def _choose(self, now: float, head: Question) -> Level:
        if head.level is not None:
            return head.level
        dearest = self.ladder.rungs[0].level
        deadlines = [task.due for task in self._queue]
        correction = self._correction.at(now)
        gathered = now - min(self._formed, *(task.arrived for task in self._queue))
        load = Load(len(deadlines), dearest, now, deadlines, gathered, correction, self._previous, self._late)
        wanted = self._policy(load)
        acting = dearest if self.mode == "monitor" else wanted
        self._observer.chosen(wanted, acting)
        return acting

    def _do(self, job: Job[Any]) -> None:
        try:
            job.answer.set_result(job.work())
        except Exception as exc:
            _fail(job, exc)

    def _answer(self, pipeline: Pipeline, batch: list[Question], level: Level) -> None:
        started = self._clock()
        queries = [Query(str(row), question.query) for row, question in enumerate(batch)]
        asked = self.ladder.rungs[0].level if batch[0].level is None else level
        left_ms = 1000 * (min(question.due for question in batch) - started)
        try:
            found = pipeline.answers(
                queries,
                max(question.k for question in batch),
                asked,
                [level] * len(batch),
                deadline_ms=max(1.0, left_ms),
                cancelled=lambda: all(question.abandoned for question in batch),
                texts=any(question.text for question in batch),
            )
        except Exception as exc:
            logger.warning("a batch of %d at %s failed: %s", len(batch), level, exc)
            for question in batch:
                _fail(question, exc)
            return
        self._free_at = ended = self._clock()
        for question, hits in zip(batch, found, strict=True):
            question.answer.set_result(hits)
        self._observer.batch(level, len(batch), ended - started, found[0].stage_ms)
        with self._changed:
            rung = self._timed.rung(level)
            if rung is not None and len(batch) <= rung.max_batch:
                self._correction.observe(ended, ended - started, rung.seconds[len(batch) - 1])
            self._late, self._previous = any(ended > question.due for question in batch), level


def _fail(task: Task[Any], error: Exception) -> None:
    if not task.answer.done():
        task.answer.set_exception(error)
