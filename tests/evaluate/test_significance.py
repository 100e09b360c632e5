"""Tests, corrections and effect sizes against scipy, ranx and hand-worked values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import false_discovery_control, ttest_1samp, ttest_rel, tukey_hsd

from elastic_ir.errors import InputError
from elastic_ir.evaluate.significance import compare, effect_size, holm, noninferiority_test, t_test


def test_comparison_against_the_first_run() -> None:
    random = np.random.default_rng(3)
    base = random.random(40)
    figures = {
        "base": {"map": base, "mrr": base},
        "same": {"map": base.copy(), "mrr": base + 0.1},
        "other": {"map": base + random.normal(0.1, 0.2, 40), "mrr": base + random.normal(0.0, 0.2, 40)},
    }
    same, shifted, better, noise = compare(figures, permutations=2000, seed=1)
    assert same[:3] == ("same", "base", "map")
    assert (same.difference, same.wins, same.ties, same.losses) == (0.0, 0, 40, 0)
    assert (same.p_ttest, same.p_randomization, same.p_holm) == (1.0, 1.0, 1.0)
    assert (shifted.p_ttest, shifted.wins, shifted.difference) == (0.0, 40, pytest.approx(0.1))
    assert shifted.p_randomization == 1 / 2001
    for found in (better, noise):
        wanted = ttest_rel(figures["other"][found.measure], base).pvalue
        assert found.p_ttest == pytest.approx(wanted)
        assert found.p_randomization == pytest.approx(wanted, abs=0.03)
        assert found.wins + found.ties + found.losses == 40
    assert compare(figures, permutations=2000, seed=1) == (same, shifted, better, noise)


def test_randomization_agrees_with_every_sign_flip() -> None:
    differences = np.array([0.5, 0.25, -0.125, 0.25, 0.0])
    flips = np.array(np.meshgrid(*[[-1, 1]] * 5)).reshape(5, -1).T
    exact = np.mean(np.abs(flips @ differences) >= abs(differences.sum()))
    (found,) = compare({"a": {"m": np.zeros(5)}, "b": {"m": differences}}, permutations=20_000)
    assert found.p_randomization == pytest.approx(exact, abs=0.01)


def test_holm_by_hand() -> None:
    assert holm(np.array([0.04, 0.01, 0.03, 0.9])).tolist() == pytest.approx([0.09, 0.04, 0.09, 0.9])
    assert holm(np.array([0.6, 0.7])).tolist() == [1.0, 1.0]
    assert (holm(np.full(3, 0.01)) >= false_discovery_control(np.full(3, 0.01))).all()


def test_t_test_is_ranxs() -> None:
    from ranx.statistical_tests import paired_student_t_test

    random = np.random.default_rng(5)
    for queries in (2, 3, 50, 2_000):
        first, second = random.random((2, queries))
        assert t_test(second - first) == pytest.approx(paired_student_t_test(first, second)[0], rel=1e-9)


def test_noninferiority_is_a_shifted_one_sided_t_test() -> None:
    random = np.random.default_rng(6)
    for queries, shift in ((5, 0.0), (40, -0.03), (40, 0.02), (300, -0.01)):
        differences = random.normal(shift, 0.05, queries)
        wanted = ttest_1samp(differences, -0.02, alternative="greater").pvalue
        assert noninferiority_test(differences, 0.02) == pytest.approx(wanted, rel=1e-9)
    assert noninferiority_test(np.zeros(10), 0.01) == 0.0
    assert noninferiority_test(np.full(10, -0.02), 0.01) == 1.0
    assert noninferiority_test(np.array([0.5]), 0.01) == 1.0


def test_effect_size_by_hand() -> None:
    assert effect_size(np.array([0.0, 1.0, 2.0])) == pytest.approx(1.0)
    assert effect_size(np.array([0.0, -0.2])) == pytest.approx(-1 / math.sqrt(2))
    assert effect_size(np.zeros(4)) == effect_size(np.array([0.3])) == 0.0
    assert effect_size(np.full(4, -0.1)) == -math.inf


def test_comparison_carries_margin_effect_and_tukey() -> None:
    random = np.random.default_rng(8)
    base = random.random(60)
    figures = {name: {"map": base + random.normal(0.02, 0.1, 60)} for name in ("base", "b", "c")}
    first, second = compare(figures, 100, margin=0.05)
    differences = figures["b"]["map"] - figures["base"]["map"]
    assert first.margin == 0.05
    assert first.p_noninferior == noninferiority_test(differences, 0.05)
    assert first.effect_size == pytest.approx(differences.mean() / differences.std(ddof=1))
    unpaired = tukey_hsd(*(by["map"] for by in figures.values())).pvalue[0]
    assert first.p_ttest < first.p_tukey < unpaired[1]  # for all pairs, but with the queries taken out
    assert second.p_tukey < unpaired[2]


@pytest.mark.parametrize("margin", [0.0, -0.1, math.nan, math.inf])
def test_a_margin_that_is_none_is_refused(margin: float) -> None:
    with pytest.raises(InputError, match="wanted a number above 0"):
        compare({"a": {"m": np.zeros(3)}}, margin=margin)
