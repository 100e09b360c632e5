"""Policies over a ladder: what must hold for any load."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ladders import ladder

from elastic_ir.errors import ConfigError
from elastic_ir.level import Level
from elastic_ir.schedule import AdditiveIncrease, Admission, Correction, DrainRule, Fixed, HeadSlack, Load, Thresholds

LADDER = ladder()
DEAREST = LADDER.rungs[0].level
PLACE = {rung.level: place for place, rung in enumerate(LADDER.rungs)}
SLACKS = st.lists(st.floats(-0.1, 0.25), min_size=0, max_size=60).map(sorted)
CORRECTION = st.floats(0.5, 5)
GATHERED = st.floats(0, 0.3)


def load(slacks: list[float], **more: Any) -> Load:
    return Load(len(slacks), DEAREST, 100.0, [100.0 + slack for slack in slacks], **more)


@given(SLACKS, CORRECTION)
def test_every_policy_is_a_function_of_the_load(slacks: list[float], correction: float) -> None:
    seen = load(slacks, correction=correction, previous=LADDER.rungs[2].level, late=True)
    bounds = (1, 2, 4, 8, 16)
    policies = [
        Fixed(DEAREST),
        Thresholds(LADDER, bounds),
        HeadSlack(LADDER),
        AdditiveIncrease(LADDER),
        DrainRule(LADDER),
    ]
    for policy in policies:
        assert policy(seen) in PLACE
        assert policy(seen) == policy(seen._replace(deadlines=tuple(seen.deadlines)))


@given(SLACKS, SLACKS, GATHERED, CORRECTION)
def test_more_queue_never_gets_a_dearer_level(
    slacks: list[float], others: list[float], gathered: float, correction: float
) -> None:
    rule = DrainRule(LADDER)
    less, more = (load(queue, gathered=gathered, correction=correction) for queue in (slacks, sorted(slacks + others)))
    assert PLACE[rule(less)] <= PLACE[rule(more)]


@given(SLACKS, st.floats(0, 0.2), GATHERED, CORRECTION)
def test_more_slack_never_gets_a_cheaper_level(
    slacks: list[float], extra: float, gathered: float, correction: float
) -> None:
    for policy in (DrainRule(LADDER), HeadSlack(LADDER)):
        less, more = (
            load(queue, gathered=gathered, correction=correction)
            for queue in (slacks, [slack + extra for slack in slacks])
        )
        assert PLACE[policy(more)] <= PLACE[policy(less)]


@given(SLACKS, GATHERED, CORRECTION)
def test_a_level_that_suffices_is_chosen_if_there_is_one(
    slacks: list[float], gathered: float, correction: float
) -> None:
    rule, seen = DrainRule(LADDER), load(slacks, gathered=gathered, correction=correction)
    sufficing = [PLACE[level] for level in rule.sufficient(seen)]
    assert PLACE[rule(seen)] == (min(sufficing) if sufficing else len(LADDER.rungs) - 1)
    for place in sufficing:
        done = 0.0
        for first in range(0, len(slacks), 8):
            done += correction * LADDER.rungs[place].seconds[min(8, len(slacks) - first) - 1]
            assert done <= slacks[first] + 1e-9


def test_a_cliff_is_gone_down_late_and_a_small_step_early() -> None:
    small, cliff = (
        LADDER._replace(rungs=(rung, LADDER.rungs[1]._replace(quality=share * rung.quality)))
        for rung in LADDER.rungs[:1]
        for share in (0.999, 0.6)
    )
    took = LADDER.rungs[0].seconds[0]
    tight = load([took + 0.03], gathered=0.0)
    assert DrainRule(small)(tight) == LADDER.rungs[1].level
    assert DrainRule(cliff)(tight) == DEAREST


def test_those_who_join_count_too() -> None:
    queue = [0.2] * 3
    assert PLACE[DrainRule(LADDER)(load(queue, gathered=0.01))] > PLACE[DrainRule(LADDER)(load(queue, gathered=0.5))]


def test_one_alone_gets_the_dearest_even_where_it_takes_much_of_the_slo() -> None:
    slo = 2.5 * LADDER.rungs[0].seconds[0]
    assert DrainRule(LADDER._replace(slo_s=slo))(load([slo], gathered=1.0)) == DEAREST


def test_thresholds_are_a_table_from_concurrency_to_level() -> None:
    policy = Thresholds(LADDER, (1, 2, 4, 8, 16))
    assert [PLACE[policy(Load(count, DEAREST))] for count in (1, 2, 3, 8, 16, 17, 999)] == [0, 1, 2, 3, 4, 5, 5]
    with pytest.raises(ConfigError, match="one fewer"):
        Thresholds(LADDER, (1, 2))
    with pytest.raises(ConfigError, match="rising"):
        Thresholds(LADDER, (5, 4, 3, 2, 1))


def test_aimd_climbs_by_one_and_falls_by_half() -> None:
    policy = AdditiveIncrease(LADDER)

    def after(place: int, late: bool) -> int:
        return PLACE[policy(load([], previous=LADDER.rungs[place].level, late=late))]

    assert PLACE[policy(load([]))] == 0
    assert [after(place, False) for place in (0, 1, 5)] == [0, 0, 4]
    assert [after(place, True) for place in (0, 1, 4, 5)] == [3, 3, 5, 5]
    assert policy(load([], previous=Level.parse("hybrid:w0.25-d1"))) == DEAREST


def test_the_correction_moves_by_a_fifth_at_most_and_is_forgotten_when_idle() -> None:
    correction = Correction()
    values = []
    for step in range(60):
        correction.observe(float(step), 100.0, 1.0)
        values.append(correction.value)
    assert all(b / a <= 1.2 + 1e-9 for a, b in zip([1.0, *values], values, strict=False))
    assert values[-1] == 5
    assert correction.at(62.0) == 5
    assert correction.at(80.0) == 1
    for step in range(200):
        correction.observe(80.0 + step, 2.5, 1.0)
    assert correction.value == pytest.approx(2.5, rel=1e-3)


@given(st.integers(0, 2000), st.floats(0, 0.2), CORRECTION)
def test_admission_lets_in_what_the_cheapest_level_can_serve(queued: int, busy: float, correction: float) -> None:
    admission = Admission(LADDER, share=0.8)
    wait = busy + correction * LADDER.rungs[-1].drain(queued + 1)
    assert admission.admits(0.25, queued, busy, correction) == (wait <= 0.2)
    if not admission.admits(0.25, queued, busy, correction):
        assert not admission.admits(0.25, queued + 1, busy, correction)


def test_a_margin_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="margin"):
        DrainRule(LADDER, margin=0)
