"""Load policies: pure callables ``Load -> Level``."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from elastic_ir.level import Level

SMALLEST_SHARE = 0.1


class Load(NamedTuple):
    """What a policy sees: searches in flight (this one included), and the level asked for when idle."""

    in_flight: int
    level: Level


Policy: TypeAlias = Callable[[Load], Level]


def shrink_with_load(load: Load) -> Level:
    """The asked level with its depth budget divided by the searches in flight, down to a tenth.

    The rule until a measured ladder exists: the ranker's total spending stays level while the load rises.
    """
    rerank = load.level.rerank
    if rerank is None:
        return load.level
    share = min(1.0, max(SMALLEST_SHARE, 1 / load.in_flight))
    return load.level._replace(rerank=rerank._replace(budget=round(rerank.budget * share, 4)))
