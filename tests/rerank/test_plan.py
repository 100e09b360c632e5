"""The depth budget's properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elastic_ir.errors import InputError
from elastic_ir.rerank.plan import candidate_layers, check_budget, cost, plan
from elastic_ir.subnet import Subnet

WIDTH = st.sampled_from([0.25, 0.5, 0.75, 1.0])
SUBNET = st.builds(Subnet, WIDTH, st.integers(1, 24))
SHARE = st.floats(0.001, 1.0)
CARRIED = st.booleans()


@st.composite
def cascades(draw: st.DrawFn) -> list[Subnet]:
    """One to four sub-networks, each dearer than the one before."""
    drawn = draw(st.lists(SUBNET, min_size=1, max_size=4))
    return sorted({candidate_layers(subnet): subnet for subnet in drawn}.values(), key=candidate_layers)


CASCADE = cascades()


def layers_of(share: float, candidates: int, cascade: list[Subnet]) -> float:
    return share * candidates * candidate_layers(cascade[-1])


@given(SHARE, st.integers(1, 300), CASCADE, CARRIED)
def test_spends_at_most_the_budget_but_scores_one(
    share: float, candidates: int, cascade: list[Subnet], carried: bool
) -> None:
    layers = layers_of(share, candidates, cascade)
    steps = plan(layers, candidates, cascade, carried=carried)
    assert cost(steps, carried=carried) <= max(layers, candidate_layers(cascade[0])) + 1e-3
    counts = [step.candidates for step in steps]
    assert counts == sorted(counts, reverse=True)
    assert 1 <= counts[0] <= candidates
    subnets = [step.subnet for step in steps]
    start = cascade.index(subnets[0])
    assert subnets == cascade[start : start + len(steps)]


@given(SHARE, SHARE, st.integers(1, 300), CASCADE, CARRIED)
def test_more_budget_never_drops_a_candidate(
    a: float, b: float, candidates: int, cascade: list[Subnet], carried: bool
) -> None:
    budgets = [layers_of(share, candidates, cascade) for share in sorted((a, b))]
    less, more = (plan(layers, candidates, cascade, carried=carried) for layers in budgets)
    for subnet in cascade:  # counted where they come to it or past it
        reached = [
            max((n for n, step in steps if candidate_layers(step) >= candidate_layers(subnet)), default=0)
            for steps in (less, more)
        ]
        assert reached[0] <= reached[1]


def test_where_steps_are_left_out_the_last_one_takes_no_fewer() -> None:
    cascade = [Subnet(0.25, 2), Subnet(0.5, 2), Subnet(0.5, 6), Subnet(1.0, 12)]
    ends = [plan(layers, 100, cascade)[-1].candidates for layers in range(500, 601)]
    assert ends == sorted(ends)


@given(st.integers(1, 300), CASCADE, CARRIED)
def test_a_full_budget_takes_all_to_the_end(candidates: int, cascade: list[Subnet], carried: bool) -> None:
    assert plan(layers_of(1.0, candidates, cascade), candidates, cascade, carried=carried) == (
        (candidates, cascade[-1]),
    )


@pytest.mark.parametrize("budget", [0, -1, 1.1, float("nan")])
def test_a_budget_out_of_range_is_refused(budget: float) -> None:
    with pytest.raises(InputError, match="budget"):
        check_budget(budget)


@pytest.mark.parametrize("layers", [0, -1, float("nan")])
def test_a_plan_without_layers_is_refused(layers: float) -> None:
    with pytest.raises(InputError, match="candidate-layers"):
        plan(layers, 10, [Subnet(1.0, 2), Subnet(1.0, 12)])


def test_what_a_budget_buys() -> None:
    smallest, small, full = Subnet(0.25, 2), Subnet(0.5, 6), Subnet(1.0, 12)
    cascade = [smallest, small, full]
    assert plan(120, 100, cascade) == ((90, smallest), (25, small))  # too little to take any to the end
    assert plan(300, 100, cascade) == ((100, smallest), (31, small), (13, full))
    assert plan(180, 30, cascade) == ((30, small), (7, full))  # to leave out two costs more than all by the second
    assert plan(900, 100, cascade) == ((100, small), (50, full))
    assert plan(300, 100, [Subnet(1.0, 2), full], carried=True) == ((62, (1.0, 2)), (17, full))
    assert plan(120, 100, [full]) == ((10, full),)
    assert plan(300, 0, cascade) == ()
