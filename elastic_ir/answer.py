"""``Hits``: the answer to one query, the level that really gave it, and what it lacks of what was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, overload

from elastic_ir.errors import BackendError
from elastic_ir.level import Level
from elastic_ir.records import Degradation, Hit, Query, Ranking
from elastic_ir.subnet import Subnet


class Degraded(NamedTuple):
    """Why an answer is less than what was asked for.

    ``reasons`` are words of ``records.Degradation``; ``candidates`` were retrieved; ``detail`` is for people.
    """

    reasons: tuple[str, ...]
    level: Level
    requested_level: Level
    candidates: int
    detail: str

    def plain(self) -> dict[str, Any]:
        """Itself as JSON can say it."""
        levels = {"level": str(self.level), "requested_level": str(self.requested_level)}
        return {**self._asdict(), "reasons": list(self.reasons), **levels}


class Hits(Sequence[Hit]):
    """The answer to one query: hits, best first, and how they came about.

    Attributes:
        query: as searched.
        level: operating point that answered.
        degraded: None when everything asked for was done.
        latency_ms: wall-clock milliseconds of the whole search.
        stage_ms: stage name -> milliseconds.
        generation: number of the index generation that answered.
    """

    def __init__(
        self,
        query: Query,
        hits: Sequence[Hit],
        level: Level,
        degraded: Degraded | None,
        latency_ms: float,
        stage_ms: Mapping[str, float],
        generation: int,
    ) -> None:
        self.query, self._hits, self.level, self.degraded = query, tuple(hits), level, degraded
        self.latency_ms, self.stage_ms, self.generation = latency_ms, dict(stage_ms), generation

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Hit]: ...
    def __getitem__(self, index: int | slice) -> Hit | Sequence[Hit]:
        return self._hits[index]

    def __len__(self) -> int:
        return len(self._hits)

    def __repr__(self) -> str:
        note = f", degraded={self.degraded.reasons}" if self.degraded else ""
        return f"Hits({len(self)} for {self.query.text!r}, level={self.level}, latency_ms={self.latency_ms:.1f}{note})"


def level_of(level: Level, ranking: Ranking, smallest: Subnet | None) -> Level:
    """The level that really answered: what failed is not in it; ``smallest`` encodes queries in place of BM25."""
    reasons = {note.reason for note in ranking.degraded}
    if "dense_down" in reasons:
        level = Level("bm25", None, level.rerank)
    elif "bm25_down" in reasons and level.retriever == "hybrid":
        level = level._replace(retriever="dense")
    elif "bm25_down" in reasons:
        level = Level("dense", smallest, level.rerank)
    return level._replace(rerank=None) if "ranker_down" in reasons else level


def degraded_of(ranking: Ranking, level: Level, requested: Level, smallest: Subnet | None) -> Degraded | None:
    """What the answer lacks of what was ``requested``; None where nothing."""
    notes = list(ranking.degraded)
    if level != requested:
        notes.insert(0, Degradation("load", "pipeline", f"{requested} asked for, {level} spent"))
    if not notes:
        return None
    detail = "; ".join(note.detail for note in notes if note.detail)
    reasons = tuple(dict.fromkeys(note.reason for note in notes))
    return Degraded(reasons, level_of(level, ranking, smallest), requested, len(ranking.hits), detail)


def as_asked(answers: Iterable[Hits], so: str) -> Iterator[Hits]:
    """``answers``, refused where a part of the pipeline was down and what was left answered.

    Args:
        answers: of one pipeline.
        so: what follows for the caller, which ends the error message.

    Raises:
        BackendError: naming both levels and what was down; a figure of the wrong level would be worse than none.
    """
    for hits in answers:
        degraded = hits.degraded
        if degraded is not None and (down := [reason for reason in degraded.reasons if reason.endswith("_down")]):
            asked = f"level {degraded.requested_level} was asked for and {hits.level} answered"
            raise BackendError(f"{asked} ({', '.join(down)}: {degraded.detail or 'no reason given'}); {so}")
        yield hits
