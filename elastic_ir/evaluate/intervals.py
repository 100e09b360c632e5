"""How far a mean could be off: bootstrap intervals over queries."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
_CHUNK = 256


def bootstrap_intervals(
    figures: Mapping[str, Mapping[str, NDArray[np.float64]]], resamples: int = 2_000, seed: int = 0
) -> dict[str, dict[str, tuple[float, float]]]:
    """95% interval of each mean (percentile method), all runs on the same resamples of the queries.

    Args:
        figures: run -> measure -> ``[queries]``, the queries in one order throughout.
        resamples: drawn of the queries, with replacement.
        seed: of the draws.

    Source: Efron, 1979; Sakai, SIGIR 2006 (for retrieval measures).
    """
    random = np.random.default_rng(seed)
    columns = np.stack([column for by in figures.values() for column in by.values()], axis=1)
    queries = len(columns)
    means = np.empty((resamples, columns.shape[1]))
    for start in range(0, resamples, _CHUNK):
        drawn = random.integers(0, queries, (min(_CHUNK, resamples - start), queries))
        counts = np.stack([np.bincount(row, minlength=queries) for row in drawn])
        means[start : start + len(drawn)] = counts @ columns / queries
    tail = 100 * (1 - CONFIDENCE) / 2
    bounds = iter(np.percentile(means, [tail, 100 - tail], axis=0).T.tolist())
    return {
        run: {measure: (low, high) for measure, (low, high) in zip(by, bounds, strict=False)}
        for run, by in figures.items()
    }
