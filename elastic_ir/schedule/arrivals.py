"""Arrival processes: seconds at which requests arrive, from a line of text and a seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from elastic_ir.errors import InputError

Times = NDArray[np.float64]

FORMS = {
    "poisson": "poisson:RATE",
    "gamma": "gamma:RATE:CV2",
    "mmpp": "mmpp:LOW:HIGH:DWELL_LOW:DWELL_HIGH",
    "step": "step:LOW:HIGH:SECONDS",
    "diurnal": "diurnal:LOW:HIGH:PERIOD",
    "trace": "trace:FILE[:RATE]",
}
"""Rates are requests a second, all else seconds. ``step`` goes LOW, HIGH, LOW, each for SECONDS, again and again."""


def arrivals(form: str, count: int, seed: int = 0) -> Times:
    """Seconds ``[count]`` at which requests arrive, rising from 0.

    Args:
        form: one of ``FORMS``, e.g. ``poisson:40`` or ``trace:arrivals.txt:20`` (rescaled to a mean of 20 a second;
            begun elsewhere by every seed but 0, and repeated where it is shorter than ``count``).
        count: requests.
        seed: the same seed gives the same times.

    Raises:
        InputError: if ``form`` cannot be read.
    """
    kind, _, rest = form.partition(":")
    if kind not in FORMS:
        raise InputError(f"arrivals {form!r} cannot be read; wanted one of {', '.join(FORMS.values())}")
    if count < 1:
        raise InputError(f"{count} requests; wanted at least 1")
    random = np.random.default_rng(seed)
    if kind == "trace":
        return _trace(rest, count, 0.0 if seed == 0 else random.random())
    try:
        numbers = [float(part) for part in rest.split(":")]
    except ValueError:
        numbers = []
    wanted = FORMS[kind].count(":")
    if len(numbers) != wanted or not all(0 < number < float("inf") for number in numbers):
        raise InputError(f"arrivals {form!r} cannot be read; wanted {FORMS[kind]} with positive numbers")
    return _KINDS[kind](random, count, *numbers)


def _poisson(random: np.random.Generator, count: int, rate: float) -> Times:
    return np.cumsum(random.exponential(1 / rate, count))


def _gamma(random: np.random.Generator, count: int, rate: float, cv2: float) -> Times:
    return np.cumsum(random.gamma(1 / cv2, cv2 / rate, count))


def _mmpp(
    random: np.random.Generator, count: int, low: float, high: float, dwell_low: float, dwell_high: float
) -> Times:
    """Poisson whose rate changes between two at exponential times."""
    edges, rates, expected = [0.0], [], 0.0
    while expected < 1.2 * count + 100:
        for rate, dwell in ((low, dwell_low), (high, dwell_high)):
            lasted = random.exponential(dwell)
            edges.append(edges[-1] + lasted)
            rates.append(rate)
            expected += rate * lasted
    return _of_rates(random, count, np.array(edges), np.array(rates))


def _step(random: np.random.Generator, count: int, low: float, high: float, seconds: float) -> Times:
    cycles = int(_enough(count) / ((2 * low + high) * seconds)) + 1
    rates = np.tile([low, high, low], cycles)
    return _of_rates(random, count, np.arange(len(rates) + 1, dtype=np.float64) * seconds, rates)


def _diurnal(random: np.random.Generator, count: int, low: float, high: float, period: float) -> Times:
    parts = 48
    phases = np.arange(parts) / parts
    wave = low + (high - low) * (1 - np.cos(2 * np.pi * phases)) / 2
    cycles = int(_enough(count) / (wave.mean() * period)) + 1
    edges = np.arange(parts * cycles + 1, dtype=np.float64) * period / parts
    return _of_rates(random, count, edges, np.tile(wave, cycles).astype(np.float64))


def _enough(count: int) -> float:
    """Requests to be expected of rates that are to last for ``count``: six standard deviations more, and some."""
    return count + 6 * math.sqrt(count) + 10


def _of_rates(random: np.random.Generator, count: int, edges: Times, rates: Times) -> Times:
    """Poisson arrivals of a rate that is constant between ``edges``: unit arrivals, stretched by the expected count."""
    expected = np.concatenate([[0.0], np.cumsum(rates * np.diff(edges))])
    units = np.cumsum(random.exponential(1.0, count))
    return np.interp(units, expected, edges)


def _trace(rest: str, count: int, begin: float) -> Times:
    """The trace from the share ``begin`` of its arrivals on, around and around."""
    path, _, rate = rest.rpartition(":")
    if not path or not _is_number(rate):
        if path and not Path(rest).expanduser().is_file() and Path(path).expanduser().is_file():
            raise InputError(f"the rate of trace {path} is {rate!r}; wanted requests a second above 0")
        path, rate = rest, ""
    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError(f"no trace at {file}; wanted a file with the seconds of one arrival on each line")
    try:
        times = np.sort(np.array([float(line) for line in file.read_text("utf-8-sig").split()]))
    except ValueError as exc:
        raise InputError(f"trace {file}: {exc}; wanted the seconds of one arrival on each line") from exc
    if len(times) < 2 or not np.isfinite(times).all() or times[-1] <= times[0]:
        raise InputError(f"trace {file} has {len(times)} usable arrivals; wanted at least two different times")
    times = times - times[0]
    gap = times[-1] / (len(times) - 1)
    if rate:
        times, gap = times / (gap * float(rate)), 1 / float(rate)
    skipped = int(begin * len(times))
    repeats = -(-(count + skipped) // len(times))
    shifts = np.arange(repeats) * (times[-1] + gap)
    repeated: Times = (shifts[:, None] + times[None, :]).reshape(-1)[skipped : skipped + count]
    begun: Times = repeated - repeated[0]
    return begun


def _is_number(text: str) -> bool:
    try:
        return 0 < float(text) < float("inf")
    except ValueError:
        return False


_KINDS: dict[str, Callable[..., Times]] = {
    "poisson": _poisson,
    "gamma": _gamma,
    "mmpp": _mmpp,
    "step": _step,
    "diurnal": _diurnal,
}
