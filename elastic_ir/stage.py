"""``Stage``: one step of a pipeline, and what it is told about the moment."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from elastic_ir.level import Level
from elastic_ir.records import Ranking


def _never() -> bool:
    return False


@dataclass(frozen=True)
class SearchContext:
    """What belongs to the moment: how many hits, which level, until when, and whether anyone still waits.

    Attributes:
        k: hits wanted at the end, at least 1.
        level: operating point asked for; None leaves every stage at its own settings.
        deadline: ``time.monotonic()`` seconds after which partial work is returned; None means no limit.
        cancelled: asked between chunks of work; True stops it.
        latencies_ms: filled by the pipeline, stage name -> milliseconds for the whole batch.
    """

    k: int = 10
    level: Level | None = None
    deadline: float | None = None
    cancelled: Callable[[], bool] = _never
    latencies_ms: dict[str, float] = field(default_factory=dict)

    @property
    def expired(self) -> bool:
        """True when the deadline has passed or the caller has gone."""
        return self.cancelled() or (self.deadline is not None and time.monotonic() >= self.deadline)


class Stage(ABC):
    """One step of a pipeline: rankings in, rankings out, in the same query order.

    A stage keeps settings, never queries, so one object serves many threads. A first stage (a
    retriever) ignores the hits it is given.
    """

    name: str = "stage"

    @abstractmethod
    def __call__(self, rankings: Sequence[Ranking], context: SearchContext) -> list[Ranking]:
        """Return one ranking for each one given, in the same order; the input stays untouched."""

    def close(self) -> None:  # noqa: B027 - most stages hold nothing
        """Release processes and files held by this stage."""

    def __rshift__(self, then: Stage) -> Stage:
        """``a >> b``: b works on what a returns."""
        return Chain(self, then)

    def __mod__(self, k: int) -> Stage:
        """``a % k``: the first k hits of a."""
        return Chain(self, Cutoff(k))


class Chain(Stage):
    """``first`` and then ``second``; the time each leaf stage takes is noted in the context."""

    def __init__(self, first: Stage, second: Stage) -> None:
        self.first, self.second = first, second
        self.name = f"{first.name} >> {second.name}"

    def __call__(self, rankings: Sequence[Ranking], context: SearchContext) -> list[Ranking]:
        return timed(self.second, timed(self.first, rankings, context), context)

    def close(self) -> None:
        self.first.close()
        self.second.close()


class Cutoff(Stage):
    """The first ``k`` hits."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.name = f"top{k}"

    def __call__(self, rankings: Sequence[Ranking], context: SearchContext) -> list[Ranking]:
        return [ranking._replace(hits=ranking.hits[: self.k]) for ranking in rankings]


def timed(stage: Stage, rankings: Sequence[Ranking], context: SearchContext) -> list[Ranking]:
    """Run ``stage`` and add its milliseconds to ``context.latencies_ms`` under its name."""
    started = time.perf_counter()
    result = stage(rankings, context)
    if not isinstance(stage, Chain):
        elapsed = (time.perf_counter() - started) * 1000
        context.latencies_ms[stage.name] = context.latencies_ms.get(stage.name, 0.0) + elapsed
    return result
