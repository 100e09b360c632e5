"""Load to level."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elastic_ir.level import Level
from elastic_ir.schedule import Load, shrink_with_load

FULL = Level.parse("dense:w1.00-d12+rerank:w1.00:50@1.00")


@pytest.mark.parametrize(("in_flight", "budget"), [(1, 1.0), (2, 0.5), (4, 0.25), (10, 0.1), (1000, 0.1)])
def test_the_budget_is_shared_down_to_a_tenth(in_flight: int, budget: float) -> None:
    level = shrink_with_load(Load(in_flight, FULL))
    assert level.rerank is not None
    assert level.rerank.budget == budget
    assert level._replace(rerank=None) == FULL._replace(rerank=None)


@given(st.integers(1, 500), st.integers(1, 500))
def test_more_load_never_gets_more_budget(a: int, b: int) -> None:
    less, more = shrink_with_load(Load(min(a, b), FULL)), shrink_with_load(Load(max(a, b), FULL))
    assert less.rerank is not None
    assert more.rerank is not None
    assert more.rerank.budget <= less.rerank.budget


def test_the_least_budget_can_still_be_printed() -> None:
    level = shrink_with_load(Load(1000, Level.parse("bm25+rerank:w1.00:50@0.0002")))
    assert level == Level.parse(str(level)) == Level.parse("bm25+rerank:w1.00:50@0.0001")


def test_a_level_without_reranking_stays() -> None:
    level = Level.parse("dense:w0.50-d6")
    assert shrink_with_load(Load(9, level)) == level
