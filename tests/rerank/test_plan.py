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


def layers_of(share: float, candidates: int, last: Subnet) -> float:
    return share * candidates * candidate_layers(last)


@given(SHARE, st.integers(1, 300), SUBNET, SUBNET, CARRIED)
def test_spends_at_most_the_budget_but_scores_one(
    share: float, candidates: int, screen: Subnet, last: Subnet, carried: bool
) -> None:
    layers = layers_of(share, candidates, last)
    steps = plan(layers, candidates, screen, last, carried=carried)
    least = min(candidate_layers(screen), candidate_layers(last))
    assert cost(steps, carried=carried) <= max(layers, least) + 1e-4
    counts = [step.candidates for step in steps]
    assert counts == sorted(counts, reverse=True)
    assert 1 <= counts[0] <= candidates


@given(SHARE, SHARE, st.integers(1, 300), SUBNET, SUBNET, CARRIED)
def test_more_budget_never_drops_a_candidate(
    a: float, b: float, candidates: int, screen: Subnet, last: Subnet, carried: bool
) -> None:
    budgets = [layers_of(share, candidates, last) for share in sorted((a, b))]
    less, more = (plan(layers, candidates, screen, last, carried=carried) for layers in budgets)
    assert less[0].candidates <= more[0].candidates
    finished = [sum(step.candidates for step in steps if step.subnet == last) for steps in (less, more)]
    assert finished[0] <= finished[1]


@given(st.integers(1, 300), SUBNET, SUBNET, CARRIED)
def test_a_full_budget_takes_all_to_the_end(candidates: int, screen: Subnet, last: Subnet, carried: bool) -> None:
    assert plan(layers_of(1.0, candidates, last), candidates, screen, last, carried=carried) == ((candidates, last),)


@pytest.mark.parametrize("budget", [0, -1, 1.1, float("nan")])
def test_a_budget_out_of_range_is_refused(budget: float) -> None:
    with pytest.raises(InputError, match="budget"):
        check_budget(budget)


@pytest.mark.parametrize("layers", [0, -1, float("nan")])
def test_a_plan_without_layers_is_refused(layers: float) -> None:
    with pytest.raises(InputError, match="candidate-layers"):
        plan(layers, 10, Subnet(1.0, 2), Subnet(1.0, 12))


def test_the_designs_examples() -> None:
    exit_2, small, full = Subnet(1.0, 2), Subnet(0.5, 2), Subnet(1.0, 12)
    assert plan(300, 100, exit_2, full, carried=True) == ((75, exit_2), (15, full))
    assert plan(300, 100, small, full) == ((100, small), (16, full))
    assert plan(120, 100, small, full) == ((60, small), (5, full))
    assert plan(300, 0, small, full) == ()
