"""A ladder for a service that was given none."""

from __future__ import annotations

import numpy as np

from elastic_ir.level import Level
from elastic_ir.pipeline import Pipeline
from elastic_ir.profile import default_levels, measure, monotone
from elastic_ir.records import Query
from elastic_ir.schedule import Ladder, Rung

SECONDS = 5.0
QUERIES = (
    "what is this about", "how does it work", "read a file", "the best way to do it",
    "a longer question of about a dozen words, as some people like to ask them",
)  # fmt: skip


def provisional(pipeline: Pipeline, slo_ms: float) -> Ladder:
    """The idle level, shares of its depth budget, no reranking, and BM25, timed here for a few seconds.

    Their quality is not known: it falls from 1 by equal steps, so that cheaper counts as worse.
    """
    levels = default_levels(pipeline.level)
    if "bm25" in pipeline.parts.retrievers and pipeline.level.retriever != "bm25":
        levels.append(Level("bm25"))
    queries = [Query(str(row), text) for row, text in enumerate(QUERIES)]
    profile = measure(pipeline, levels, queries, batches=(1, 4), seconds=SECONDS, progress=False)
    p50, p95 = (monotone(np.array([profile.times(level)[column] for level in levels])) / 1000 for column in (0, 1))
    rungs = [
        Rung(level, 1 - row / len(levels), tuple(np.maximum.accumulate(np.maximum(slow, typical)).tolist()),
             tuple(np.maximum.accumulate(typical).tolist()))
        for row, (level, typical, slow) in enumerate(zip(levels, p50, p95, strict=True))
    ]  # fmt: skip
    return Ladder(tuple(rungs), slo_ms / 1000).checked()
