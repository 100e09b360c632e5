"""``elastic-ir load``: an open-loop load on a service."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from elastic_ir.cli.options import check_file, needs_serve, say
from elastic_ir.cli.serve import BEARER_VARIABLE


def load(
    url: Annotated[str, typer.Argument(help="Of the service, e.g. http://127.0.0.1:8080.")],
    arrivals: Annotated[str, typer.Option(help="E.g. poisson:40, step:5:80:10, trace:FILE; see elastic-ir simulate.")],
    queries: Annotated[Path, typer.Option(help="TSV or JSONL of queries, asked in turn.")],
    duration: Annotated[float, typer.Option(min=0.1, max=86_400, help="Seconds.")] = 60.0,
    slo_ms: Annotated[float | None, typer.Option(min=1, help="Default: what the service promises.")] = None,
    hits: Annotated[int, typer.Option(min=1, max=100, help="Hits a query.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of the arrivals.")] = 0,
    hang_up: Annotated[float, typer.Option(min=0, max=1, help="Share of clients that go away early.")] = 0.0,
    hang_up_ms: Annotated[float, typer.Option(min=1, help="After so long.")] = 50.0,
    anywhere: Annotated[bool, typer.Option("--anywhere", help="Load another machine; it must be yours.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="JSON of the figures.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="PNG: load, level, latency and, if judged, quality over time.")
    ] = None,
) -> None:
    """Send every query when it is due, answered or not, and count latency from then on.

    The token, where the service wants one, is taken from the environment variable ELASTIC_IR_TOKEN.

    Example: elastic-ir load http://127.0.0.1:8080 --arrivals poisson:40 --queries DOCS/queries.jsonl --duration 60
    """
    from elastic_ir.datasets import stream_queries
    from elastic_ir.evaluate.files import replacing
    from elastic_ir.loadtest import LATEST_MS
    from elastic_ir.loadtest import load as run
    from elastic_ir.schedule.picture import draw

    needs_serve()
    check_file(output)
    check_file(plot)
    texts = [query.text for query in stream_queries(queries)]
    found = run(
        url, arrivals, texts, seconds=duration, slo_ms=slo_ms, k=hits, seed=seed, anywhere=anywhere,
        token=os.environ.get(BEARER_VARIABLE), hang_up=(hang_up, hang_up_ms / 1000),
    )  # fmt: skip
    figures = found.summary()
    for key, value in figures.items():
        say(f"{key:>18}  {json.dumps(value) if isinstance(value, dict) else value}")
    if not found.valid:
        say(f"INVALID: the generator itself was late by more than {LATEST_MS:g} ms; give it a core of its own")
    if output is not None:
        with replacing(output) as file:
            file.write(json.dumps(figures, indent=1, allow_nan=False) + "\n")
    if plot is not None:
        draw({"measured": found.outcome}, f"{arrivals}, SLO {figures['slo_ms']:.0f} ms", plot)
        say(f"picture: {plot}")
    if not found.valid:
        raise typer.Exit(1)
