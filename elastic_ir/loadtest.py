"""An open-loop load generator: every request is sent when it is due, whether or not the last was answered."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from elastic_ir.client import check_token, check_url, is_loopback
from elastic_ir.errors import BackendError, InputError
from elastic_ir.level import Level
from elastic_ir.schedule import Ladder, Rung
from elastic_ir.schedule.arrivals import arrivals
from elastic_ir.schedule.ladder import check_slo
from elastic_ir.schedule.simulate import OFF_LADDER, REFUSED, Outcome

LATEST_MS = 5.0
"""A run whose requests left later than this (p99) says more of the generator than of the service."""
MOST_REQUESTS = 5_000_000
LONGEST_MS = 600_000
TIMEOUT = "timeout"


class Sent(NamedTuple):
    """One request: seconds, and what became of it."""

    due: float
    late_s: float
    latency_s: float
    status: str
    level: str | None
    degraded: bool


class Loaded(NamedTuple):
    """A finished run.

    ``sent`` in order of arrival, at least one; ``ladder`` as the service told; requests were due for ``seconds``.
    """

    arrivals: str
    ladder: Ladder
    sent: tuple[Sent, ...]
    seconds: float

    @property
    def lateness_ms(self) -> float:
        """p99 of how late requests left."""
        return float(np.quantile([1000 * one.late_s for one in self.sent], 0.99))

    @property
    def valid(self) -> bool:
        """Whether the generator kept up."""
        return self.lateness_ms <= LATEST_MS

    @property
    def outcome(self) -> Outcome:
        """The same in the form of the simulator."""
        places = {str(rung.level): place for place, rung in enumerate(self.ladder.rungs)}
        rung = [places.get(one.level or "", OFF_LADDER) if one.status == "200" else REFUSED for one in self.sent]
        latency = [one.latency_s if place != REFUSED else math.inf for one, place in zip(self.sent, rung, strict=True)]
        levels = [one.level for one in self.sent if one.level]
        switches = sum(a != b for a, b in itertools.pairwise(levels))
        arrived: NDArray[np.float64] = np.array([one.due for one in self.sent])
        return Outcome(self.ladder, arrived, np.array(latency), np.array(rung, np.int8), switches)

    def summary(self) -> dict[str, Any]:
        """Figures for people and files; milliseconds from the scheduled send time.

        A request that was not answered in the generator's own time counts in ``latency_ms`` with the time waited, one
        whose connection broke with the longest time there is. None stands where nothing was answered. The
        share ``off_ladder`` of the answers came at levels that the ladder has not: what these are worth nobody knows,
        so they count 0 in ``utility``, and not in ``quality``.
        """
        from hdrh.histogram import HdrHistogram

        from elastic_ir.posting import BROKEN

        histogram = HdrHistogram(1, LONGEST_MS * 1000, 3)
        answered = [one for one in self.sent if one.status == "200"]
        waited = [one.latency_s for one in self.sent if one.status in ("200", TIMEOUT)]
        waited += [LONGEST_MS / 1000 for one in self.sent if one.status == BROKEN]
        for latency_s in waited:
            histogram.record_value(max(1, min(LONGEST_MS * 1000, round(1_000_000 * latency_s))))
        refused = [1000 * one.latency_s for one in self.sent if one.status in ("429", "503")]
        outcome = self.outcome
        percentiles = {
            f"p{share:g}": histogram.get_value_at_percentile(share) / 1000 if answered else None
            for share in (50, 95, 99, 99.9)
        }
        return {
            "arrivals": self.arrivals,
            "slo_ms": 1000 * self.ladder.slo_s,
            "seconds": self.seconds,
            "offered": len(self.sent),
            "rate": len(self.sent) / self.seconds,
            "statuses": dict(Counter(one.status for one in self.sent)),
            "in_slo": sum(one.latency_s <= self.ladder.slo_s for one in answered) / len(self.sent),
            "degraded": sum(one.degraded for one in answered) / max(1, len(answered)),
            "levels": dict(Counter(one.level for one in answered)),
            "off_ladder": int((outcome.rung == OFF_LADDER).sum()) / max(1, len(answered)),
            "quality": outcome.quality if self.ladder.judged and math.isfinite(outcome.quality) else None,
            "utility": outcome.utility if self.ladder.judged else None,
            "goodput": int(outcome.in_time.sum()) / self.seconds,
            "latency_ms": percentiles,
            "refusal_p99_ms": float(np.quantile(refused, 0.99)) if refused else None,
            "lateness_p99_ms": self.lateness_ms,
            "valid": self.valid,
        }


def load(
    url: str,
    form: str,
    queries: Sequence[str],
    *,
    seconds: float = 60.0,
    slo_ms: float | None = None,
    k: int = 10,
    seed: int = 0,
    token: str | None = None,
    timeout_s: float = 30.0,
    hang_up: tuple[float, float] = (0.0, 0.0),
    anywhere: bool = False,
) -> Loaded:
    """Send questions to a service as ``form`` has them arrive.

    Args:
        url: of the service.
        form: arrivals, e.g. ``poisson:40`` (see ``schedule.arrivals``).
        queries: asked in turn.
        seconds: how long.
        slo_ms: in place of what the service promises.
        k: hits asked for.
        seed: of the arrivals.
        token: bearer token.
        timeout_s: after which an answer is given up.
        hang_up: (share, seconds): so many clients go away after so long.
        anywhere: allow another address than this machine's own.

    Raises:
        InputError: for arrivals that cannot be read, an SLO that is none, no queries, or an address elsewhere.
        BackendError: if the service does not answer.
    """
    if not queries:
        raise InputError("there are no queries; wanted at least one")
    check_url(url)
    check_token(token)
    if not (anywhere or is_loopback(urlsplit(url).hostname or "")):
        raise InputError(f"{url} is not this machine; load it only if it is yours, with --anywhere")
    if slo_ms is not None:
        check_slo(slo_ms / 1000)
    times = due_times(form, seconds, seed)
    url, headers = url.rstrip("/"), {} if token is None else {"Authorization": f"Bearer {token}"}
    ladder = _ladder(url, headers, slo_ms)
    with asyncio.Runner(loop_factory=_fastest_loop()) as runner:
        sent = runner.run(_load(url, times, queries, k, seed, headers, timeout_s, hang_up))
    return Loaded(form, ladder, sent, seconds)


def _fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # Windows
        return None
    make: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return make


def due_times(form: str, seconds: float, seed: int) -> NDArray[np.float64]:
    """Seconds at which ``form`` has requests arrive, up to ``seconds``.

    Raises:
        InputError: for arrivals that cannot be read, or more than five million of them.
    """
    count = 256
    while True:
        times = arrivals(form, count, seed)
        if times[-1] >= seconds:
            due = times[times < seconds]
            if not len(due):
                raise InputError(f"{form} has no request due within {seconds:g} s; wanted a higher rate, or longer")
            return due
        if count >= MOST_REQUESTS:
            raise InputError(f"{form} for {seconds:g} s is more than {MOST_REQUESTS:,} requests; wanted fewer")
        count *= 2


async def _load(
    url: str, times: NDArray[np.float64], queries: Sequence[str], k: int, seed: int, headers: dict[str, str],
    timeout_s: float, hang_up: tuple[float, float],
) -> tuple[Sent, ...]:  # fmt: skip
    from elastic_ir.posting import GAVE_UP, Poster

    poster = Poster(f"{url}/v1/search", {"Content-Type": "application/json"} | headers)
    requests = [poster.request(json.dumps({"query": query, "k": k, "text": False}).encode()) for query in queries]
    leaves = (np.random.default_rng(seed).random(len(times)) < hang_up[0]).tolist()
    found: list[Sent | None] = [None] * len(times)
    left, answered = len(times), asyncio.Event()
    started = time.perf_counter() + 0.1

    def send(number: int, due: float, leaves: bool) -> None:
        late_s = time.perf_counter() - started - due

        def done(status: str, body: bytes) -> None:
            nonlocal left
            latency_s, level, degraded = time.perf_counter() - started - due, None, False
            if status == "200":
                try:
                    told = json.loads(body)
                    level, degraded = str(told["level"]), told["degraded"] is not None
                except (ValueError, LookupError, TypeError, RecursionError):
                    status = "no answer of elastic_ir"
            elif status == GAVE_UP:
                status = "hung up" if leaves else TIMEOUT
            found[number] = Sent(due, late_s, latency_s, status, level, degraded)
            left -= 1
            if not left:
                answered.set()

        poster.post(requests[number % len(requests)], hang_up[1] if leaves else timeout_s, done)

    collects = gc.isenabled()
    gc.disable()  # to look through all that was noted takes longer than a request may be late
    try:
        for number, due in enumerate(times.tolist()):
            await asyncio.sleep(started + due - time.perf_counter())
            send(number, due, leaves[number])
        if left:
            await answered.wait()
        await poster.close()
    finally:
        if collects:
            gc.enable()
    return tuple(one for one in found if one is not None)


def _ladder(url: str, headers: dict[str, str], slo_ms: float | None) -> Ladder:
    import httpx

    try:
        response = httpx.get(f"{url}/v1/levels", headers=headers, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise BackendError(f"{url} does not answer ({exc or type(exc).__name__}); is it running?") from exc
    if response.status_code != 200:
        raise BackendError(f"{url}/v1/levels answered {response.status_code}; is the token right?")
    try:
        told = response.json()
        rungs = tuple(
            Rung(
                Level.parse(row["level"]),
                1.0 if row["quality"] is None else row["quality"],
                (row["p95_ms"] / 1000,),
                (row["p50_ms"] / 1000,),
            )
            for row in told["levels"]
        )
        judged = all(row["quality"] is not None for row in told["levels"])
        return Ladder(rungs, (told["slo_ms"] if slo_ms is None else slo_ms) / 1000, judged)
    except (ValueError, LookupError, TypeError) as exc:
        raise BackendError(f"{url}/v1/levels is no ladder of elastic_ir; is this the right address?") from exc
