"""Candidate lists on their way through a plan: what is left to score, and the states carried on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from elastic_ir.elastic.tokens import packed
from elastic_ir.rerank.plan import Plan
from elastic_ir.rerank.scored import Scored
from elastic_ir.subnet import Subnet


class CandidateList(NamedTuple):
    """A question and what may answer it.

    ``documents`` are token ids without special tokens, in retriever order; ``steps`` the plan; ``prior`` is added to
    every score of its document ``[N]``, e.g. weighted scores of the retriever (None adds nothing).
    """

    query: str
    documents: Sequence[Sequence[int]]
    steps: Plan
    prior: Sequence[float] | None = None


class Pair:
    """One window of one candidate with the query, and the state it carries after ``done`` layers."""

    __slots__ = ("done", "first_length", "ids", "last", "row", "state", "work")

    def __init__(self, work: Work, row: int, ids: list[int], first_length: int, *, last: bool) -> None:
        self.work, self.row, self.ids, self.first_length, self.last = work, row, ids, first_length, last
        self.done = 0
        self.state: Tensor | None = None


class Work:
    """One list while it is scored: the rows of the next step in order, and the states that they carry."""

    def __init__(self, asked: CandidateList, query: list[int]) -> None:
        count = len(asked.documents)
        self.asked, self.query = asked, query
        self.scored = Scored(np.full(count, np.nan, np.float32), np.zeros(count, np.int32))
        self.rows = list(range(count))
        self.carried: dict[int, list[Pair]] = {}
        self.narrow(0)

    def tokens(self, row: int) -> int:
        """Of the pair of the query and the document of ``row``, special tokens included."""
        return len(self.asked.documents[row]) + len(self.query) + 3

    def note(self, pair: Pair, score: np.float32, step: int) -> None:
        """Take the ``score`` of a window made in ``step``; the best window of a document counts."""
        row, scored, prior = pair.row, self.scored, self.asked.prior
        score += 0.0 if prior is None else prior[row]
        if scored.steps[row] < step or not score <= scored.scores[row]:  # also where it is not a number
            scored.scores[row], scored.steps[row] = score, step
        if pair.state is not None:
            self.carried.setdefault(row, []).append(pair)

    def narrow(self, done: int) -> None:
        """After ``done`` steps keep the best rows, as many as the next step takes."""
        steps = self.asked.steps
        if done:
            self.rows.sort(key=lambda row: (-self.scored.scores[row], row))
        self.rows = self.rows[: steps[done].candidates if done < len(steps) else 0]
        self.carried = {row: self.carried[row] for row in self.rows if row in self.carried}

    def result(self) -> Scored:
        """The scores so far, and whether a row still waits for its plan's last step."""
        steps = self.asked.steps
        wanted = min((step.candidates for step in steps), default=0)
        finished = (self.scored.steps == len(steps)).sum()
        return self.scored._replace(stopped=bool(finished < min(wanted, len(self.scored.steps))))


class Pass(NamedTuple):
    """What can share a batch: pairs of one sub-network, the one whose states they go on from (None: from the text), and
    whether they keep their own."""

    subnet: Subnet
    before: Subnet | None
    keep: bool


def groups(works: Sequence[Work], most: int | None) -> Iterator[list[Work]]:
    """``works`` in their order, in groups whose first steps have about ``most`` tokens (None: all together)."""
    return packed(works, lambda work: sum(map(work.tokens, work.rows)), math.inf if most is None else most)


Candidate = tuple[Work, int]
