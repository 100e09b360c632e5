"""Tukey's honestly significant difference, for figures of the same queries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_DEVIATIONS, _NORMALS = 256, 96  # steps of the two integrals


def tukey_hsd(figures: NDArray[np.float64]) -> NDArray[np.float64]:
    """p of each run against the first, corrected for all pairs: ``[runs, queries]`` in, ``[runs]`` out.

    The two-way model: a figure is run + query + noise, so what a query adds to every run is no noise. The
    one-way test of ranx and scipy leaves it in, and finds nothing where queries differ much. Of two runs
    it is the paired t-test. 1 where nothing can be said, 0 where a difference has no noise at all.

    Source: Carterette, TOIS 2012 (Multiple testing in statistical analysis of systems-based IR experiments).
    """
    runs, queries = figures.shape
    degrees = (runs - 1) * (queries - 1)
    if degrees < 1:
        return np.ones(runs)
    means = figures.mean(axis=1)
    noise = figures - means[:, None] - figures.mean(axis=0) + figures.mean()
    error = np.sqrt((noise**2).sum() / degrees / queries)
    differences = np.abs(means - means[0])
    if error < 1e-12:
        return np.asarray(differences < 1e-12, dtype=np.float64)
    return studentized_range_sf(differences / error, runs, degrees)


def studentized_range_sf(q: NDArray[np.float64], groups: int, degrees: int) -> NDArray[np.float64]:
    """``[values]`` P(studentized range > ``q``) to about 1e-12, by the trapezoid rule on two smooth integrals.

    scipy.stats has it too, behind a second of imports.

    Source: Lund and Lund, AS 190, 1983 (the integrals).
    """
    from scipy.special import gammaln, ndtr

    tail = 40 / degrees  # where the density of the deviation has fallen by exp(-40)
    low = 1.3 * np.sqrt(tail) if tail < 0.3 else tail + 0.5
    log_deviation = np.linspace(-low, np.sqrt(tail), _DEVIATIONS)
    half = degrees / 2
    log_density = 2 * half * log_deviation - half * np.exp(2 * log_deviation) + half * np.log(half) - gammaln(half)
    weight = 2 * np.exp(log_density) * (log_deviation[1] - log_deviation[0])  # [deviations]
    z = np.linspace(-9, 9, _NORMALS)
    density = groups * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])  # of the largest, [z]

    def exceeds(one: float) -> float:
        widths = one * np.exp(log_deviation)
        within = (ndtr(z) - ndtr(z - widths[:, None])) ** (groups - 1) @ density
        return float(np.clip(weight @ (1 - within), 0.0, 1.0))

    return np.array([exceeds(one) for one in q])
