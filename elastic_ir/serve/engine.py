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

from elastic_ir.errors import BackendError, ExpiredError, InputError, OverloadedError, OverShareError
from elastic_ir.level import Level
from elastic_ir.pipeline import Pipeline
from elastic_ir.records import Query
from elastic_ir.schedule import Correction, DrainRule, Fixed, Ladder, Load, Policy
from elastic_ir.schedule.compare import admission_of
from elastic_ir.serve.observer import Observer
from elastic_ir.serve.queue import Job, Question, Queue, Queued, Task
from elastic_ir.serve.share import JOBS_SHARE, Share
from elastic_ir.stage import ABANDONED, described

logger = logging.getLogger(__name__)

T = TypeVar("T")
Mode = Literal["enforce", "monitor"]
Refusal = Literal["overload", "share"]
"""Why a task is not taken: too much waits, or too much of this client."""
MOST_QUEUED, MOST_JOBS = 10_000, 1_000
PART_TOKENS = 256
"""Of a job, between which searches are answered."""
SLOW_MOMENT_S = 0.01
"""Seconds that an idle service may need beside the search itself, to read and to write."""
CLIENTS_SHARE = 0.9
"""Of the room in the queue that those who wait may share: the rest is left to who comes next."""


class State(NamedTuple):
    """What the engine is doing now: searches and jobs queued, whether it is at work, the last level, the correction."""

    queued: int
    busy: bool
    level: Level
    correction: float


class Batch(NamedTuple):
    """Questions that ``pipeline`` answers together at ``level``."""

    pipeline: Pipeline
    questions: Sequence[Question]
    level: Level


class Engine:
    """Serves what is queued in the order in which it is due: questions in batches, each at the level the policy takes.

    Nothing is awaited to fill a batch: while one is worked on, the next gathers. What has expired or been abandoned is
    dropped before any work, and what is abandoned later before its next step; what even the cheapest level could not
    answer in time is refused on arrival.

    Jobs stand in a queue of their own, and are done one by one in parts, between which searches are answered: all that
    wait, but for a fifth of the time. A question that names a level which the ladder has not, and has more time than
    the SLO, is such a job, and goes before those that are no searches.

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
        self._queue, self._jobs = Queue[Question](self._alone_s), Queue[Question | Job[Any]](self._alone_s)
        self._changed = threading.Condition()
        self._correction, self._previous, self._late = Correction(), ladder.rungs[0].level, False
        self._formed, self._free_at = math.inf, 0.0
        self._busy = self._closing = False
        self._at_work: list[Pipeline] = []
        self._job: Task[Any] | None = None
        self._share, self._forgot_at = Share(), 0.0
        self._thread = threading.Thread(target=self._work, name="elastic-ir-engine", daemon=True)

    @property
    def state(self) -> State:
        """What it is doing now."""
        return State(len(self._queue) + len(self._jobs), self._busy, self._previous, self._correction.value)

    @property
    def least_s(self) -> float:
        """Seconds: no shorter deadline is taken, since even an idle service might not keep it."""
        return 0.0 if self.mode == "monitor" else self._idle_s

    def turns_away(self, client: str = "") -> Refusal | None:
        """Why a question of ``client`` that is due in the SLO would be refused now; None if it would not."""
        now, slo_s = self._clock(), self.ladder.slo_s
        return self._refusal(client, now, now + slo_s, self._admission.share * slo_s)

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
        digits, on who else asks. With more ``seconds`` than the SLO, at a level that the ladder has not, it gives way
        to the others, as jobs do.

        Before each step of the work ``hung_up``, where there is one, is asked whether who wants the answer has left.

        Who waits for an answer shares the queue with the other clients that do, in equal parts.

        Raises:
            InputError: if even an idle service could not answer in ``seconds``.
            OverShareError: if this client has its part of the queue already.
            OverloadedError: if it could not be answered in time even at the cheapest level, or the engine is closing.
        """
        now = self._clock() - late
        question = Question(now, now + seconds, client, hung_up=hung_up, query=query, k=k, level=level, text=text)
        with self._changed:
            self._queue.arrived(client)
            if seconds < self.least_s:
                wanted = f"an idle service needs {1000 * self.least_s:.3g} ms"
                raise InputError(f"a deadline of {1000 * seconds:.3g} ms cannot be kept; {wanted}")
            now = self._clock()
            room = self._admission.share * seconds - (now - question.arrived)
            if level is not None and self._timed.rung(level) is None and seconds > self.ladder.slo_s:
                self._add_job(question, room)
                return question
            refusal = self._refusal(client, now, question.due, room)
            if refusal is not None:
                missing = self._wait(now, len(self._queue), self._queue.alone_s) - room
                raise self._refused(refusal, len(self._queue), max(1, math.ceil(missing)))
            self._queue.add(question)
            self._changed.notify()
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
            OverShareError, OverloadedError: if as many jobs wait already, of this client or of all.
        """
        now = self._clock()
        job = Job(now, now + seconds, client, hung_up=hung_up, work=work)
        with self._changed:
            self._add_job(job, self._admission.share * seconds)
        return job

    def _add_job(self, job: Question | Job[Any], room: float) -> None:
        refusal: Refusal | None = None
        searching_s = self._jobs.ahead_of(job.due)[1] + self._alone_s(job)
        if self._closing or len(self._jobs) >= MOST_JOBS or self._pace(self._clock()) * searching_s > room:
            refusal = "overload"
        elif self._jobs.if_all_had_as_many(job.client) > CLIENTS_SHARE * MOST_JOBS:
            refusal = "share"
        if refusal is not None:
            raise self._refused(refusal, len(self._jobs), 1)
        self._jobs.add(job)
        self._changed.notify()

    def _refused(self, refusal: Refusal, waiting: int, retry_after_s: int) -> OverloadedError:
        self._observer.dropped(refusal)
        if refusal == "share":
            return OverShareError("this client's part of the queue is full; send less at once", 1)
        found = "the service is closing" if self._closing else f"{waiting} requests wait already"
        return OverloadedError(f"{found}; come again later", retry_after_s)

    def swap(self, pipeline: Pipeline) -> None:
        """Search ``pipeline`` from the next batch on; the one before is closed when it is free."""
        with self._changed:
            before, self._pipeline = self._pipeline, pipeline
            while before in self._at_work:
                self._changed.wait()
        before.close()

    def close(self, seconds: float = 10.0) -> None:
        """Refuse what comes, answer what waits, for at most ``seconds``, and end."""
        self.refuse()
        if self._thread.is_alive():
            self._thread.join(seconds)
        self._fail_all()
        self._pipeline.close()

    def refuse(self) -> None:
        """Refuse what comes from now on, and what is left of the jobs; answer the searches that wait, and end."""
        with self._changed:
            self._closing = True
            jobs = self._jobs.take(self._jobs.tasks)
            self._changed.notify_all()
        for job in jobs:
            job.fail(_ending())

    def _refusal(self, client: str, now: float, due: float, room: float) -> Refusal | None:
        """Why no search of ``client`` is taken that is ``due`` then, with ``room`` seconds for waiting and service."""
        if self._closing or len(self._queue) >= MOST_QUEUED:
            return "overload"
        if self.mode == "monitor":
            return None
        ahead, alone_s = self._queue.ahead_of(due)
        if self._wait(now, ahead, alone_s) > room or self._makes_late(now, due):
            return "overload"
        shared = self._queue.if_all_had_as_many(client)
        return "share" if shared and self._wait(now, shared, alone_s) > CLIENTS_SHARE * room else None

    def _makes_late(self, now: float, due: float) -> bool:
        """Whether a search taken before ``due`` makes one late that was taken before it and is due later."""
        later = self._queue.due_after(due)
        step = self._timed.rungs[-1].max_batch
        ahead, alone_s = self._queue.ahead_of(math.inf)
        first = ahead - len(later)
        return any(
            self._wait(now, first + place + 1, alone_s) > task.due - now for place, task in [*enumerate(later)][::step]
        )

    def _wait(self, now: float, ahead: int, alone_s: float) -> float:
        """Seconds until a question that arrives now is answered at the cheapest level, behind ``ahead`` others and
        those that are answered on their own in ``alone_s``."""
        busy = max(0.0, self._free_at - now) if self._busy else 0.0
        pace = self._pace(now)
        return self._admission.wait(ahead, busy + pace * alone_s, pace)

    def _pace(self, now: float) -> float:
        """Seconds that searches need for one of the ladder's, with what jobs take of the time."""
        correction = self._correction.at(now)
        return correction / (1 - JOBS_SHARE) if self._job or self._jobs else correction

    def _work(self) -> None:
        try:
            while (taken := self._take()) is not None:
                started = self._clock()
                if isinstance(taken, Batch):
                    self._answer(taken)
                else:
                    self._do(taken)
                if self._job is not None:
                    self._count_part(self._job)
                else:
                    self._share.owed_s = max(0.0, self._share.owed_s - (self._clock() - started))
                with self._changed:
                    self._busy, self._job = False, None
        finally:  # nobody is to wait for what will never be answered
            self._closing = True
            self._fail_all()

    def _fail_all(self) -> None:
        with self._changed:
            left = [*self._queue.take(self._queue.tasks), *self._jobs.take(self._jobs.tasks)]
        for task in left:
            task.fail(_ending())

    def _take(self) -> Batch | Job[Any] | None:
        """What waits: a job, which gives way to searches itself, before a batch of these; None at the end."""
        with self._changed:
            while True:
                self._drop()
                now = self._clock()
                if self._jobs:
                    for job in self._started(self._jobs, self._jobs.tasks[:1], now):
                        self._job, self._busy = job, True
                        self._formed = self._free_at = now
                        self._share.begin(now)
                        return job if isinstance(job, Job) else self._with_pipeline([job], self._choose(now, job))
                elif self._queue:
                    if (batch := self._batch(now)) is not None:
                        return batch
                elif self._closing:
                    return None
                else:
                    self._forget_announced(now)
                    self._changed.wait()

    def _batch(self, now: float) -> Batch | None:
        """The most urgent search, what can be answered with it, and the level; None where they have all left."""
        head = self._queue.tasks[0]
        level = self._choose(now, head)
        rung = self._timed.rung(level)
        most = self.ladder.rungs[0].max_batch if rung is None else rung.max_batch
        alike = (task for task in self._queue.tasks if task.level is None)
        questions = self._started(self._queue, [head] if head.level is not None else list(islice(alike, most)), now)
        if not questions:
            return None
        self._busy, self._formed = True, now
        self._free_at = now + (self._correction.value * rung.seconds[len(questions) - 1] if rung else 0.0)
        return self._with_pipeline(questions, level)

    def _with_pipeline(self, questions: Sequence[Question], level: Level) -> Batch:
        self._at_work.append(self._pipeline)
        return Batch(self._pipeline, questions, level)

    def _give_way(self, job: Task[Any]) -> None:
        """Answer the searches that wait, until the next part of ``job`` has its turn, or nobody wants it."""
        self._count_part(job)
        while not job.left and self._clock() <= job.due and (batch := self._ahead_of(job)) is not None:
            started = self._clock()
            self._answer(batch)
            if batch.questions[0] is self._job:  # a job itself, which has counted its parts but the last
                self._count_part(batch.questions[0])
                self._job = job
            else:
                self._share.owed_s -= self._clock() - started
        self._share.begin(self._clock())

    def _ahead_of(self, job: Task[Any]) -> Batch | None:
        """The next batch of searches, or a search that is a job itself and more urgent; None where it is its turn."""
        with self._changed:
            while True:
                self._drop()
                now = self._clock()
                if self._queue and self._share.owed_s > 0:
                    if (batch := self._batch(now)) is not None:
                        return batch
                    continue
                head = self._jobs.tasks[0] if self._jobs and isinstance(job, Job) else None
                if isinstance(head, Question) and head.due < job.due:
                    if self._started(self._jobs, [head], now):
                        self._job = head
                        self._share.begin(now)
                        return self._with_pipeline([head], self._choose(now, head))
                    continue
                if not self._queue:
                    self._share.owed_s = 0.0
                    if now > self._forgot_at + self.ladder.slo_s:
                        self._forget_announced(now)
                margin_s = (1 - self._admission.share) * self.ladder.slo_s
                self._formed, self._free_at = now, now + max(0.0, self._share.part_s - margin_s)
                return None

    def _count_part(self, job: Task[Any]) -> None:
        job.worked_s += self._share.end(self._clock())

    def _between(self, job: Job[Any]) -> bool:
        """Give way before the next part of ``job``; always False.

        Raises:
            InputError: if its time is over, and went into work on it. ExpiredError: if its time is over for others, or
                nobody waits for it. OverloadedError: if the engine closes.
        """
        if self._closing:
            raise _ending()
        self._give_way(job)
        if job.left:
            raise ExpiredError("the client has hung up")
        if self._clock() > job.due:
            given = job.due - job.arrived
            if job.worked_s > given / 2:
                raise InputError(f"{given:.3g} s of work were not enough for all that was sent; send less at once")
            raise ExpiredError("the deadline passed: searches took the time")
        return False

    def _started(self, queue: Queue[Queued], tasks: Sequence[Queued], now: float) -> list[Queued]:
        """Take ``tasks`` out of their queue; those that are still wanted."""
        self._forget_announced(now)
        wanted = []
        for task in queue.take(tasks):
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
        return wanted

    def _forget_announced(self, now: float) -> None:
        self._queue.forget_announced()
        self._forgot_at = now

    def _drop(self) -> None:
        """Take out what nobody waits for any more, and what is too late."""
        self._drop_of(self._queue)
        self._drop_of(self._jobs)

    def _drop_of(self, queue: Queue[Queued]) -> None:
        now = self._clock()
        for task in queue.take([task for task in queue.tasks if task.abandoned or task.due < now]):
            if task.abandoned:
                self._observer.dropped("abandoned")
            else:
                self._observer.dropped("deadline")
                task.fail(ExpiredError("the deadline passed before there was time to answer"))

    def _alone_s(self, task: Question | Job[Any]) -> float:
        """Seconds that a question takes on its own where it names its level; 0 of what shares a batch, and of jobs."""
        level = task.level if isinstance(task, Question) else None
        return 0.0 if level is None else (self._timed.rung(level) or self._timed.rungs[0]).seconds[0]

    def _choose(self, now: float, head: Question) -> Level:
        if head.level is not None:
            return head.level
        dearest = self.ladder.rungs[0].level
        deadlines = [task.due for task in self._queue.tasks]
        gathered = now - min(self._formed, *(task.arrived for task in self._queue.tasks))
        load = Load(len(deadlines), dearest, now, deadlines, gathered, self._pace(now), self._previous, self._late)
        wanted = self._policy(load)
        acting = dearest if self.mode == "monitor" else wanted
        self._observer.chosen(wanted, acting)
        return acting

    def _do(self, job: Job[Any]) -> None:
        try:
            job.answer.set_result(job.work(lambda: self._between(job)))
        except BaseException as exc:
            job.fail(_error(exc))

    def _answer(self, batch: Batch) -> None:
        try:
            self._search(batch)
        except BaseException as exc:  # what is written in Rust panics so
            logger.warning("a batch of %d at %s failed: %s", len(batch.questions), batch.level, exc)
            for question in batch.questions:
                question.fail(_error(exc))
        finally:
            with self._changed:
                self._at_work.remove(batch.pipeline)
                self._changed.notify_all()

    def _search(self, batch: Batch) -> None:
        pipeline, questions, level = batch
        started = self._clock()
        queries = [Query(str(row), question.query) for row, question in enumerate(questions)]
        named, is_job = questions[0].level is not None, questions[0] is self._job
        dearest = not named and not isinstance(self.mode, Level)

        def left(query: Query) -> bool:
            question = questions[int(query.query_id)]
            if is_job:
                self._give_way(question)
            return question.left or (is_job and self._closing)

        found = pipeline.answers(
            queries,
            max(question.k for question in questions),
            self.ladder.rungs[0].level if dearest else level,
            [level] * len(questions),
            deadline_ms=max(1.0, 1000 * (min(question.due for question in questions) - started)),
            abandoned=left,
            chunk_tokens=PART_TOKENS if is_job else None,
            texts=any(question.text for question in questions),
        )
        if is_job and self._closing:
            raise _ending()
        ended = self._clock()
        levels = Counter[Level]()
        for question, hits in zip(questions, found, strict=True):
            if hits.degraded is None or ABANDONED.reason not in hits.degraded.reasons:
                levels[hits.level] += 1
            else:
                question.abandoned = True
                self._observer.dropped("unfinished" if hits else "abandoned")
            question.answer.set_result(hits)
        if levels:
            self._observer.batch(levels, {} if is_job else found[0].stage_ms)
        if is_job:
            return
        with self._changed:
            rung = self._timed.rung(level)
            # What stands in for a level that a client insists on says nothing of what the policy chooses from.
            telling = levels[level] if named else levels.total()
            if rung is not None and telling == len(questions) <= rung.max_batch:
                self._correction.observe(ended, ended - started, rung.seconds[len(questions) - 1])
            self._late, self._previous = any(ended > question.due for question in questions), level


def _ending() -> OverloadedError:
    return OverloadedError("the service is closing", 1)


def _error(exc: BaseException) -> Exception:
    return exc if isinstance(exc, Exception) else BackendError(described(exc))
