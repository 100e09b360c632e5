"""The depth budget: how many candidates run how deep."""

from __future__ import annotations

from typing import NamedTuple

from elastic_ir.errors import InputError


class Step(NamedTuple):
    """The best ``candidates`` of the step before (the retriever's first ones, in the first step) run to ``depth``."""

    candidates: int
    depth: int


Plan = tuple[Step, ...]


def check_budget(budget: float) -> None:
    """Refuse a budget outside (0, 1]."""
    if not 0 < budget <= 1:
        raise InputError(f"budget {budget} is out of range; wanted a share of the full candidate-layers in (0, 1]")


def plan(budget: float, candidates: int, exits: tuple[int, ...], screen: int | None = None) -> Plan:
    """Two steps within a share of the full candidate-layers.

    Half of the budget screens candidates, in retriever order, at a shallow exit; the rest takes the
    best of them to the end on carried hidden states. What one half cannot use goes to the other.

    Args:
        budget: share of ``candidates * exits[-1]`` layers that may run, in (0, 1].
        candidates: how many there are.
        exits: depths that have a score head, ascending.
        screen: depth of the first step, one of ``exits``; None means the shallowest.

    Returns:
        At most two steps. Both counts never fall as the budget rises, the layers run never exceed the
        budget, and a budget of 1 takes every candidate to the end. At least one candidate is screened.

    Raises:
        InputError: if the budget is outside (0, 1] or ``screen`` is not an exit.
    """
    check_budget(budget)
    first, last = exits[0] if screen is None else screen, exits[-1]
    if first not in exits:
        raise InputError(f"no exit after layer {first}; known: {', '.join(map(str, exits))}")
    if candidates < 1:
        return ()
    layers = int(budget * candidates * last + 1e-6)
    if first == last:
        return (Step(max(1, layers // last), last),)
    half, further = layers // 2, last - first
    screened = min(candidates, max(1, max(half, layers - candidates * further) // first))
    left = min(max(half, layers - candidates * first), max(0, layers - screened * first))
    finished = min(screened, left // further)
    steps = (Step(screened, first), Step(finished, last))
    return steps if finished else steps[:1]


def cost(steps: Plan) -> int:
    """Candidate-layers that ``steps`` runs, states carried from one to the next."""
    done, total = 0, 0
    for step in steps:
        total += step.candidates * (step.depth - done)
        done = step.depth
    return total
