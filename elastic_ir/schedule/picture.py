"""The schedule at a glance: load, level, latency and quality over time, elastic beside others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from elastic_ir.durable import whole
from elastic_ir.schedule.simulate import OFF_LADDER, REFUSED, Outcome

BINS = 120
ROWS = "requests a second", "share of levels", "latency, ms", "nDCG@10, 0 if late or unknown"


def draw(outcomes: dict[str, Outcome], title: str, path: Path) -> None:
    """Write a PNG: a column a policy, four rows that share the time axis, or three where nobody judged quality."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    first = next(iter(outcomes.values()))
    ladder, slo = first.ladder, first.ladder.slo_s
    start, end = float(first.arrived[0]), float(first.arrived[-1])
    end = max(end, start + slo)
    edges = np.linspace(start, end, BINS + 1)
    middle = (edges[:-1] + edges[1:]) / 2 - start
    figure = Figure(figsize=(5.2 * len(outcomes) + 1, 9), layout="constrained")
    rows = ROWS if ladder.judged else ROWS[:-1]
    grid = figure.subplots(len(rows), len(outcomes), sharex=True, sharey="row", squeeze=False)
    names = [str(rung.level) for rung in ladder.rungs]
    colours = [*colormaps["viridis"](np.linspace(0.05, 0.95, len(names))), "0.8"]
    if any((outcome.rung == OFF_LADDER).any() for outcome in outcomes.values()):
        names.append("off the ladder")
    for column, (policy, outcome) in enumerate(outcomes.items()):
        load, level, latency = grid[:3, column]
        bins = np.clip(np.digitize(outcome.arrived, edges) - 1, 0, BINS - 1)
        counts = np.bincount(bins, minlength=BINS) / (edges[1] - edges[0])
        load.fill_between(middle, counts, color="0.8", step="mid")
        utility = f", utility {outcome.utility:.3f}" if ladder.judged else ""
        load.set_title(f"{policy}\n{outcome.attainment:.1%} in time{utility}")
        answered = outcome.rung != REFUSED
        shares = _shares(bins[answered], outcome.rung[answered], len(names))
        level.stackplot(middle, shares, labels=names, colors=colours, step="mid")
        for share, style in ((0.5, "-"), (0.99, ":")):
            line = _percentile(bins[answered], outcome.latency[answered], share)
            latency.plot(middle, 1000 * line, f"k{style}", label=f"p{share * 100:.0f}")
        latency.axhline(1000 * slo, color="red", lw=1, label="SLO")
        latency.set_yscale("log")
        latency.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        latency.yaxis.set_major_formatter(ScalarFormatter())
        latency.yaxis.set_minor_formatter(NullFormatter())
        if ladder.judged:
            grid[3, column].plot(middle, _mean(bins, outcome.worth), color="C2")
            grid[3, column].set_ylim(0, 1.05 * ladder.rungs[0].quality)
        grid[-1, column].set_xlabel("seconds")
    for axes, label in zip(grid[:, 0], rows, strict=True):
        axes.set_ylabel(label)
    grid[2, -1].legend(loc="upper right", fontsize="small")
    handles, labels = grid[1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize="small", title="levels, dearest first")
    figure.suptitle(title)
    with whole(path) as part:
        figure.savefig(part, format="png", dpi=110)


def _mean(bins: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    counts = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        means: NDArray[np.float64] = np.bincount(bins, values, minlength=BINS) / counts
    return means


def _percentile(bins: NDArray[np.int64], values: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    found = np.full(BINS, np.nan)
    for number in np.unique(bins):
        found[number] = np.quantile(values[bins == number], share)
    return found


def _shares(bins: NDArray[np.int64], places: NDArray[np.int8], count: int) -> NDArray[np.float64]:
    """``[levels, bins]``: share of the answers of each level; those off the ladder, if any, are the last row."""
    table = np.zeros((count, BINS))
    np.add.at(table, (np.where(places == OFF_LADDER, count - 1, places), bins), 1)
    shares: NDArray[np.float64] = table / np.maximum(1, table.sum(0))
    return shares
