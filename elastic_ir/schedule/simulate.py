"""The schedule on a virtual clock: the policies and the admission that serve, with service times from a ladder."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from elastic_ir.level import Level
from elastic_ir.schedule.control import Admission, Correction
from elastic_ir.schedule.ladder import Ladder, Rung
from elastic_ir.schedule.policies import Fixed, Load, Policy

REFUSED, OFF_LADDER = -1, -2
"""In place of the position of a level: no answer, and an answer of a service at a level that its ladder has not."""
_P95 = 1.645
"""Standard deviations of the normal distribution below which 95% lie."""


class Outcome(NamedTuple):
    """What became of every request.

    Attributes:
        ladder: the levels and the SLO.
        arrived: ``[N]`` seconds.
        latency: ``[N]`` seconds from arrival to answer; infinite where refused.
        rung: ``[N]`` position in the ladder of the level that answered; ``REFUSED``, or ``OFF_LADDER``.
        switches: how often the level changed from one batch to the next, over all requests simulated.
    """

    ladder: Ladder
    arrived: NDArray[np.float64]
    latency: NDArray[np.float64]
    rung: NDArray[np.int8]
    switches: int

    @property
    def in_time(self) -> NDArray[np.bool_]:
        """``[N]``: answered within the SLO."""
        found: NDArray[np.bool_] = self.latency <= self.ladder.slo_s
        return found

    @property
    def attainment(self) -> float:
        """Share of all requests answered within the SLO."""
        return float(self.in_time.mean())

    @property
    def refused(self) -> float:
        """Share of all requests that were refused or dropped."""
        return float((self.rung == REFUSED).mean())

    @property
    def quality(self) -> float:
        """Mean quality of the answered, but for levels off the ladder; NaN if none was."""
        known = self.rung[self.rung >= 0]
        return float(self._qualities[known].mean()) if len(known) else math.nan

    @property
    def worth(self) -> NDArray[np.float64]:
        """``[N]``: quality of the answer, 0 where it came late, not at all, or at a level off the ladder."""
        found: NDArray[np.float64] = np.where(self.in_time, self._qualities[self.rung], 0.0)
        return found

    @property
    def utility(self) -> float:
        """Mean worth of all requests."""
        return float(self.worth.mean())

    @property
    def goodput(self) -> float:
        """Requests a second answered within the SLO."""
        return float(self.in_time.sum() / (self.arrived[-1] - self.arrived[0])) if len(self.arrived) > 1 else 0.0

    @property
    def switches_per_s(self) -> float:
        """Changes of the level a second."""
        return self.switches / max(1e-9, float(self.arrived[-1] - self.arrived[0]))

    def percentile(self, share: float) -> float:
        """Seconds within which this share of the answered were answered; NaN if none was."""
        answered = self.latency[self.rung != REFUSED]
        return float(np.quantile(answered, share)) if len(answered) else math.nan

    def after(self, seconds: float) -> Outcome:
        """The requests that arrived ``seconds`` or more after the first."""
        late = self.arrived - self.arrived[0] >= seconds
        return self._replace(arrived=self.arrived[late], latency=self.latency[late], rung=self.rung[late])

    @property
    def _qualities(self) -> NDArray[np.float64]:
        """Of each level, then what ``OFF_LADDER`` and ``REFUSED`` are worth: as indices they count from the end."""
        return np.array([*(rung.quality for rung in self.ladder.rungs), 0.0, 0.0])


def simulate(
    ladder: Ladder,
    policy: Policy,
    arrived: NDArray[np.float64],
    *,
    admission: Admission | None = None,
    seed: int = 0,
    slowdown: float = 1.0,
    correct: bool = True,
) -> Outcome:
    """Serve ``arrived`` requests with one worker that takes batches in order of arrival.

    Args:
        ladder: levels, times and SLO.
        policy: chooses the level of each batch.
        arrived: seconds ``[N]``, rising.
        admission: refuses on arrival what cannot be served in time, and drops what has expired when its turn comes;
            None serves everything, however late.
        seed: of the noise in service times, log-normal between the ladder's median and p95.
        slowdown: actual over tabled service time.
        correct: whether the policy is told how wrong the table was lately.

    Returns:
        The same for the same input, to the last bit.
    """
    random = np.random.default_rng(seed)
    noise = iter(random.standard_normal(len(arrived)).tolist())  # no more batches than requests
    places = {rung.level: place for place, rung in enumerate(ladder.rungs)}
    actual = [service_times(rung, slowdown) for rung in ladder.rungs]
    times, count, slo = arrived.tolist(), len(arrived), ladder.slo_s
    latency, answered = [math.inf] * count, [REFUSED] * count
    queue: deque[int] = deque()
    correction, dearest = Correction(), ladder.rungs[0].level
    clock, formed, position, switches = 0.0, 0.0, 0, 0
    previous: Level | None = None
    late = False
    while position < count or queue:
        if not queue:
            clock = max(clock, times[position])
        while position < count and times[position] <= clock:
            arrival = times[position]
            learned = correction.at(arrival) if correct else 1.0
            if admission is None or admission.admits(slo, len(queue), clock - arrival, learned):
                queue.append(position)
            position += 1
        if admission is not None:
            while queue and times[queue[0]] + slo < clock:
                queue.popleft()
        if not queue:
            continue
        learned = correction.at(clock) if correct else 1.0
        deadlines = [times[request] + slo for request in queue]
        gathered = clock - min(formed, times[queue[0]])
        level = policy(Load(len(queue), dearest, clock, deadlines, gathered, learned, previous, late))
        place = places[level]
        rung = ladder.rungs[place]
        size = min(len(queue), rung.max_batch)
        median, spread = actual[place][size - 1]
        took = median * math.exp(spread * next(noise))
        formed, clock = clock, clock + took
        if correct:
            correction.observe(clock, took, rung.seconds[size - 1])
        late = False
        for _ in range(size):
            request = queue.popleft()
            latency[request], answered[request] = clock - times[request], place
            late = late or latency[request] > slo
        switches += previous is not None and level != previous
        previous = level
    return Outcome(ladder, arrived, np.array(latency), np.array(answered, np.int8), switches)


def capacity(ladder: Ladder, share: float = 0.99, requests: int = 20_000, seed: int = 0) -> float:
    """C: the highest Poisson rate at which the dearest level alone keeps ``share`` of requests within the SLO.

    0 where it does not do so even for one request at a time.
    """
    units = np.cumsum(np.random.default_rng(seed).exponential(1.0, requests))
    dearest = Fixed(ladder.rungs[0].level)
    low, high = 0.0, 1.2 * ladder.rungs[0].rate
    alone = simulate(ladder, dearest, 1000 * units / high, seed=seed)
    if alone.attainment < share:
        return 0.0
    while high - low > 0.005 * high:
        rate = (low + high) / 2
        kept = simulate(ladder, dearest, units / rate, seed=seed).attainment
        low, high = (rate, high) if kept >= share else (low, rate)
    return low


def service_times(rung: Rung, slowdown: float = 1.0) -> list[tuple[float, float]]:
    """(median seconds, spread of the logarithm) of each batch size, at ``slowdown`` times what the table says."""
    typical = rung.typical or rung.seconds
    return [
        (slowdown * median, math.log(p95 / median) / _P95 if p95 > median else 0.0)
        for median, p95 in zip(typical, rung.seconds, strict=True)
    ]
