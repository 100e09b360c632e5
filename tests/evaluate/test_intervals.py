"""Bootstrap intervals against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap

from elastic_ir.evaluate.intervals import bootstrap_intervals


def test_intervals_are_scipys_within_chance() -> None:
    random = np.random.default_rng(4)
    figures = {run: {"map": random.random(80) ** 3, "mrr": random.random(80)} for run in ("a", "b")}
    found = bootstrap_intervals(figures, resamples=5_000, seed=1)
    for run, by in figures.items():
        for measure, column in by.items():
            wanted = bootstrap((column,), np.mean, n_resamples=5_000, method="percentile", rng=2).confidence_interval
            assert found[run][measure] == pytest.approx(tuple(wanted), abs=0.006)
            assert found[run][measure][0] < column.mean() < found[run][measure][1]
    assert bootstrap_intervals(figures, resamples=5_000, seed=1) == found
    assert bootstrap_intervals(figures, resamples=5_000, seed=2) != found


def test_a_run_that_never_varies_has_no_width() -> None:
    assert bootstrap_intervals({"a": {"map": np.full(7, 0.25)}}, 300) == {"a": {"map": (0.25, 0.25)}}
