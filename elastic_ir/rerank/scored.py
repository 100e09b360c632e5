"""``Scored``: what a plan gave, and what it would give where all scores are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from elastic_ir.rerank.plan import Plan
from elastic_ir.subnet import Subnet


class Scored(NamedTuple):
    """What a plan gave.

    ``scores`` ``[N]`` float32 raw (NaN where none ran), ``steps`` ``[N]`` the last step that scored each (counted from
    1; 0 where none did), ``stopped`` True when the plan was not run to its end.
    """

    scores: NDArray[np.float32]
    steps: NDArray[np.int32]
    stopped: bool = False

    @property
    def finite(self) -> bool:
        """Whether every score that was made is a number."""
        return bool(np.isfinite(self.scores[self.steps > 0]).all())

    def order(self) -> NDArray[np.int64]:
        """Rows, best first: later steps above; within one by score; unscored ones last, in the order given."""
        rows = np.arange(len(self.scores))
        return np.lexsort((rows, -np.nan_to_num(self.scores), -self.steps))

    def final(self) -> NDArray[np.float32]:
        """Scores ``[N]``, distinct, in ``order()`` when descending: earlier steps are moved below later ones."""
        result = np.nan_to_num(self.scores).astype(np.float32)
        bound, step = np.float32(np.inf), -1
        shift = np.float32(0)
        for row in self.order():
            if self.steps[row] != step:
                step = self.steps[row]
                shift = np.float32(min(0.0, float(bound) - float(result[row]) - 1)) if np.isfinite(bound) else shift
            bound = min(result[row] + shift, np.nextafter(bound, np.float32(-np.inf)))
            result[row] = bound
        return result


def replay(steps: Plan, scores: Mapping[Subnet, NDArray[np.float32]]) -> Scored:
    """What ``steps`` give where every candidate's score by each of their sub-networks is known.

    A score does not depend on the plan, so one pass of each sub-network tells what every plan would do.

    Args:
        steps: the plan.
        scores: sub-network -> raw scores ``[N]`` of the candidates, in retriever order.
    """
    count = len(next(iter(scores.values())))
    scored = Scored(np.full(count, np.nan, np.float32), np.zeros(count, np.int32))
    rows = np.arange(count)
    for number, step in enumerate(steps):
        rows = rows[: step.candidates]
        scored.scores[rows], scored.steps[rows] = scores[step.subnet][rows], number + 1
        rows = rows[np.lexsort((rows, -scored.scores[rows]))]
    return scored
