"""What waits for the engine: tasks by when they are due, and whose they are."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from elastic_ir.answer import Hits
from elastic_ir.level import Level

T = TypeVar("T")
Queued = TypeVar("Queued", bound="Task[Any]")


@dataclass(eq=False)
class Task(Generic[T]):
    """Something in the queue.

    Attributes:
        arrived: seconds on the engine's clock.
        due: seconds on the same clock by which the answer must be there.
        client: who asks, such as an address; "" where that is not known.
        answer: what will be answered. Cancelling it takes the task out of the queue when its turn comes.
        abandoned: nobody waits any more; work on it may stop.
        hung_up: tells whether who asked has left, before ``abandoned`` does; None where that cannot be known.
        waited_s: seconds in the queue, once it has left it.
        worked_s: seconds of work on it so far, where it is done in parts.
    """

    arrived: float
    due: float
    client: str = ""
    answer: Future[T] = field(default_factory=Future)
    abandoned: bool = False
    waited_s: float = 0.0
    worked_s: float = 0.0
    hung_up: Callable[[], bool] | None = None

    @property
    def left(self) -> bool:
        """Whether nobody waits for it."""
        return self.abandoned or (self.hung_up is not None and self.hung_up())

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        self.abandoned = True
        self.answer.cancel()

    def fail(self, error: Exception) -> None:
        """Answer with ``error``, where nothing was answered yet."""
        with suppress(InvalidStateError):  # answered, or cancelled by the event loop this moment
            self.answer.set_exception(error)


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
    """Other work for the thread that owns the models: ``work`` calls what it is given before each of its parts."""

    work: Callable[[Callable[[], bool]], T]


class Queue(Generic[Queued]):
    """Tasks, the most urgent first, and what admission must know of them.

    Changed under the engine's lock, but for announcements, which are the event loop's. Reading needs no lock.

    Args:
        alone: seconds that a task takes on its own; 0 where it shares a batch.

    Attributes:
        tasks: by when they are due.
        alone_s: seconds that those take which are answered on their own.
    """

    def __init__(self, alone: Callable[[Queued], float]) -> None:
        self._alone = alone
        self.tasks: list[Queued] = []
        self.alone_s = 0.0
        self._clients: Counter[str] = Counter()
        self._announced: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self.tasks)

    def ahead_of(self, due: float) -> tuple[int, float]:
        """Tasks here that are due no later, and those announced; seconds that those take which are answered alone."""
        tasks = self.tasks
        count = bisect_right(tasks, due, key=lambda task: task.due)
        alone_s = sum(map(self._alone, tasks[:count])) if self.alone_s else 0.0
        return count + self._announced.total(), alone_s

    def due_after(self, due: float) -> Sequence[Queued]:
        """Tasks here that are due later."""
        tasks = self.tasks
        return tasks[bisect_right(tasks, due, key=lambda task: task.due) :]

    def if_all_had_as_many(self, client: str) -> int:
        """How many would wait if every client that waits had as many tasks here, or announced, as ``client`` has."""
        clients, announced = self._clients, self._announced
        mine = clients[client] + announced[client] if client else 0
        return mine * len({*clients, *(who for who, count in announced.items() if count)})

    def announce(self, client: str) -> None:
        """A task of ``client`` is about to come."""
        self._announced[client] += 1

    def arrived(self, client: str) -> None:
        """One that may have been announced is here, to be taken or refused."""
        if self._announced[client]:
            self._announced[client] -= 1

    def forget_announced(self) -> None:
        """Those that were announced and did not come count no more."""
        self._announced = Counter()

    def add(self, task: Queued) -> None:
        """Put ``task`` where it is due."""
        self._clients[task.client] += 1
        self.alone_s += self._alone(task)
        insort(self.tasks, task, key=lambda queued: queued.due)

    def take(self, tasks: Sequence[Queued]) -> Sequence[Queued]:
        """``tasks``, which are here no more."""
        if tasks:
            gone = set(map(id, tasks))
            self.tasks = [task for task in self.tasks if id(task) not in gone]
            self._clients -= Counter(task.client for task in tasks)
            self.alone_s = sum(map(self._alone, self.tasks)) if self.alone_s else 0.0
        return tasks
