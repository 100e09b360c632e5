"""``Ladder``: the levels worth serving on one machine, dearest first, with their measured quality and times."""

from __future__ import annotations

import math
from typing import NamedTuple

from elastic_ir.errors import ConfigError
from elastic_ir.level import Level


def check_slo(seconds: float) -> None:
    """Refuse an SLO that is no span of time.

    Raises:
        ConfigError: if it is not above 0, or not finite.
    """
    if not 0 < seconds < math.inf:
        raise ConfigError(f"slo {seconds} s is out of range; wanted a finite time above 0")


class Rung(NamedTuple):
    """One level of a ladder.

    Attributes:
        level: the operating point.
        quality: mean nDCG@10 on the queries the ladder was chosen on.
        seconds: service time of a batch of 1, 2, .. requests, the measured p95; larger batches are not served.
        typical: the same, the median; None means the p95.
    """

    level: Level
    quality: float
    seconds: tuple[float, ...]
    typical: tuple[float, ...] | None = None

    @property
    def max_batch(self) -> int:
        """Requests served together, at most."""
        return len(self.seconds)

    @property
    def rate(self) -> float:
        """Requests a second that full batches sustain, by the median time: under load a batch is all that waits."""
        return self.max_batch / (self.typical or self.seconds)[-1]

    @property
    def best_rate(self) -> float:
        """Requests a second that batches of the best size sustain, which need not be the full one."""
        return max(size / time for size, time in enumerate(self.typical or self.seconds, 1))

    def with_overhead(self, seconds: float) -> Rung:
        """This rung where each request takes ``seconds`` more."""

        def slower(times: tuple[float, ...]) -> tuple[float, ...]:
            return tuple(time + size * seconds for size, time in enumerate(times, 1))

        return self._replace(seconds=slower(self.seconds), typical=self.typical and slower(self.typical))

    def expected(self, requests: float) -> float:
        """Seconds of a batch of so many ``requests``, not always whole: 0 for none, and for more the largest batch."""
        whole = int(requests)
        if whole >= self.max_batch:
            return self.seconds[-1]
        below = self.seconds[whole - 1] if whole else 0.0
        return below + (requests - whole) * (self.seconds[whole] - below)

    def drain(self, requests: int) -> float:
        """Seconds to serve ``requests`` in full batches and a rest."""
        whole, rest = divmod(requests, self.max_batch)
        return whole * self.seconds[-1] + (self.seconds[rest - 1] if rest else 0.0)


class Ladder(NamedTuple):
    """Levels for one service-level objective (SLO), dearest first.

    Attributes:
        rungs: at least one; quality and time fall from one to the next.
        slo_s: seconds within which an answer is in time.
        judged: whether the qualities were measured; if not, they only say which level counts as better.
    """

    rungs: tuple[Rung, ...]
    slo_s: float
    judged: bool = True

    def checked(self) -> Ladder:
        """This ladder, or an error when a cheaper level is slower, by p95 or median, or better, than a dearer one.

        Raises:
            ConfigError: naming the levels.
        """
        if not self.rungs:
            raise ConfigError("a ladder needs at least one level")
        check_slo(self.slo_s)
        for rung in self.rungs:
            for times in (rung.seconds, rung.typical or rung.seconds):
                if not times or not all(0 < time < math.inf for time in times) or list(times) != sorted(times):
                    raise ConfigError(f"level {rung.level}: times {times} are not positive and rising with the batch")
        for dearer, cheaper in zip(self.rungs, self.rungs[1:], strict=False):
            if dearer.max_batch != cheaper.max_batch:
                raise ConfigError(f"levels {dearer.level} and {cheaper.level} have times of different batches")
            if cheaper.quality > dearer.quality:
                raise ConfigError(f"level {cheaper.level} is cheaper than {dearer.level} and better: drop the dearer")
            medians = dearer.typical or dearer.seconds, cheaper.typical or cheaper.seconds
            for by, pair in (("p95", (dearer.seconds, cheaper.seconds)), ("median", medians)):
                if any(b > a for a, b in zip(*pair, strict=True)):
                    raise ConfigError(
                        f"level {cheaper.level} takes longer than {dearer.level}, which stands above it, by the {by}"
                    )
        return self

    def rung(self, level: Level) -> Rung | None:
        """The rung of ``level``; None if this ladder does not have it."""
        return next((rung for rung in self.rungs if rung.level == level), None)

    def one_by_one(self) -> Ladder:
        """This ladder for requests that are served alone."""
        alone = (
            rung._replace(seconds=rung.seconds[:1], typical=rung.typical and rung.typical[:1]) for rung in self.rungs
        )
        return self._replace(rungs=tuple(alone))

    def with_overhead(self, seconds: float) -> Ladder:
        """This ladder where each request takes ``seconds`` more of the same core."""
        return self._replace(rungs=tuple(rung.with_overhead(seconds) for rung in self.rungs))

    def fluid_bound(self, rate: float) -> float:
        """The best mean quality that any schedule can have at ``rate`` requests a second in the long run.

        The best mix of two levels, or of one and refusal, whose mean time a request, in batches of the best size, is
        no more than ``1 / rate``; a refused request counts 0.
        """
        points = [(0.0, 0.0), *((1 / rung.best_rate, rung.quality) for rung in self.rungs)]
        budget = 1 / rate
        best = max(quality for time, quality in points if time <= budget)
        for fast in points:
            for slow in points:
                if fast[0] <= budget < slow[0]:
                    share = (budget - fast[0]) / (slow[0] - fast[0])
                    best = max(best, fast[1] + share * (slow[1] - fast[1]))
        return best
