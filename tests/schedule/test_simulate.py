"""The virtual clock: repeatable, conserving, and the acceptance shapes on an invented ladder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ladders import ladder

from elastic_ir.errors import InputError
from elastic_ir.schedule import Admission, DrainRule, Fixed, HeadSlack, Ladder, Thresholds
from elastic_ir.schedule.arrivals import FORMS, arrivals
from elastic_ir.schedule.picture import draw
from elastic_ir.schedule.simulate import OFF_LADDER, REFUSED, Outcome, capacity, simulate

LADDER = ladder()
C = capacity(LADDER)
SHAPES = {
    "MMPP": f"mmpp:{0.5 * C}:{8 * C}:4:1.5",
    "gamma": f"gamma:{2 * C}:8",
    "step": f"step:{0.5 * C}:{8 * C}:10",
}


def elastic(shape: str, seed: int = 1, **options: float) -> Outcome:
    return simulate(LADDER, DrainRule(LADDER), arrivals(shape, 6000, seed), admission=Admission(LADDER), **options)


def test_one_request_takes_its_service_time() -> None:
    outcome = simulate(ladder(spread=1.0), Fixed(LADDER.rungs[0].level), np.array([5.0, 9.0]))
    assert outcome.latency == pytest.approx([0.0385, 0.0385])
    assert (outcome.attainment, outcome.refused, outcome.quality, outcome.utility) == (1, 0, 0.7, 0.7)
    assert outcome.switches == 0


def test_the_same_input_gives_the_same_bits() -> None:
    first, again = (elastic(SHAPES["MMPP"]) for _ in range(2))
    assert first.latency.tobytes() == again.latency.tobytes()
    assert first.rung.tobytes() == again.rung.tobytes()
    assert elastic(SHAPES["MMPP"], seed=2).latency.tobytes() != first.latency.tobytes()


def test_requests_are_answered_or_refused_never_both() -> None:
    outcome = elastic(f"poisson:{2 * LADDER.rungs[-1].rate}")
    assert np.array_equal(np.isinf(outcome.latency), outcome.rung == -1)
    assert outcome.refused > 0.4
    assert outcome.utility <= outcome.quality * outcome.attainment + 1e-9


def test_half_the_capacity_is_served_in_full() -> None:
    outcome = elastic(f"poisson:{0.5 * C}")
    assert outcome.attainment >= 0.999
    assert outcome.refused == 0
    assert outcome.quality >= 0.99 * LADDER.rungs[0].quality


def test_four_times_the_capacity_bends_and_does_not_break() -> None:
    shape = f"poisson:{4 * C}"
    outcome = elastic(shape)
    assert outcome.attainment >= 0.995
    assert outcome.utility >= LADDER.fluid_bound(4 * C) - 0.015
    static = simulate(LADDER, Fixed(LADDER.rungs[0].level), arrivals(shape, 6000, 1), admission=Admission(LADDER))
    assert static.attainment < 0.5


@pytest.mark.parametrize("shape", SHAPES)
def test_bursts_are_met(shape: str) -> None:
    outcome = elastic(SHAPES[shape])
    assert outcome.attainment >= 0.99
    times = arrivals(SHAPES[shape], 6000, 1)
    for policy in (HeadSlack(LADDER), Thresholds(LADDER, (6, 12, 24, 48, 96))):
        assert outcome.utility >= simulate(LADDER, policy, times, admission=Admission(LADDER)).utility


@pytest.mark.parametrize("rate", [1, 2])
def test_a_table_that_is_wrong_is_forgiven(rate: int) -> None:
    assert elastic(f"poisson:{rate * C}", slowdown=2.5).after(10).attainment >= 0.99


def test_a_level_that_is_always_late_has_no_capacity() -> None:
    assert capacity(ladder(slo_s=0.03)) == 0.0
    assert 0 < C < 1.2 * LADDER.rungs[0].rate


def test_beyond_the_cheapest_level_its_capacity_is_still_served() -> None:
    cheapest = LADDER.rungs[-1].rate
    assert elastic(f"poisson:{2 * cheapest}").goodput >= 0.9 * cheapest


@pytest.mark.parametrize(
    ("form", "rate"),
    [("poisson:40", 40), ("gamma:40:8", 40), ("mmpp:10:100:4:2", 40), ("step:10:100:5", 40), ("diurnal:10:70:60", 40)],
)
def test_arrivals_have_the_rate_they_say(form: str, rate: float) -> None:
    times = arrivals(form, 40_000, seed=3)
    assert times.shape == (40_000,)
    assert (np.diff(times) >= 0).all()
    assert 40_000 / times[-1] == pytest.approx(rate, rel=0.15)
    assert np.array_equal(times, arrivals(form, 40_000, seed=3))


@pytest.mark.parametrize("form", ["step:0.1:0.2:1", "diurnal:0.1:0.2:1"])
def test_slow_arrivals_last_for_few_requests(form: str) -> None:
    assert all((np.diff(arrivals(form, 10, seed)) > 0).all() for seed in range(300))
    assert len({arrivals(form, 1, seed)[0] for seed in range(300)}) == 300


def test_a_trace_is_repeated_and_rescaled(tmp_path: Path) -> None:
    trace = tmp_path / "arrivals.txt"
    trace.write_text("12.0\n10.0\n10.5\n14.0\n")
    assert arrivals(f"trace:{trace}", 4).tolist() == [0, 0.5, 2, 4]
    twice = arrivals(f"trace:{trace}:1", 9)
    assert twice[3] == 3.0
    assert arrivals(f"trace:{trace}", 6, seed=1)[0] == 0.0
    assert arrivals(f"trace:{trace}", 6, seed=1).tolist() != arrivals(f"trace:{trace}", 6, seed=3).tolist()
    assert 8 / twice[-1] == pytest.approx(1.0)
    trace.write_text("12.0\n10.0\n10.5\n14.0\n", "utf-8-sig")
    assert arrivals(f"trace:{trace}", 4).tolist() == [0, 0.5, 2, 4]
    with pytest.raises(InputError, match=r"the rate of trace .* is .0."):
        arrivals(f"trace:{trace}:0", 4)
    trace.write_text("soon\n")
    with pytest.raises(InputError, match="one arrival on each line"):
        arrivals(f"trace:{trace}", 4)
    with pytest.raises(InputError, match="no trace at"):
        arrivals("trace:nowhere.txt", 4)


@pytest.mark.parametrize("form", ["", "poison:3", "poisson", "poisson:-1", "poisson:nan", "gamma:3", "step:1:2:3:4"])
def test_arrivals_that_cannot_be_read(form: str) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        arrivals(form, 10)
    assert len(FORMS) == 6


def test_a_picture_shows_no_quality_that_nobody_judged(tmp_path: Path) -> None:
    def drawn(quality: float, judged: bool) -> bytes:
        rung = LADDER.rungs[0]._replace(quality=quality)
        outcome = Outcome(
            Ladder((rung,), 0.25, judged), np.arange(4.0), np.array([0.1, 0.1, 0.2, np.inf]),
            np.array([0, 0, OFF_LADDER, REFUSED], np.int8), 0,
        )  # fmt: skip
        draw({"measured": outcome}, "load", tmp_path / "load.png")
        return (tmp_path / "load.png").read_bytes()

    assert drawn(1.0, judged=False) == drawn(0.5, judged=False)
    assert drawn(1.0, judged=True) != drawn(0.5, judged=True)
