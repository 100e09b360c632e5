"""A ladder for a service that was given none."""

from __future__ import annotations

import numpy as np

from elastic_ir.level import Level
from elastic_ir.pipeline import Pipeline
from elastic_ir.profile import default_levels, measure, monotone
from elastic_ir.records import Query
from elastic_ir.schedule import Ladder, Rung

SECONDS = 2.0
QUERY = Query("0", "a question of about as many words as people ask")
BATCH = 4


def provisional(pipeline: Pipeline, slo_ms: float, only: Level | None = None) -> Ladder:
    """The idle level, shares of its depth budget, no reranking, and BM25, each timed here at least once.

    With ``only`` that level alone.

    Their quality is not known: it falls from 1 by equal steps, so that cheaper counts as worse. A batch counts as long
    as its queries one by one; the scheduler learns what it really takes.
    """
    levels = [only] if only else default_levels(pipeline.level)
    if not only and "bm25" in pipeline.parts.retrievers and pipeline.level.retriever != "bm25":
        levels.append(Level("bm25"))
    profile = measure(pipeline, levels, [QUERY], batches=(1,), seconds=SECONDS, least=1, progress=False)
    sizes = np.arange(1, BATCH + 1)
    p50, p95 = (
        monotone(np.array([profile.times(level)[column] for level in levels]) * sizes) / 1000 for column in (0, 1)
    )
    rungs = [
        Rung(level, 1 - row / len(levels), tuple(np.maximum.accumulate(np.maximum(slow, typical)).tolist()),
             tuple(np.maximum.accumulate(typical).tolist()))
        for row, (level, typical, slow) in enumerate(zip(levels, p50, p95, strict=True))
    ]  # fmt: skip
    return Ladder(tuple(rungs), slo_ms / 1000, judged=False).checked()
