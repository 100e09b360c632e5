"""The depth budget: how many candidates run how far."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from elastic_ir.errors import InputError
from elastic_ir.subnet import Subnet

TOP = 10
"""Candidates that the last step takes before the others get wider: what a reader looks at."""
WIDER = 4
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

    What a budget buys first is a start: all steps but the last together, up to ``WIDER`` times as many candidates as
    the step after, then the last step for ``TOP`` of them. What is left widens all steps alike. A step is left out once
    the next one can take all candidates, so that a full budget takes them through the last sub-network at once.

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
    first, *rest = cascade
    if not rest:
        return (Step(min(candidates, max(1, int((layers + _SLACK) / candidate_layers(first)))), first),)
    shorter = plan(layers, candidates, rest, carried=carried)
    if shorter[0].candidates == candidates and cost(shorter, carried=carried) <= layers + _SLACK:
        return shorter
    costs = [candidate_layers(subnet) for subnet in cascade]
    prices = [costs[0], *(after - carried * before for before, after in pairwise(costs))]
    start = [TOP * WIDER**further for further in reversed(range(len(cascade)))]

    def counts(part: float) -> list[float]:
        shares = [min(part, 1.0)] * len(rest) + [min(max(part - 1, 0.0), 1.0)]
        return [min(candidates, count * share * max(1.0, part - 1)) for count, share in zip(start, shares, strict=True)]

    def fits(part: float) -> bool:
        return sum(count * price for count, price in zip(counts(part), prices, strict=True)) <= layers

    low, high = 0.0, candidates + 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    whole_counts = [int(count + _SLACK) for count in counts(low)]
    whole_counts[0] = max(1, whole_counts[0])
    return tuple(Step(count, subnet) for count, subnet in zip(whole_counts, cascade, strict=True) if count)


def cost(steps: Plan, *, carried: bool = False) -> float:
    """Candidate-layers that ``steps`` run; ``carried`` steps go on from the states of the one before."""
    done, total = 0.0, 0.0
    for step in steps:
        whole = candidate_layers(step.subnet)
        total += step.candidates * (whole - done)
        done = whole if carried else 0.0
    return total
