"""``Stage``: one step of a pipeline, and what it is told about the moment."""

from __future__ import annotations

import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from elastic_ir.errors import BackendError, ConfigError, InputError, nearest
from elastic_ir.fusion import FUSIONS, fused_head
from elastic_ir.level import Level
from elastic_ir.records import Degradation, Query, Ranking

logger = logging.getLogger(__name__)

ABANDONED = Degradation("abandoned", "pipeline", "nobody waits for it")


def _never(_: Query | None = None) -> bool:
    return False


@dataclass(frozen=True)
class SearchContext:
    """What belongs to the moment: how many hits, which level, until when, and whether anyone still waits.

    Attributes:
        k: hits wanted at the end, at least 1.
        level: operating point asked for; None leaves every stage at its own settings.
        deadline: ``time.monotonic()`` seconds after which partial work is returned; None means no limit.
        cancelled: asked between chunks of work; True stops it, and the best so far is returned.
        abandoned: asked between steps; nothing more is done for a query of which it is True.
        chunk_tokens: tokens worked on between two such questions; None: as many as are fast.
        latencies_ms: filled by the pipeline, stage name -> milliseconds for the whole batch.
    """

    k: int = 10
    level: Level | None = None
    deadline: float | None = None
    cancelled: Callable[[], bool] = _never
    abandoned: Callable[[Query], bool] = _never
    chunk_tokens: int | None = None
    latencies_ms: dict[str, float] = field(default_factory=dict)

    @property
    def expired(self) -> bool:
        """True when the deadline has passed or the caller has gone."""
        return self.cancelled() or (self.deadline is not None and time.monotonic() >= self.deadline)


class Stage(ABC):
    """One step of a pipeline: rankings in, rankings out, in the same query order.

    A stage keeps settings, never queries, so one object serves many threads. A first stage (a
    retriever) ignores the hits it is given.

    Attributes:
        name: what notes and latencies are filed under.
        composite: True for a stage that only arranges others; its parts are timed, it is not.
    """

    name: str = "stage"
    composite: bool = False

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

    def __mul__(self, weight: float) -> Stage:
        """``0.3 * a``: a with its scores weighted, which matters in a sum."""
        return Weighted(self, weight)

    __rmul__ = __mul__

    def __add__(self, other: Stage) -> Stage:
        """``0.3 * a + 0.7 * b``: the weighted fusion of a and b; a weight not given is 1."""
        stages, weights = zip(*_terms(self), *_terms(other), strict=True)
        return Fusion(stages, weights=weights)


class Chain(Stage):
    """``first`` and then ``second``; the time each leaf stage takes is noted in the context."""

    composite = True

    def __init__(self, first: Stage, second: Stage) -> None:
        self.first, self.second = first, second
        self.name = f"{first.name} >> {second.name}"

    def __call__(self, rankings: Sequence[Ranking], context: SearchContext) -> list[Ranking]:
        return timed(self.second, timed(self.first, rankings, context), context)

    def close(self) -> None:
        self.first.close()
        self.second.close()


class Cutoff(Stage):
    """The first ``k`` hits.

    Raises:
        ConfigError: if ``k`` is less than 1.
    """

    def __init__(self, k: int) -> None:
        if k < 1:
            raise ConfigError(f"a cutoff at {k} hits; wanted at least 1")
        self.k = k
        self.name = f"top{k}"

    def __call__(self, rankings: Sequence[Ranking], context: SearchContext) -> list[Ranking]:
        return [ranking._replace(hits=ranking.hits[: self.k]) for ranking in rankings]


class Weighted(Stage):
    """``stage`` with its scores multiplied by ``weight``.

    Raises:
        ConfigError: if the weight is negative or not finite.
    """

    composite = True

    def __init__(self, stage: Stage, weight: float) -> None:
        self.stage, self.weight = stage, _checked(weight)
        self.name = f"{weight:g} * {stage.name}"

    def __call__(self, rankings: Sequence[Ranking], context: SearchContext) -> list[Ranking]:
        return [
            ranking._replace(hits=tuple(hit._replace(score=self.weight * hit.score) for hit in ranking.hits))
            for ranking in timed(self.stage, rankings, context)
        ]

    def close(self) -> None:
        self.stage.close()

    def __mul__(self, weight: float) -> Stage:
        return Weighted(self.stage, self.weight * weight)

    __rmul__ = __mul__


class Fusion(Stage):
    """Several stages, each given the same rankings, and their results made into one per query.

    What one stage notes as degraded, the result carries. Where the others may answer for it, a stage that fails adds
    nothing, and its rankings are noted as degraded: ``dense_down`` for a stage named ``dense``. An ``InputError`` is
    the caller's mistake and goes to the caller.

    Args:
        stages: at least one.
        method: ``weighted`` (scores spread over [0, 1], then summed) or ``rrf`` (reciprocal ranks).
        weights: one for each stage, at least 0; None weighs all alike.
        depth: hits of each stage that are fused, whatever else they find being listed below, so that the order does not
            depend on how many hits are wanted; None fuses all.
        fallback: the others answer where a stage fails; False lets its error through.

    Raises:
        ConfigError: if the method is unknown, or stages, weights and depth are not as above.
        BackendError: on a call, if all stages fail.
    """

    composite = True

    def __init__(
        self,
        stages: Sequence[Stage],
        *,
        method: str = "weighted",
        weights: Sequence[float] | None = None,
        depth: int | None = None,
        fallback: bool = True,
    ) -> None:
        if method not in FUSIONS:
            raise ConfigError(f"unknown fusion method {method!r}{nearest(method, FUSIONS)}")
        if depth is not None and depth < 1:
            raise ConfigError(f"fusion of {depth} hits of each stage; wanted at least 1")
        self.stages, self.method, self.depth, self.fallback = tuple(stages), method, depth, fallback
        weights = [1.0] * len(self.stages) if weights is None else weights
        self.weights = tuple(_checked(weight) for weight in weights)
        if not self.stages or len(self.stages) != len(self.weights):
            raise ConfigError(
                f"fusion of {len(self.stages)} stages with {len(self.weights)} weights; "
                "wanted at least one stage and a weight for each"
            )
        self.name = f"{method}({', '.join(stage.name for stage in self.stages)})"

    def __call__(self, rankings: Sequence[Ranking], context: SearchContext) -> list[Ranking]:
        branches, failures = [], []
        for stage in self.stages:
            try:
                branches.append(timed(stage, rankings, context))
            except InputError:
                raise
            except Exception as exc:
                if not self.fallback:
                    raise
                logger.warning("%s failed, the others answer: %s", stage.name, described(exc))
                branches.append(_down(stage, exc, rankings))
                failures.append(exc)
        if len(failures) == len(self.stages):
            each = zip(self.stages, failures, strict=True)
            said = ", ".join(f"{stage.name} failed ({described(exc)})" for stage, exc in each)
            raise BackendError(f"nothing is left to fuse: {said}") from failures[-1]
        fuse = FUSIONS[self.method]
        if self.depth is None:
            return [fuse(branch, self.weights) for branch in zip(*branches, strict=True)]
        return [fused_head(fuse, branch, self.weights, self.depth) for branch in zip(*branches, strict=True)]

    def close(self) -> None:
        for stage in self.stages:
            stage.close()


def _down(stage: Stage, error: Exception, rankings: Sequence[Ranking]) -> list[Ranking]:
    """What a stage that failed adds: no hits, and the reason."""
    note = Degradation(f"{stage.name}_down", stage.name, str(error) or type(error).__name__)
    return [ranking._replace(hits=(), degraded=(*ranking.degraded, note)) for ranking in rankings]


def described(error: BaseException) -> str:
    """Class and message."""
    return f"{type(error).__name__}: {error}"


def _terms(stage: Stage) -> list[tuple[Stage, float]]:
    """What ``stage`` adds to a sum: ``a + b + c`` is one fusion of three."""
    if isinstance(stage, Weighted):
        return [(stage.stage, stage.weight)]
    if isinstance(stage, Fusion) and stage.method == "weighted":
        return list(zip(stage.stages, stage.weights, strict=True))
    return [(stage, 1.0)]


def _checked(weight: float) -> float:
    if not (math.isfinite(weight) and weight >= 0):
        raise ConfigError(f"weight {weight} of a stage; wanted a number of at least 0")
    return weight


def timed(stage: Stage, rankings: Sequence[Ranking], context: SearchContext) -> list[Ranking]:
    """Run ``stage`` on what somebody waits for; add its milliseconds to ``context.latencies_ms`` under its name."""
    if stage.composite:
        return stage(rankings, context)
    started = time.perf_counter()
    result = for_those_waiting(lambda waiting: stage(waiting, context), rankings, context)
    elapsed = (time.perf_counter() - started) * 1000
    context.latencies_ms[stage.name] = context.latencies_ms.get(stage.name, 0.0) + elapsed
    return result


def for_those_waiting(
    work: Callable[[Sequence[Ranking]], list[Ranking]], rankings: Sequence[Ranking], context: SearchContext
) -> list[Ranking]:
    """``work`` on the rankings that were not abandoned, if any; the others come back as they are, with a note."""
    gone = [context.abandoned(ranking.query) for ranking in rankings]
    if not any(gone):
        return work(rankings)
    waiting = [ranking for ranking, its in zip(rankings, gone, strict=True) if not its]
    done = iter(work(waiting) if waiting else ())
    return [left(ranking) if its else next(done) for ranking, its in zip(rankings, gone, strict=True)]


def left(ranking: Ranking) -> Ranking:
    """``ranking`` with the note that nobody waits for it."""
    return ranking if ABANDONED in ranking.degraded else ranking._replace(degraded=(*ranking.degraded, ABANDONED))
