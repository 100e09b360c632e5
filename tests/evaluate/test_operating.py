"""Operating points: the Pareto front against a brute-force one, and what sidecars of all kinds give."""

from __future__ import annotations

import random
from typing import Any

import pytest

from elastic_ir.evaluate import evaluate
from elastic_ir.evaluate.charts import linear_scale, log_scale, trade_off
from elastic_ir.evaluate.marks import Marks
from elastic_ir.evaluate.operating import Point, by_level, front, latency, main_level, mean_flops, mean_latency_ms
from elastic_ir.level import Level


def point(name: str, quality: float, ms: float | None, level: str | None = None) -> Point:
    return Point(name, quality, Level.parse(level) if level else None, ms)


@pytest.mark.parametrize("seed", range(20))
def test_front_is_what_nothing_beats(seed: int) -> None:
    draw = random.Random(seed)
    points = [point(str(i), draw.randint(0, 9) / 10, draw.randint(1, 9)) for i in range(30)] + [
        point("free", 9.0, None)
    ]
    priced = [p for p in points if p.latency_ms is not None]

    def beaten(a: Point) -> bool:
        return any(
            b.quality >= a.quality and b.latency_ms <= a.latency_ms and (b[1], b[3]) != (a[1], a[3]) for b in priced
        )  # fmt: skip

    assert set(front(points, lambda p: p.latency_ms)) == {p for p in priced if not beaten(p)}


def test_sidecars_of_all_kinds() -> None:
    both: dict[str, Any] = {"levels": {"a": "bm25", "b": "dense:w0.50-d6", "c": "bm25"}, "flops": {"bm25": 0.0}}
    assert str(main_level(both)) == "bm25"
    assert mean_flops(both) is None  # one of its levels has no cost
    assert mean_flops(both | {"flops": {"bm25": 0.0, "dense:w0.50-d6": 3.0}}) == 1.0
    assert mean_latency_ms({"latency_ms": {"mean": 5}}) == 5.0
    assert mean_latency_ms({"latency_ms": {"mean": 5}, "queries_ms": {"a": 1, "b": 2}}) == 1.5
    for about in ({}, {"levels": None, "queries_ms": 3, "flops": [], "latency_ms": "slow"}, {"levels": {"a": "odd"}}):
        assert main_level(about) is mean_flops(about) is mean_latency_ms(about) is latency(about) is None


def test_latency_is_spread_over_all_queries() -> None:
    found = latency({"queries_ms": {str(ms): ms for ms in range(1, 102)}})
    assert found is not None
    assert (found.p5, found.p50, found.p95, found.max, found.mean) == (6.0, 51.0, 96.0, 101.0, 51.0)


def test_by_level_averages_judged_queries_of_each_level() -> None:
    qrels = {q: {"d": 1} for q in ("a", "b", "c", "d")}
    run = {"a": {"d": 1.0}, "b": {"x": 2.0, "d": 1.0}, "c": {"d": 1.0}}
    levels = {"a": "bm25", "b": "bm25", "c": "dense:w0.50-d6", "unjudged": "bm25"}
    rows = by_level(evaluate(qrels, {"r": run}, ["mrr"]), "r", {"levels": levels, "queries_ms": {"a": 4.0}})
    assert [(row.level, row.queries, row.means["mrr"], row.latency_ms) for row in rows] == [
        ("bm25", 2, 0.75, 4.0),
        ("dense:w0.50-d6", 1, 1.0, None),
    ]


def test_marks_tell_levels_apart_and_budgets_share_a_line() -> None:
    points = [
        point("0", 0.5, 1, "bm25"),
        point("1", 0.6, 2, "dense:w1.00-d12"),
        point("2", 0.6, 2, "dense:w0.50-d12"),
        point("3", 0.6, 2, "dense:w1.00-d6"),
        point("4", 0.6, 2, "hybrid:w1.00-d12"),
        point("5", 0.7, 9, "dense:w1.00-d12+rerank:w1.00:50@1.00"),
        point("6", 0.7, 5, "dense:w1.00-d12+rerank:w1.00:50@0.25"),
        point("7", 0.7, 5, "dense:w1.00-d12+rerank:w1.00:20@0.25"),
        point("8", 0.7, 5),
    ]
    marks = Marks.of(points)
    looks = [marks.mark(p) for p in points]
    assert len(set(looks[:5])) == 5
    assert looks[5] == looks[6] != looks[7]
    assert list(marks.families(points)) == [[6, 5]]
    assert [name for name, _ in marks.legend()] == [
        "retriever", "width of the query", "layers of the query", "candidates reranked",
    ]  # fmt: skip
    assert list(Marks.of(points[-1:]).legend()) == []


@pytest.mark.parametrize("values", [[0.0], [0.0, 0.0], [3.0], [1e-9, 1e9], [0.5, 0.5], [-1.0, 1.0], [0.0, 0.25]])
def test_scales_keep_every_value_inside(values: list[float]) -> None:
    for scale in (log_scale([abs(v) for v in values], 10, 90), linear_scale(values, 10, 90)):
        assert all(10 <= scale(abs(v) if scale.log else v) <= 90 for v in values)
        assert scale.ticks()
        assert all(10 <= scale(tick) <= 90.001 for tick in scale.ticks())


def test_every_point_is_drawn_and_the_front_is_told() -> None:
    points = [point(f"run<{i}>", i / 40, 40 - i if i % 2 else i + 1.0, "dense:w1.00-d6") for i in range(40)]
    svg = trade_off(points, lambda p: p.latency_ms, "map", "ms", "k")
    assert svg.count("<title>run&lt;") == 40
    assert "run<" not in svg
    assert "On the Pareto front: run&lt;39&gt; 0.9750 at 1." in svg
