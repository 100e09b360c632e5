"""The depth budget: how many candidates run how far."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from elastic_ir.errors import InputError
from elastic_ir.subnet import Subnet

TOP = 12
"""Candidates that the last step takes before all get wider: the ten that a reader looks at, and some to choose from."""
SHARE = 0.6
"""What a step costs beside the next one, as they get wider."""
_LEAST_WIDER = 2.0
_SLACK = 1e-6
_HALVINGS = 60


class Step(NamedTuple):
    """The best ``candidates`` of the step before (the retriever's first ones, in the first step) run ``subnet``."""

    candidates: int
    subnet: Subnet


Plan = tuple[Step, ...]


def check_budget(budget: float) -> None:
    """Refuse a budget outside (0, 1]."""
    if not 0 < budget <= 1:
        raise InputError(f"budget {budget} is out of range; wanted a share of the full candidate-layers in (0, 1]")


def candidate_layers(subnet: Subnet) -> float:
    """What one candidate costs: a layer at width w counts w."""
    return subnet.width * subnet.depth


def plan(layers: float, candidates: int, cascade: Sequence[Subnet], *, carried: bool = False) -> Plan:
    """Steps within a budget: each sub-network of ``cascade`` takes the best of the one before.

    What a budget buys first is a start: all steps but the last together, then the last step for ``TOP`` candidates. A
    step takes more than the next one, so many that it costs ``SHARE`` of it, but at least twice as many. What is left
    widens all steps alike. Steps are left out once the next one can take all candidates for what they cost together.

    Args:
        layers: candidate-layers that may run.
        candidates: how many there are, in retriever order.
        cascade: sub-networks, each dearer than the one before; at least one.
        carried: a step goes on from the states of the one before, instead of from the text.

    Returns:
        At most as many steps as ``cascade`` has. The candidates that reach a step never get fewer as the budget rises,
        and the layers run never exceed it but for the one candidate that is always scored.

    Raises:
        InputError: if ``layers`` is not above 0.
    """
    if not layers > 0:
        raise InputError(f"{layers} candidate-layers is out of range; wanted more than 0")
    if candidates < 1:
        return ()
    costs = [candidate_layers(subnet) for subnet in cascade]
    prices = [costs[0], *(after - carried * before for before, after in pairwise(costs))]
    counts = _counts(layers, candidates, costs, prices, to_all=False)
    while first := _affordable(candidates, counts, costs, prices):
        cascade, costs, prices = cascade[first:], costs[first:], [costs[first], *prices[first + 1 :]]
        counts = _counts(layers, candidates, costs, prices, to_all=True)
    whole = [int(count + _SLACK) for count in counts]
    whole[0] = max(1, whole[0])
    return tuple(Step(count, subnet) for count, subnet in zip(whole, cascade, strict=True) if count)


def _affordable(candidates: int, counts: list[float], costs: list[float], prices: list[float]) -> int:
    """The first step that could take all candidates for what is spent up to it; 0 for none but the first."""
    spent = accumulate(count * price for count, price in zip(counts, prices, strict=True))
    steps = enumerate(zip(costs, spent, strict=True))
    return next((step for step, (cost, so_far) in steps if step and candidates * cost <= so_far + _SLACK), 0)


def _counts(layers: float, candidates: int, costs: list[float], prices: list[float], *, to_all: bool) -> list[float]:
    """Candidates of each step, whose ``prices`` differ from their ``costs`` where states are carried on.

    The first step takes all where they were found to be affordable (``to_all``).
    """
    start = [float(TOP)]
    for before, after in reversed([*pairwise(costs)]):
        start.insert(0, start[0] * max(_LEAST_WIDER, SHARE * after / before))

    def at(part: float) -> list[float]:
        shares = [min(part, 1.0)] * (len(costs) - 1) + [min(max(part - 1, 0.0), 1.0)]
        wide = [min(candidates, count * share * max(1.0, part - 1)) for count, share in zip(start, shares, strict=True)]
        return [float(candidates), *wide[1:]] if to_all else wide

    def fits(part: float) -> bool:
        return sum(count * price for count, price in zip(at(part), prices, strict=True)) <= layers + _SLACK

    low, high = 0.0, candidates + 2.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return at(low)


def cost(steps: Plan, *, carried: bool = False) -> float:
    """Candidate-layers that ``steps`` run; ``carried`` steps go on from the states of the one before."""
    done, total = 0.0, 0.0
    for step in steps:
        whole = candidate_layers(step.subnet)
        total += step.candidates * (whole - done)
        done = whole if carried else 0.0
    return total
