"""How an operating point looks in a chart: shape, size, colour and filling each say one thing about its level."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from elastic_ir.evaluate.operating import Point
from elastic_ir.level import Level

COLOURS = 6
SHAPES = ("circle", "square", "triangle", "diamond")
PLAIN, BM25 = "circle", "star"


class Mark(NamedTuple):
    """``colour`` is 0 to ``COLOURS`` - 1; ``radius`` in pixels."""

    shape: str = PLAIN
    colour: int = 0
    radius: float = 6.0
    hollow: bool = False


class Marks(NamedTuple):
    """What a set of points has, each in the order in which marks are given out, largest or fewest first.

    Shape says the query subnet's width, size its depth, colour the candidates reranked, a hollow mark hybrid
    retrieval; points that differ in the plan's budget alone lie on one line.
    """

    widths: tuple[float, ...]
    depths: tuple[int, ...]
    candidates: tuple[int, ...]
    retrievers: tuple[str, ...]

    @classmethod
    def of(cls, points: Sequence[Point]) -> Marks:
        """The marks that ``points`` need."""
        levels = [point.level for point in points if point.level is not None]
        subnets = [level.subnet for level in levels if level.subnet is not None]
        return cls(
            tuple(sorted({subnet.width for subnet in subnets}, reverse=True)),
            tuple(sorted({subnet.depth for subnet in subnets}, reverse=True)),
            tuple(sorted({_candidates(level) for level in levels})),
            tuple(sorted({level.retriever for level in levels})),
        )

    def mark(self, point: Point) -> Mark:
        """The mark of ``point``; a plain one where its level is not known."""
        if point.level is None:
            return Mark()
        colour = min(self.candidates.index(_candidates(point.level)), COLOURS - 1)
        if point.level.subnet is None:
            return Mark(BM25, colour)
        shape = SHAPES[min(self.widths.index(point.level.subnet.width), len(SHAPES) - 1)]
        return Mark(shape, colour, self._radius(point.level.subnet.depth), point.level.retriever == "hybrid")

    def families(self, points: Sequence[Point]) -> Iterator[list[int]]:
        """Positions of the points that differ in the budget of their plan alone, by budget."""
        groups: dict[Level, list[tuple[float, int]]] = {}
        for position, point in enumerate(points):
            if point.level is not None and point.level.rerank is not None:
                alike = point.level._replace(rerank=point.level.rerank._replace(budget=1.0))
                groups.setdefault(alike, []).append((point.level.rerank.budget, position))
        yield from ([position for _, position in sorted(group)] for group in groups.values() if len(group) > 1)

    def legend(self) -> Iterator[tuple[str, list[tuple[Mark, str]]]]:
        """(what is told apart, its marks and what they say), only where there is more than one to tell."""
        if len(self.retrievers) > 1:
            kinds = {"bm25": Mark(BM25, COLOURS - 1), "dense": Mark(PLAIN, COLOURS - 1)}
            kinds["hybrid"] = Mark(PLAIN, COLOURS - 1, hollow=True)
            yield "retriever", [(kinds[name], name) for name in self.retrievers]
        if len(self.widths) > 1:
            last = len(SHAPES) - 1
            named = [(Mark(SHAPES[min(i, last)], COLOURS - 1), f"{w:.0%}") for i, w in enumerate(self.widths)]
            yield "width of the query", named
        if len(self.depths) > 1:
            yield (
                "layers of the query",
                [(Mark(PLAIN, COLOURS - 1, self._radius(depth)), str(depth)) for depth in self.depths],
            )
        if len(self.candidates) > 1:
            last = COLOURS - 1
            yield (
                "candidates reranked",
                [
                    (Mark(PLAIN, min(i, last)), str(count) if count else "none")
                    for i, count in enumerate(self.candidates)
                ],
            )

    def _radius(self, depth: int) -> float:
        """Area grows with depth."""
        return 6.0 if len(self.depths) < 2 else 9.0 * (depth / self.depths[0]) ** 0.5


def _candidates(level: Level) -> int:
    return level.rerank.candidates if level.rerank else 0
