"""How good could a schedule be? The best one of a wide class for Poisson arrivals, by dynamic programming.

The fluid bound lets every batch be of the best size and forgets that who arrives while one is worked on waits for its
end. Where a full batch of the dearest level takes longer than the SLO, it is far off at high load. This one knows the
rate, the quality that will be judged and the age of all that waits, and takes in each batch all of it, or all but the
oldest, which are lost, at the best level.

python benchmarks/optimum.py --ladder ladder.json --on msmarco-dl19-mini --slo-ms 97
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from measured import store
from numpy.typing import NDArray
from online import judged_on, reader
from scipy.special import ndtr

from elastic_ir.schedule import Admission, DrainRule, Ladder
from elastic_ir.schedule.arrivals import arrivals
from elastic_ir.schedule.ladderfile import read_ladder
from elastic_ir.schedule.simulate import capacity, service_times, simulate

STEP_S, SAMPLES, SWEEPS, HALVINGS = 0.001, 128, 80, 14
LOADS = 0.5, 1, 2, 4
"""Multiples of C."""


class Choices(NamedTuple):
    """What can be done with those that wait: for each choice the seconds ``[C]``, the state it leads to ``[C]``, and
    the quality in time ``[T, S, C]`` after a batch of T steps, for S samples of when in it they came."""

    seconds: NDArray[np.float32]
    leads_to: NDArray[np.int64]
    reward: NDArray[np.float32]


def optimum(ladder: Ladder, rate: float) -> float:
    """Mean quality, 0 where late or refused, of the best schedule at ``rate`` requests a second; to about 0.001.

    A state is the time that the last batch took: given it, the number that came is Poisson and when they came uniform.
    The long-run gain of a semi-Markov process, by value iteration within bisection. Of more than a full batch that
    wait the rest are lost, so it is for loads at which that is rare.
    """
    most = ladder.rungs[0].max_batch
    served = np.array([service_times(rung) for rung in ladder.rungs])
    median, spread = served[..., 0], np.maximum(served[..., 1], 1e-4)
    times = STEP_S * np.arange(1, round(median.max() / STEP_S) + 2)
    random = np.random.default_rng(0)
    choices = [_choices(ladder, n, median, spread, times, random) for n in range(1, most + 1)]
    counts = np.arange(most)
    came = np.exp(-rate * times)[:, None] * (rate * times)[:, None] ** counts / [math.factorial(n) for n in counts]
    came = np.hstack([came, 1 - came.sum(1, keepdims=True)])
    alone = _choices(ladder, 1, median, spread, np.zeros(1), random)
    low, high = 0.0, rate * ladder.rungs[0].quality
    for _ in range(HALVINGS):
        gain = (low + high) / 2
        low, high = (gain, high) if _surplus(gain, choices, alone, came, rate) > 0 else (low, gain)
    return low / rate


def _choices(
    ladder: Ladder,
    n: int,
    median: NDArray[np.float64],
    spread: NDArray[np.float64],
    times: NDArray[np.float64],
    random: np.random.Generator,
) -> Choices:
    oldest_first = -np.sort(-random.random((SAMPLES, n)), axis=1)
    seconds, reward = [], []
    for place, rung in enumerate(ladder.rungs):
        for dropped in range(n):
            took = median[place, n - dropped - 1]
            slack = np.maximum(ladder.slo_s - oldest_first[None, :, dropped:] * times[:, None, None], 1e-9)
            in_time = ndtr(np.log(slack / took) / spread[place, n - dropped - 1])
            seconds.append(took)
            reward.append(rung.quality * in_time.sum(2))
    leads_to = np.maximum(np.round(np.array(seconds) / STEP_S).astype(int) - 1, 0)
    return Choices(np.array(seconds, np.float32), leads_to, np.stack(reward, 2).astype(np.float32))


def _surplus(gain: float, choices: list[Choices], alone: Choices, came: NDArray[np.float64], rate: float) -> float:
    """What the best schedule gains in a batch above ``gain`` a second, in the long run."""
    value = np.zeros(len(came))
    surplus = 0.0
    for _ in range(SWEEPS):
        idle = alone.reward[0].mean(0) - gain * (alone.seconds + 1 / rate) + value[alone.leads_to]
        found = came[:, 0] * idle.max()
        for n, its in enumerate(choices, 1):
            worth = (value[its.leads_to] - gain * its.seconds).astype(np.float32)
            found = found + came[:, n] * (its.reward + worth).max(2).mean(1)
        surplus = float(found[0])
        value = found - surplus
    return surplus


def main() -> None:
    """Compute beside what the drain rule has in the simulator, print and store."""
    arguments = reader(__doc__).parse_args()
    ladder = read_ladder(arguments.ladder).ladder(arguments.slo_ms)
    judged = judged_on(ladder, arguments.on, arguments.runs) if arguments.on else ladder
    c = capacity(ladder)
    lines = ["| load | fluid bound | best schedule | drain rule |", "|---|---|---|---|"]
    figures: dict[str, dict[str, float]] = {}
    for times_c in LOADS:
        rate = times_c * c
        rule = simulate(judged, DrainRule(ladder), arrivals(f"poisson:{rate}", 20_000, 0), admission=Admission(ladder))
        found = {"fluid": judged.fluid_bound(rate), "best": optimum(judged, rate), "drain rule": rule.utility}
        figures[f"{times_c:g} C"] = found
        lines.append(f"| {times_c:g} C | " + " | ".join(f"{value:.4f}" for value in found.values()) + " |")
        print(lines[-1], flush=True)
    slo_ms = 1000 * ladder.slo_s
    command = f"python benchmarks/optimum.py --ladder LADDER --slo-ms {slo_ms:g}" + f" --on {arguments.on}" * bool(
        arguments.on
    )
    store(f"optimum-{slo_ms:.0f}ms", command, {"C": c, "figures": figures}, "\n".join(lines))


if __name__ == "__main__":
    main()
