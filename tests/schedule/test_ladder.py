"""Ladders: what is refused, how long a queue takes, what no schedule can pass."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ladders import ladder

from elastic_ir.errors import ConfigError
from elastic_ir.schedule import Fixed, Ladder, Rung
from elastic_ir.schedule.arrivals import arrivals
from elastic_ir.schedule.simulate import simulate


def test_a_queue_is_drained_in_full_batches_and_a_rest() -> None:
    rung = Rung(ladder().rungs[0].level, 0.5, (1.0, 1.5, 2.0))
    assert [rung.drain(count) for count in (0, 1, 3, 4, 7)] == [0, 1, 2, 3, 5]
    assert rung.rate == 1.5
    assert [rung.expected(count) for count in (0, 0.5, 1, 1.5, 3, 99.5)] == [0, 0.5, 1, 1.25, 2, 2]


@given(st.floats(0.1, 5000))
def test_the_fluid_bound_lies_between_the_levels_and_falls_with_the_rate(rate: float) -> None:
    known = ladder()
    bound = known.fluid_bound(rate)
    assert known.fluid_bound(1.1 * rate) <= bound + 1e-12
    assert bound <= known.rungs[0].quality
    static = [rung.quality * min(1.0, rung.rate / rate) for rung in known.rungs]
    fitting = [rung.quality for rung in known.rungs if rung.rate >= rate]
    assert bound >= max(fitting, default=static[-1]) - 1e-12


def test_the_fluid_bound_holds_where_small_batches_are_the_best() -> None:
    known = Ladder((Rung(ladder().rungs[0].level, 0.7, (0.01, 0.025)),), 0.25)
    assert (known.rungs[0].rate, known.rungs[0].best_rate) == (80, 100)
    alone = simulate(known.one_by_one(), Fixed(known.rungs[0].level), arrivals("poisson:90", 20_000))
    assert 0.69 < alone.utility <= known.fluid_bound(90) == 0.7


def test_ladders_that_do_not_hold_are_refused() -> None:
    good = ladder()
    first, *_, last = good.rungs
    with pytest.raises(ConfigError, match="at least one level"):
        Ladder((), 0.25).checked()
    for slo_s in (0.0, math.inf, math.nan):
        with pytest.raises(ConfigError, match=f"slo {slo_s} s is out of range; wanted a finite time"):
            good._replace(slo_s=slo_s).checked()
    with pytest.raises(ConfigError, match="drop the dearer"):
        Ladder((first, last._replace(quality=0.9)), 0.25).checked()
    with pytest.raises(ConfigError, match="takes longer"):
        Ladder((last, first._replace(quality=0.1)), 0.25).checked()
    with pytest.raises(ConfigError, match="by the median"):
        Ladder((first, last._replace(typical=first.seconds)), 0.25).checked()
    with pytest.raises(ConfigError, match="rising with the batch"):
        Ladder((first._replace(seconds=(2.0, 1.0)),), 0.25).checked()
    with pytest.raises(ConfigError, match="different batches"):
        Ladder((first, last._replace(seconds=last.seconds[:2])), 0.25).checked()


def test_an_overhead_is_taken_by_each_request_of_a_batch() -> None:
    plain, slower = ladder(), ladder().with_overhead(0.001)
    assert slower.checked().slo_s == plain.slo_s
    for before, after in zip(plain.rungs, slower.rungs, strict=True):
        assert after.seconds[3] == pytest.approx(before.seconds[3] + 0.004)
        assert after.rate < before.rate
