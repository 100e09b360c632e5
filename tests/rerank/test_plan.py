"""The depth budget's properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elastic_ir.errors import InputError
from elastic_ir.rerank.plan import cost, plan

EXITS = st.lists(st.integers(1, 24), min_size=1, max_size=6, unique=True).map(lambda exits: tuple(sorted(exits)))
BUDGET = st.floats(0.001, 1.0)


@given(BUDGET, st.integers(1, 300), EXITS)
def test_spends_at_most_the_budget_but_screens_one(budget: float, candidates: int, exits: tuple[int, ...]) -> None:
    steps = plan(budget, candidates, exits)
    assert cost(steps) <= max(budget * candidates * exits[-1] + 1e-6, exits[0])
    counts = [step.candidates for step in steps]
    assert counts == sorted(counts, reverse=True)
    assert 1 <= counts[0] <= candidates


@given(BUDGET, BUDGET, st.integers(1, 300), EXITS)
def test_more_budget_never_drops_a_candidate(a: float, b: float, candidates: int, exits: tuple[int, ...]) -> None:
    less, more = plan(min(a, b), candidates, exits), plan(max(a, b), candidates, exits)
    for depth in exits:
        kept = [max((s.candidates for s in steps if s.depth >= depth), default=0) for steps in (less, more)]
        assert kept[0] <= kept[1]


@given(st.integers(1, 300), EXITS)
def test_a_full_budget_takes_all_to_the_end(candidates: int, exits: tuple[int, ...]) -> None:
    assert plan(1.0, candidates, exits)[-1] == (candidates, exits[-1])


@pytest.mark.parametrize("budget", [0, -1, 1.1, float("nan")])
def test_a_budget_out_of_range_is_refused(budget: float) -> None:
    with pytest.raises(InputError, match="budget"):
        plan(budget, 10, (2, 12))


def test_the_designs_example() -> None:
    assert plan(0.25, 100, (2, 12)) == ((75, 2), (15, 12))
