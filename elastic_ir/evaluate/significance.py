"""Is one run better than another, or is it chance: paired tests over queries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_EQUAL = 1e-12  # figures closer than this are the same figure
_CHUNK = 256


class Comparison(NamedTuple):
    """A run against the baseline on one measure, over the same queries.

    Attributes:
        difference: mean of the run minus mean of the baseline.
        wins: queries on which the run is better; ``ties`` and ``losses`` likewise.
        p_ttest: two-sided paired t-test.
        p_randomization: two-sided paired randomization test (Fisher), by random sign flips.
        p_holm: ``p_ttest`` after Holm's correction for all runs and measures compared.
    """

    run: str
    baseline: str
    measure: str
    difference: float
    wins: int
    ties: int
    losses: int
    p_ttest: float
    p_randomization: float
    p_holm: float
    p_tukey: float = 1.0
    effect_size: float = 0.0
    p_noninferior: float = 1.0
    margin: float = 0.01


def compare(
    figures: Mapping[str, Mapping[str, NDArray[np.float64]]], permutations: int = 10_000, seed: int = 0
) -> tuple[Comparison, ...]:
    """Compare each run with the first one on each measure.

    Args:
        figures: run -> measure -> ``[queries]``, the queries in one order throughout.
        permutations: sign flips drawn for the randomization test, whose least p is 1 / (permutations + 1).
        seed: of the sign flips.

    Source: Smucker, Allan and Carterette, CIKM 2007 (both tests); Holm, 1979.
    """
    baseline, *others = figures
    pairs = [(run, measure) for run in others for measure in figures[run]]
    if not pairs:
        return ()
    differences = np.stack([figures[run][measure] - figures[baseline][measure] for run, measure in pairs], axis=1)
    differences[np.abs(differences) < _EQUAL] = 0.0
    p_ttest = np.array([t_test(column) for column in differences.T])
    p_randomization = randomization_test(differences, permutations, seed)
    return tuple(
        Comparison(
            run,
            baseline,
            measure,
            float(column.mean()),
            int((column > 0).sum()),
            int((column == 0).sum()),
            int((column < 0).sum()),
            *p_values,
        )
        for (run, measure), column, *p_values in zip(
            pairs, differences.T, p_ttest.tolist(), p_randomization.tolist(), holm(p_ttest).tolist(), strict=True
        )
    )


def t_test(differences: NDArray[np.float64]) -> float:
    """p of a two-sided paired t-test on ``[queries]`` differences; 1 where nothing can be said."""
    from ranx.statistical_tests import paired_student_t_test

    if len(differences) < 2 or not differences.any():
        return 1.0
    if np.ptp(differences) < _EQUAL:
        return 0.0
    return float(paired_student_t_test(differences, np.zeros_like(differences))[0])


def randomization_test(differences: NDArray[np.float64], permutations: int, seed: int) -> NDArray[np.float64]:
    """p of a two-sided paired randomization test for each column of ``[queries, comparisons]``."""
    random = np.random.default_rng(seed)
    observed = np.abs(differences.sum(axis=0)) - _EQUAL * len(differences)
    reached = np.ones(differences.shape[1])
    for start in range(0, permutations, _CHUNK):
        shape = (min(_CHUNK, permutations - start), len(differences))
        signs = random.integers(0, 2, shape, dtype=np.int8) * 2.0 - 1.0
        reached += (np.abs(signs @ differences) >= observed).sum(axis=0)
    return reached / (permutations + 1)


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[comparisons]`` p values after Holm's step-down correction, in the order given."""
    order = np.argsort(p_values, kind="stable")
    stepped = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    corrected = np.empty_like(p_values)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected
