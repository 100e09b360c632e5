"""Subnets and levels print and parse back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elastic_ir import Level, Subnet
from elastic_ir.errors import SubnetError
from elastic_ir.level import RerankLevel

WIDTHS = st.integers(1, 10_000).map(lambda n: n / 10_000)


@given(WIDTHS, st.integers(1, 999))
def test_subnets_round_trip(width: float, depth: int) -> None:
    assert Subnet.parse(str(Subnet(width, depth))) == Subnet(width, depth)


@given(st.sampled_from(["dense", "hybrid"]), WIDTHS, st.integers(1, 99), WIDTHS, st.integers(1, 9999), WIDTHS)
def test_levels_round_trip(name: str, width: float, depth: int, wide: float, candidates: int, budget: float) -> None:
    level = Level(name, Subnet(width, depth), RerankLevel(wide, candidates, budget))
    assert Level.parse(str(level)) == level


@pytest.mark.parametrize("text", ["bm25", "dense:w0.50-d6", "dense:w1.00-d12+rerank:w1.00:50@0.25"])
def test_the_designs_levels(text: str) -> None:
    assert str(Level.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "w0.5", "bm25:w1.00-d2", "dense", "dense:w1.00-d2+", "dense:w1.00-d2+rerank:w1.00:0@1.00", "sparse:w1.00-d2",
     "dense:w0.00-d2", "dense:w1.00-d0", "bm25+rerank:w1.00:10@1.50"],
)  # fmt: skip
def test_a_level_that_cannot_be_read(text: str) -> None:
    with pytest.raises(SubnetError):
        Level.parse(text)


@pytest.mark.parametrize(
    ("width", "heads", "neurons"), [(1.0, 12, 1536), (0.5, 6, 768), (0.25, 3, 384), (0.01, 1, 64), (1e-4, 1, 64)]
)
def test_widths_of_a_layer(width: float, heads: int, neurons: int) -> None:
    assert (Subnet(width, 1).heads(12), Subnet(width, 1).neurons(1536)) == (heads, neurons)
