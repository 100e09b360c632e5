"""``elastic-ir serve``: the search service."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path
from typing import Annotated

import typer

from elastic_ir.cli.options import (
    DatasetOption,
    IndexOption,
    LadderOption,
    SplitOption,
    needs_serve,
    open_pipeline,
    say,
)

BEARER_VARIABLE = "ELASTIC_IR_TOKEN"


def serve(
    pipeline: Annotated[Path | None, typer.Argument(help="Pipeline in YAML; default: elastic over pydocs.")] = None,
    dataset: DatasetOption = None,
    split: SplitOption = None,
    index: IndexOption = None,
    ladder: LadderOption = None,
    slo_ms: Annotated[
        float | None, typer.Option(min=1, help="Milliseconds within which answers are due; default: the ladder's.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback need a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8080,
    mode: Annotated[str, typer.Option(help="enforce, monitor (only note levels), or fixed:LEVEL.")] = "enforce",
    threads: Annotated[int | None, typer.Option(min=1, help="Torch threads; default: the ladder's.")] = None,
    log_queries: Annotated[bool, typer.Option("--log-queries", help="Write the text of queries to the log.")] = False,
) -> None:
    """Serve searches over HTTP, each at the level that the load allows.

    Clients must send the bearer token in the environment variable ELASTIC_IR_TOKEN, where it is set.

    Example: elastic-ir serve pipelines/elastic.yaml --dataset DOCS --ladder ladder.json --port 8080
    """
    from elastic_ir.config import read_config
    from elastic_ir.errors import InputError
    from elastic_ir.level import Level
    from elastic_ir.pipeline import DEFAULT
    from elastic_ir.runs import use_threads
    from elastic_ir.schedule.ladderfile import read_ladder

    needs_serve()
    from elastic_ir.serve.ladders import provisional
    from elastic_ir.serve.server import Service, check_address
    from elastic_ir.serve.server import serve as run

    name, _, level = mode.partition(":")
    if name not in ("enforce", "monitor", "fixed") or (name == "fixed") != bool(level):
        raise InputError(f"mode {mode!r}; wanted enforce, monitor or fixed:LEVEL")
    if slo_ms is not None and not math.isfinite(slo_ms):
        raise InputError(f"--slo-ms is {slo_ms}; wanted milliseconds")
    _log_requests()
    configured = ladder or read_config(pipeline or DEFAULT).ladder
    known = None if configured is None else read_ladder(Path(configured))
    if threads is not None or known is not None:
        use_threads(threads or (known.threads if known else 1))
    fixed = Level.parse(level) if level else None
    service = Service(
        reopen=lambda: open_pipeline(pipeline, dataset, split, index, ladder),
        host=host, port=port, mode=fixed or ("monitor" if name == "monitor" else "enforce"),
        token=os.environ.get(BEARER_VARIABLE), log_queries=log_queries,
    )  # fmt: skip
    check_address(service)
    with service.reopen() as opened:
        if fixed is not None:
            opened.parts.check(fixed)
        rungs = None if known is None else known.of(opened.models)
        if rungs is not None and slo_ms is not None:
            rungs = rungs._replace(slo_s=slo_ms / 1000)
        if fixed is not None and (rungs is None or rungs.rung(fixed) is None):
            say(f"{fixed} is timed here first")
            rungs = provisional(opened, 1000 * rungs.slo_s if rungs else slo_ms or 250.0, fixed)
        elif rungs is None:
            say("no ladder: levels are timed here, their quality is not known; elastic-ir sweep measures both")
            rungs = provisional(opened, slo_ms or 250.0)
        promise = f"answers are due within {1000 * rungs.slo_s:.0f} ms"
        run(service, opened, rungs, started=lambda found: say(f"http://{host}:{found} {promise}"))


def _log_requests() -> None:
    """The service's lines as they are, on stderr; other loggers stay as the options of all commands set them."""
    logger, lines = logging.getLogger("elastic_ir.serve"), logging.StreamHandler()
    lines.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers, logger.propagate = [lines], False
    logger.setLevel(logging.INFO)
