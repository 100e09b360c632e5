"""Tukey's test against scipy's distribution, the paired t-test and its own promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import studentized_range, ttest_rel

from elastic_ir.evaluate.tukey import studentized_range_sf, tukey_hsd


@pytest.mark.parametrize(("groups", "degrees"), [(2, 1), (3, 2), (3, 78), (10, 30), (5, 1_200)])
def test_the_tail_is_scipys(groups: int, degrees: int) -> None:
    q = np.array([0.0, 0.3, 1.0, 2.5, 3.5, 5.0, 12.0, 80.0])
    wanted = studentized_range.sf(q, groups, degrees)
    assert studentized_range_sf(q, groups, degrees) == pytest.approx(wanted, abs=1e-10)


@pytest.mark.parametrize("degrees", [10**6, 10**7, 10**9])
def test_the_tail_of_a_large_collection_is_that_of_known_noise(degrees: int) -> None:
    q = np.array([0.3, 1.0, 2.5, 3.8])
    wanted = studentized_range.sf(q, 6, np.inf)
    assert studentized_range_sf(q, 6, degrees) == pytest.approx(wanted, abs=2e-6)


def test_of_two_runs_it_is_the_paired_t_test() -> None:
    first, second = np.random.default_rng(1).random((2, 30))
    assert tukey_hsd(np.stack([first, second]))[1] == pytest.approx(ttest_rel(first, second).pvalue, abs=1e-10)


def test_what_all_runs_share_of_a_query_does_not_matter() -> None:
    random = np.random.default_rng(2)
    figures = random.random((4, 25))
    assert tukey_hsd(figures + 10 * random.random(25)) == pytest.approx(tukey_hsd(figures), abs=1e-9)


def test_equal_runs_seldom_differ_anywhere() -> None:
    random = np.random.default_rng(3)
    false_alarms = sum(tukey_hsd(random.normal(size=(3, 20)))[1:].min() < 0.05 for _ in range(200))
    assert false_alarms / 200 < 0.1


def test_runs_without_noise_or_queries() -> None:
    assert tukey_hsd(np.array([[0.5, 0.2], [0.5, 0.2], [0.6, 0.3]])).tolist() == [1.0, 1.0, 0.0]
    assert tukey_hsd(np.array([[0.5], [0.2]])).tolist() == [1.0, 1.0]
