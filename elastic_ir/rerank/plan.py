"""The depth budget: how many candidates run how far."""

from __future__ import annotations

from typing import NamedTuple

from elastic_ir.errors import InputError
from elastic_ir.subnet import Subnet

_SLACK = 1e-6


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


def plan(layers: float, candidates: int, screen: Subnet, last: Subnet, *, carried: bool = False) -> Plan:
    """Two steps within a budget.

    Half of the budget screens candidates, in retriever order, by a cheap sub-network; the rest takes the best of
    them through ``last``. What one half cannot use goes to the other, and a budget that suffices for all
    of them through ``last`` screens none.

    Args:
        layers: candidate-layers that may run.
        candidates: how many there are.
        screen: sub-network of the first step.
        last: sub-network of the last step; no screening where it is ``screen`` or costs no more.
        carried: the last step goes on from the states of the first, instead of from the text.

    Returns:
        At most two steps. The candidates that reach a step never get fewer as the budget rises, and the layers run
        never exceed it but for the one candidate that is always scored.

    Raises:
        InputError: if ``layers`` is not above 0.
    """
    if not layers > 0:
        raise InputError(f"{layers} candidate-layers is out of range; wanted more than 0")
    first, whole = candidate_layers(screen), candidate_layers(last)
    if candidates < 1:
        return ()
    if first >= whole or layers + _SLACK >= candidates * whole:
        return (Step(min(candidates, max(1, int((layers + _SLACK) / whole))), last),)
    further = whole - first if carried else whole
    half = layers / 2
    screened = min(candidates, max(1, int((max(half, layers - candidates * further) + _SLACK) / first)))
    left = min(max(half, layers - candidates * first), layers - screened * first)
    finished = min(screened, max(0, int((left + _SLACK) / further)))
    steps = (Step(screened, screen), Step(finished, last))
    return steps if finished else steps[:1]


def cost(steps: Plan, *, carried: bool = False) -> float:
    """Candidate-layers that ``steps`` run; ``carried`` steps go on from the states of the one before."""
    done, total = 0.0, 0.0
    for step in steps:
        whole = candidate_layers(step.subnet)
        total += step.candidates * (whole - done)
        done = whole if carried else 0.0
    return total
