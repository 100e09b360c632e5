"""An invented ladder: only the order of its figures matters."""

from __future__ import annotations

from elastic_ir.level import Level
from elastic_ir.schedule import Ladder, Rung

LEVELS = {
    "dense:w1.00-d12+rerank:w1.00:50@1.00": (38.5, 0.700),
    "dense:w1.00-d12+rerank:w1.00:50@0.50": (19.5, 0.690),
    "dense:w1.00-d12+rerank:w1.00:50@0.25": (9.8, 0.675),
    "dense:w1.00-d12+rerank:w1.00:50@0.12": (4.9, 0.650),
    "dense:w1.00-d12": (1.2, 0.610),
    "bm25": (0.5, 0.500),
}
"""Level -> milliseconds a request, nDCG@10."""


def ladder(slo_s: float = 0.25, spread: float = 1.2) -> Ladder:
    rungs = []
    for name, (ms, quality) in LEVELS.items():
        typical = tuple(ms / 1000 * size for size in range(1, 9))
        rungs.append(Rung(Level.parse(name), quality, tuple(spread * time for time in typical), typical))
    return Ladder(tuple(rungs), slo_s).checked()
