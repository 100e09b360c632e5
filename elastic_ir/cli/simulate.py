"""``elastic-ir simulate``: policies on a virtual clock."""

from __future__ import annotations

import json
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elastic_ir.cli.options import check_file, say

if TYPE_CHECKING:
    from elastic_ir.schedule.simulate import Outcome

POLICIES = "elastic,thresholds,head-slack,aimd,full"


def simulate(
    ladder: Annotated[Path, typer.Option(help="Ladder that elastic-ir sweep wrote.")],
    arrivals: Annotated[
        str,
        typer.Option(
            help="poisson:RATE, gamma:RATE:CV2, mmpp:LOW:HIGH:DWELL_LOW:DWELL_HIGH, step:LOW:HIGH:SECONDS, "
            "diurnal:LOW:HIGH:PERIOD or trace:FILE[:RATE]; rates are requests a second."
        ),
    ],
    slo_ms: Annotated[float | None, typer.Option(min=1, help="In place of the ladder's.")] = None,
    policy: Annotated[str, typer.Option(help="Names with commas; also 'static', or a level of the ladder.")] = POLICIES,
    requests: Annotated[int, typer.Option(min=1, max=10_000_000, help="Of each seed.")] = 20_000,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Runs that are averaged.")] = 3,
    slowdown: Annotated[float, typer.Option(min=0.01, help="Actual over tabled service time.")] = 1.0,
    output: Annotated[Path | None, typer.Option(help="JSON of the table.")] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG: load, level, latency and quality over time.")] = None,
) -> None:
    """What each policy would do with these arrivals, on a virtual clock.

    Example: elastic-ir simulate --ladder ladder.json --arrivals mmpp:5:80:4:1.5 --plot burst.png
    """
    from rich.table import Table

    from elastic_ir.evaluate.files import replacing
    from elastic_ir.schedule import Admission
    from elastic_ir.schedule.arrivals import arrivals as times_of
    from elastic_ir.schedule.compare import TUNING_SEED, Row, admission_of, policies
    from elastic_ir.schedule.ladderfile import read_ladder
    from elastic_ir.schedule.picture import draw
    from elastic_ir.schedule.simulate import simulate as run
    from elastic_ir.terminal import print_table

    check_file(output)
    check_file(plot)
    known = read_ladder(ladder).ladder(slo_ms)
    names = [name.strip() for name in policy.split(",")]
    tuning = times_of(arrivals, min(requests, 20_000), TUNING_SEED)
    chosen = policies(known, names, tuning, Admission(known))
    rows: list[Row] = []
    shown: dict[str, Outcome] = {}
    rates: list[float] = []
    for name, acting in chosen.items():
        admission, found = admission_of(acting, known), []
        for seed in range(seeds):
            times = times_of(arrivals, requests, seed)
            outcome = run(known, acting, times, admission=admission, seed=seed, slowdown=slowdown)
            found.append(Row.of(name, outcome))
            rates.append(len(times) / (float(times[-1] - times[0]) + known.slo_s))  # the last is due an SLO later
            shown.setdefault(name, outcome)
        rows.append(Row.mean(found))
    rate = sum(rates) / len(rates)
    bound = known.fluid_bound(rate * slowdown)
    table = Table(title=f"{arrivals}: {requests:,} requests x {seeds} seeds, SLO {1000 * known.slo_s:.0f} ms")
    for column in ("policy", "in time", "utility", "quality", "refused", "p50 ms", "p99 ms", "p99.9 ms", "switches/s"):
        table.add_column(column, justify="left" if column == "policy" else "right")
    for row in rows:
        quality = "-" if isnan(row.quality) else f"{row.quality:.4f}"
        shares = f"{row.attainment:.2%}", f"{row.utility:.4f}", quality, f"{row.refused:.2%}"
        ms = ("-" if isnan(value) else f"{value:.0f}" for value in (row.p50_ms, row.p99_ms, row.p999_ms))
        table.add_row(row.policy, *shares, *ms, f"{row.switches_per_s:.1f}")
    print_table(table)
    say(f"no schedule can have a utility above {bound:.4f} at {rate:.1f} requests a second (fluid bound)")
    if output is not None:
        figures = {"arrivals": arrivals, "requests": requests, "seeds": seeds, "slo_ms": 1000 * known.slo_s}
        figures |= {"rate": rate, "fluid_bound": bound, "rows": [row.figures() for row in rows]}
        with replacing(output) as file:
            file.write(json.dumps(figures, indent=1, allow_nan=False) + "\n")
    if plot is not None:
        draw(shown, f"{arrivals}, SLO {1000 * known.slo_s:.0f} ms", plot)
        say(f"picture: {plot}")
