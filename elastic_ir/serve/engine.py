"""``Engine``: one queue, one thread that owns the models, and a level for every batch."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple, TypeVar

from elastic_ir.errors import ExpiredError, InputError, OverloadedError, OverShareError
from elastic_ir.level import Level
from elastic_ir.pipeline import Pipeline
from elastic_ir.records import Query
from elastic_ir.schedule import Correction, DrainRule, Fixed, Ladder, Load, Policy
from elastic_ir.schedule.compare import admission_of
from elastic_ir.serve.observer import Observer
from elastic_ir.serve.queue import Job, Question, Queue, Queued, Task
from elastic_ir.stage import ABANDONED

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


class State(NamedTuple):
    """What the engine is doing now: queued tasks, whether it is at work, the last level, the correction."""

    queued: int
    busy: bool
    level: Level
    correction: float


class Engine:
    """Serves what is queued in the order in which it is due: questions in batches, each at the level the policy takes.

    Nothing is awaited to fill a batch: while one is worked on, the next gathers. What has expired or been abandoned is
    dropped before any work, and what is abandoned later before its next step; what even the cheapest level could not
    answer in time is refused on arrival.

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
        self._pipeline, self._observer, self._clock = pipeline, observer or Observer(), clock
        self._use(ladder)
        self._idle_s = self._admission.wait(0, 0.0) / self._admission.share + SLOW_MOMENT_S
        self._queue = Queue(self._alone_s)
        self._changed = threading.Condition()
        self._correction, self._previous, self._late = Correction(), ladder.rungs[0].level, False
        self._formed, self._free_at = math.inf, 0.0
        self._busy = self._closing = False
        self._at_work = pipeline
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
            self._queue.announce(client)
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
        hung_up: Callable[[], bool] | None = None,
    ) -> Question:
        """Queue a question that must be answered within ``seconds``, of which ``late`` have passed already; ``level``
        None lets the engine choose.

        A question that asks for its level is answered on its own: in a batch its scores would depend, in their last
        digits, on who else asks.

        Before each step of the work ``hung_up``, where there is one, is asked whether who wants the answer has left.

        Who waits for an answer shares the queue with the other clients that do, in equal parts.

        Raises:
            InputError: if even an idle service could not answer in ``seconds``.
            OverShareError: if this client has its part of the queue already.
            OverloadedError: if it could not be answered in time even at the cheapest level, or the engine is closing.
        """
        now = self._clock() - late
        question = Question(now, now + seconds, client, hung_up=hung_up, query=query, k=k, level=level, text=text)
        self._enqueue(question)
        return question

    def run(
        self,
        work: Callable[[Callable[[], bool]], T],
        seconds: float,
        *,
        client: str = "",
        hung_up: Callable[[], bool] | None = None,
    ) -> Job[T]:
        """Queue other work for the thread that owns the models; ``client`` and ``hung_up`` as of ``search``.

        ``work`` must call what it is given before each of its parts: searches that wait are answered then. That returns
        False, or raises once nobody wants the rest.

        Raises:
            OverloadedError: as ``search``.
        """
        now = self._clock()
        job = Job(now, now + seconds, client, hung_up=hung_up, work=work)
        self._enqueue(job)
        return job

    def _enqueue(self, task: Task[Any]) -> None:
        with self._changed:
            self._queue.arrived(task.client)
            now, given = self._clock(), task.due - task.arrived
            room = self._admission.share * given - (now - task.arrived)
            if given < self.least_s:
                wanted = f"an idle service needs {1000 * self.least_s:.3g} ms"
                raise InputError(f"a deadline of {1000 * given:.3g} ms cannot be kept; {wanted}")
            refusal = self._refusal(task.client, now, room)
            if refusal is not None:
                self._observer.dropped(refusal)
            if refusal == "overload":
                found = "the service is closing" if self._closing else f"{len(self._queue)} requests wait already"
                missing = self._wait(now, len(self._queue)) - room
                raise OverloadedError(f"{found}; come again later", max(1, math.ceil(missing)))
            if refusal == "share":
                raise OverShareError("this client's part of the queue is full; send less at once", 1)
            self._queue.add(task)
            self._changed.notify()

    def swap(self, pipeline: Pipeline) -> None:
        """Search ``pipeline`` from the next batch on; the one before is closed when it is free."""
        with self._changed:
            before, self._pipeline = self._pipeline, pipeline
            while self._busy and self._at_work is before:
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
            left = self._queue.take(self._queue.tasks)
        for task in left:
            task.fail(OverloadedError("the service is closing", 1))
        self._pipeline.close()

    def _refusal(self, client: str, now: float, room: float) -> Refusal | None:
        """Why no task of ``client`` is taken that ``room`` seconds of waiting and service are left for."""
        if self._closing or len(self._queue) >= MOST_QUEUED:
            return "overload"
        if self.mode == "monitor":
            return None
        if self._wait(now, self._queue.expected) > room:
            return "overload"
        shared = self._queue.if_all_had_as_many(client)
        return "share" if shared and self._wait(now, shared) > CLIENTS_SHARE * room else None

    def _wait(self, now: float, queued: int) -> float:
        """Seconds until a question that arrives now, behind ``queued`` others, is answered at the cheapest level."""
        busy = max(0.0, self._free_at - now) if self._busy else 0.0
        correction = self._correction.at(now)
        return self._admission.wait(queued, busy + correction * self._queue.alone_s, correction)

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
                    self._queue.forget_announced()
                    self._changed.wait()
                    continue
                head, now = self._queue.tasks[0], self._clock()
                if isinstance(head, Question):
                    batch, level = self._batch(head, now)
                    if batch:
                        return self._pipeline, (batch, level)
                elif isinstance(head, Job) and self._started(now, [head]):
                    self._at_work = self._pipeline
                    self._formed = self._free_at = now
                    return self._pipeline, head

    def _batch(self, head: Question, now: float) -> tuple[list[Question], Level]:
        """``head``, what can be answered with it, and the level; nothing where nobody waits for it any more."""
        level = self._choose(now, head)
        rung = self._timed.rung(level)
        most = self.ladder.rungs[0].max_batch if rung is None else rung.max_batch
        alike = (task for task in self._queue.tasks if isinstance(task, Question) and task.level is None)
        batch = self._started(now, [head] if head.level is not None else list(islice(alike, most)))
        if batch:
            self._at_work, self._formed = self._pipeline, now
            self._free_at = now + (self._correction.value * rung.seconds[len(batch) - 1] if rung else 0.0)
        return batch, level

    def _between(self, job: Job[Any]) -> bool:
        """Answer the searches that wait before the next part of ``job``; always False.

        Raises:
            ExpiredError: once nobody waits for ``job``, or its time is over. OverloadedError: if the engine closes.
        """
        while True:
            if job.left or self._clock() > job.due:
                raise ExpiredError("the client has hung up, or the deadline passed")
            if self._closing:
                raise OverloadedError("the service is closing", 1)
            with self._changed:
                self._drop()
                head, now = self._queue.tasks[0] if self._queue else None, self._clock()
                batch, level = self._batch(head, now) if isinstance(head, Question) else ([], self._previous)
                pipeline, self._busy = self._pipeline, True
                if not isinstance(head, Question):
                    self._formed = self._free_at = now
                    return False
            if batch:
                self._answer(pipeline, batch, level)

    def _started(self, now: float, tasks: list[Queued]) -> list[Queued]:
        """Take ``tasks`` out of the queue; those that are still wanted."""
        self._queue.forget_announced()
        wanted = []
        for task in self._queue.take(tasks):
            if not task.answer.set_running_or_notify_cancel():
                self._observer.dropped("abandoned")
            elif task.left:
                task.abandoned = True
                self._observer.dropped("abandoned")
                task.fail(ExpiredError("the client has hung up"))
            else:
                task.waited_s = now - task.arrived
                self._observer.waited(task.waited_s)
                wanted.append(task)
        self._busy = bool(wanted)
        return wanted

    def _drop(self) -> None:
        """Take out what nobody waits for any more, and what is too late."""
        now = self._clock()
        for task in self._queue.take([task for task in self._queue.tasks if task.abandoned or task.due < now]):
            if task.abandoned:
                self._observer.dropped("abandoned")
            else:
                self._observer.dropped("deadline")
                task.fail(ExpiredError("the deadline passed before there was time to answer"))

    def _alone_s(self, task: Task[Any]) -> float:
        """Seconds that ``task`` takes on its own where it names its level; 0 where it shares a batch."""
        level = task.level if isinstance(task, Question) else None
        return 0.0 if level is None else (self._timed.rung(level) or self._timed.rungs[0]).seconds[0]

    def _choose(self, now: float, head: Question) -> Level:
        if head.level is not None:
            return head.level
        dearest = self.ladder.rungs[0].level
        deadlines = [task.due for task in self._queue.tasks]
        correction = self._correction.at(now)
        gathered = now - min(self._formed, *(task.arrived for task in self._queue.tasks))
        load = Load(len(deadlines), dearest, now, deadlines, gathered, correction, self._previous, self._late)
        wanted = self._policy(load)
        acting = dearest if self.mode == "monitor" else wanted
        self._observer.chosen(wanted, acting)
        return acting

    def _do(self, job: Job[Any]) -> None:
        try:
            job.answer.set_result(job.work(lambda: self._between(job)))
        except Exception as exc:
            job.fail(exc)

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
                abandoned=lambda query: batch[int(query.query_id)].left,
                texts=any(question.text for question in batch),
            )
        except Exception as exc:
            logger.warning("a batch of %d at %s failed: %s", len(batch), level, exc)
            for question in batch:
                question.fail(exc)
            return
        ended = self._clock()
        levels = Counter[Level]()
        for question, hits in zip(batch, found, strict=True):
            if hits.degraded is None or ABANDONED.reason not in hits.degraded.reasons:
                levels[hits.level] += 1
            else:
                question.abandoned = True
                self._observer.dropped("unfinished" if hits else "abandoned")
            question.answer.set_result(hits)
        if levels:
            self._observer.batch(levels, found[0].stage_ms)
        with self._changed:
            rung = self._timed.rung(level)
            # What stands in for a level that a client insists on says nothing of what the policy chooses from.
            telling = levels[level] if batch[0].level is not None else levels.total()
            if rung is not None and telling == len(batch) <= rung.max_batch:
                self._correction.observe(ended, ended - started, rung.seconds[len(batch) - 1])
            self._late, self._previous = any(ended > question.due for question in batch), level
