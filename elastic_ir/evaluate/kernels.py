"""The measures by ranx's compiled kernels, given tables on which they equal trec_eval."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import numpy as np

from elastic_ir.evaluate.figures import Floats, Tables
from elastic_ir.evaluate.formulas import numpy_figures
from elastic_ir.evaluate.measures import Measure

FORMULA_ONLY = {"bpref", "judged"}
"""ranx has no ``judged``; its ``bpref`` takes the rows' filling for judged documents and divides 0 by 0."""

NUMBA_LOCK = Lock()  # ranx's threading layer ends the process when two threads enter it


def ranx_figures(tables: Tables, measures: Sequence[Measure]) -> list[Floats]:
    """One ``[queries]`` array for each measure; those of ``FORMULA_ONLY`` by numpy.

    ranx sorts ties in no fixed order and needs rows of one length: it is given ranks as scores, and rows
    filled up with documents nobody judged, which changes no measure.
    """
    queries, depth = tables.ranking.shape
    judged = np.zeros((*tables.grades.shape, 2))  # [queries, documents, (number, grade)]
    judged[:, :, 0] = np.arange(tables.grades.shape[1])
    judged[:, :, 1] = np.maximum(tables.grades, 0)
    retrieved = np.empty((queries, depth, 2))  # [queries, depth, (number, score)], scores fall strictly
    retrieved[:, :, 0] = tables.ranking
    retrieved[:, :, 1] = np.arange(depth, 0, -1)

    def figures(measure: Measure) -> Floats:
        if measure.name in FORMULA_ONLY:
            return numpy_figures(tables, [measure])[0]
        kernel = metric(measure.name)
        if measure.persistence is not None:  # ranx multiplies by the grade; rank-biased precision has hits or none
            hits = judged.copy()
            hits[:, :, 1] = judged[:, :, 1] >= measure.relevance
            return kernel(hits, retrieved, measure.persistence, 1)
        return kernel(judged, retrieved, measure.cutoff or 0, measure.relevance)

    with NUMBA_LOCK:
        metric = ranx_metrics()
        return [figures(measure) for measure in measures]


def ranx_metrics() -> Callable[[str], Callable[..., Floats]]:
    """ranx's name -> kernel table. Each kernel compiles for about 2 s at its first use on a machine."""
    try:
        from ranx.metrics import metric_switch
    except RuntimeError:  # numba found no folder of its own to keep compiled code in
        import numba

        numba.config.CACHE_DIR = tempfile.mkdtemp(prefix="elastic-ir-numba-")  # type: ignore[attr-defined]
        from ranx.metrics import metric_switch
    switch: Any = metric_switch
    return switch  # type: ignore[no-any-return]
