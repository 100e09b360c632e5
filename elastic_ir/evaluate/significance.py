"""Is one run better than another, or is it chance: paired tests over queries."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from elastic_ir.errors import InputError
from elastic_ir.evaluate.tukey import tukey_hsd

DEFAULT_MARGIN = 0.01
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
        p_tukey: Tukey's HSD, corrected for all pairs of the runs on this measure.
        effect_size: Cohen's d_z, ``difference`` in standard deviations of the queries' differences; 0 when
            there is no difference, infinite when every query differs by the same.
        p_noninferior: one-sided; small means that the run is no worse than the baseline by more than ``margin``.
        margin: on the scale of the measure.
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
    p_tukey: float
    effect_size: float
    p_noninferior: float
    margin: float


def compare(
    figures: Mapping[str, Mapping[str, NDArray[np.float64]]],
    permutations: int = 10_000,
    seed: int = 0,
    margin: float = DEFAULT_MARGIN,
) -> tuple[Comparison, ...]:
    """Compare each run with the first one on each measure.

    Args:
        figures: run -> measure -> ``[queries]``, the queries in one order throughout.
        permutations: sign flips drawn for the randomization test, whose least p is 1 / (permutations + 1).
        seed: of the sign flips.
        margin: the loss that ``p_noninferior`` still calls no worse, on the scale of each measure.

    Raises:
        InputError: if ``margin`` is not a number above 0.

    Source: Smucker, Allan and Carterette, CIKM 2007 (t and randomization); Holm, 1979; Walker and Nowacki,
    2011 (non-inferiority: one of the two one-sided tests).
    """
    if not 0 < margin < math.inf:
        raise InputError(f"margin is {margin}; wanted a number above 0, e.g. 0.01")
    baseline, *others = figures
    pairs = [(run, measure) for run in others for measure in figures[run]]
    if not pairs:
        return ()
    differences = np.stack([figures[run][measure] - figures[baseline][measure] for run, measure in pairs], axis=1)
    differences[np.abs(differences) < _EQUAL] = 0.0
    p_ttest = np.array([t_test(column) for column in differences.T])
    p_randomization = randomization_test(differences, permutations, seed)
    p_holm = holm(p_ttest)
    p_tukey = {
        measure: dict(zip(figures, tukey_hsd(np.stack([by[measure] for by in figures.values()])), strict=True))
        for measure in figures[baseline]
    }
    return tuple(
        Comparison(
            run=run,
            baseline=baseline,
            measure=measure,
            difference=float(column.mean()),
            wins=int((column > 0).sum()),
            ties=int((column == 0).sum()),
            losses=int((column < 0).sum()),
            p_ttest=float(p_ttest[index]),
            p_randomization=float(p_randomization[index]),
            p_holm=float(p_holm[index]),
            p_tukey=float(p_tukey[measure][run]),
            effect_size=effect_size(column),
            p_noninferior=noninferiority_test(column, margin),
            margin=margin,
        )
        for index, ((run, measure), column) in enumerate(zip(pairs, differences.T, strict=True))
    )


def t_test(differences: NDArray[np.float64]) -> float:
    """p of a two-sided paired t-test on ``[queries]`` differences; 1 where nothing can be said."""
    if len(differences) < 2 or not differences.any():
        return 1.0
    return min(1.0, 2 * _upper_tail(differences * np.sign(differences.mean())))


def noninferiority_test(differences: NDArray[np.float64], margin: float) -> float:
    """One-sided p that the mean of ``[queries]`` differences is above ``-margin``; 1 for a single query."""
    return 1.0 if len(differences) < 2 else _upper_tail(differences + margin)


def effect_size(differences: NDArray[np.float64]) -> float:
    """Cohen's d_z of ``[queries]`` differences."""
    if len(differences) < 2 or not differences.any():
        return 0.0
    if np.ptp(differences) < _EQUAL:
        return math.copysign(math.inf, differences.mean())
    return float(differences.mean() / differences.std(ddof=1))


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


def _upper_tail(values: NDArray[np.float64]) -> float:
    """p of a one-sided t-test that the mean of two or more ``values`` is above 0 (scipy.stats, without its import)."""
    from scipy.special import stdtr

    if np.ptp(values) < _EQUAL:
        return 0.0 if values.mean() > _EQUAL else 1.0
    statistic = values.mean() / (values.std(ddof=1) / math.sqrt(len(values)))
    return float(stdtr(len(values) - 1, -statistic))
