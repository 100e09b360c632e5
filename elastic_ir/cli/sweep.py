"""``elastic-ir sweep``: the ladder of a pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elastic_ir.cli.options import DatasetOption, IndexOption, check_file, open_pipeline, say

PICTURES = (".png", ".svg", ".pdf")


def sweep(
    pipeline: Annotated[Path, typer.Argument(help="Pipeline in YAML.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON of the ladder.")],
    dataset: DatasetOption = None,
    split: Annotated[
        str | None, typer.Option(help="Split of a BEIR folder with the judgements to choose by. Default: train.")
    ] = None,
    index: IndexOption = None,
    served: Annotated[
        str | None,
        typer.Option(
            help="Collection that will be served, as --dataset: levels are timed over it, and judged on --dataset. "
            "Default: both on --dataset."
        ),
    ] = None,
    served_index: Annotated[Path | None, typer.Option(help="Folder of a ready index of --served.")] = None,
    slo_ms: Annotated[float, typer.Option(min=1, help="Milliseconds within which answers are due.")] = 250.0,
    queries: Annotated[int, typer.Option(min=1, help="Judged queries drawn, each reranked in full: try 20.")] = 200,
    threads: Annotated[int | None, typer.Option(min=1, help="Torch threads; default: as they are.")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="To spend on timing, once all is scored.")] = 200.0,
    plot: Annotated[Path | None, typer.Option(help="Picture of quality against latency, e.g. .png.")] = None,
    report: Annotated[Path | None, typer.Option(help="Page of all levels: .html, .md or .json.")] = None,
) -> None:
    """Measure quality and latency of a grid of levels; keep those worth serving, dearest first.

    A killed sweep continues with the queries that it has not scored.

    Example, where DOCS has the BEIR layout, with qrels/train.tsv:
    elastic-ir sweep pipelines/elastic.yaml --dataset DOCS --output ladder.json
    """
    from contextlib import ExitStack

    from elastic_ir.config import read_config
    from elastic_ir.datasets import load
    from elastic_ir.errors import ConfigError, InputError
    from elastic_ir.evaluate import write_report
    from elastic_ir.evaluate.datasets import label_of
    from elastic_ir.evaluate.picture import draw_trade_off
    from elastic_ir.evaluate.report import check_report
    from elastic_ir.runs import use_threads
    from elastic_ir.schedule.ladderfile import write_ladder
    from elastic_ir.sweep import MARGIN, MEASURE, Served
    from elastic_ir.sweep import sweep as find

    for path in (output, plot, report):
        check_file(path)
    if report is not None:
        check_report(report)
    if plot is not None and plot.suffix not in PICTURES:
        raise InputError(f"picture {plot} ends in {plot.suffix!r}; wanted one of {', '.join(PICTURES)}")
    if threads is not None:
        use_threads(threads)
    journal = output.with_name(f"{output.name}.scored")
    name = dataset or read_config(pipeline).dataset
    if name is None:
        raise ConfigError("a sweep needs judged queries; name the collection with --dataset")
    collection = load(name, split)
    if split is None and collection.has_splits:
        collection = load(name, "train")
    elif split is None:
        typer.echo(f"{name} has no splits: levels are chosen by all its judgements; measure them by others", err=True)
    collection.qrels()  # before an index is built
    if served_index is not None and served is None:
        raise InputError("--served-index needs --served, whose queries are timed")
    timed_over = None if served is None else load(served)
    if timed_over is not None:
        next(iter(timed_over.queries()), None)  # before an index is built
    with ExitStack() as stack:
        opened = stack.enter_context(open_pipeline(pipeline, dataset, None, index, levelled=False))
        timed = None
        if timed_over is not None:
            over = open_pipeline(pipeline, served, None, served_index, levelled=False)
            timed = Served(stack.enter_context(over), timed_over)
        found = find(opened, collection, served=timed, slo_ms=slo_ms, queries=queries, seconds=seconds, journal=journal)
    write_ladder(found.file, output)
    say(f"{len(found.file.levels)} levels for {slo_ms:.0f} ms, {found.file.threads} threads: {output}")
    for level in found.file.levels:
        low, high = level.interval or (level.quality, level.quality)
        quality = f"nDCG@10 {level.quality:.4f} ({low:.4f} to {high:.4f})"
        say(f"{level.p50_ms[0]:9.1f} ms, p95 {level.p95_ms[0]:9.1f}   {quality}   {level.level}")
    reference, kept = found.file.notes["reference"], [level.level for level in found.file.levels]
    if kept == ["bm25"] != [reference["level"]]:
        say("no level with a model is fast enough and better than BM25 here; raise --slo-ms, or idle the machine")
    if reference["level"] not in kept:
        say(f"given up: {reference['level']} has {reference[MEASURE]:.4f} in {reference['ms']:.0f} ms")
        shown = found.not_inferior or "none shown"
        say(f"cheapest timed level not inferior to it by more than {MARGIN}: {shown}")
    if plot is not None:
        draw_trade_off(found.points, MEASURE, plot, f"{label_of(name)}: {found.evaluation.queries} queries")
        say(f"picture: {plot}")
    if report is not None:
        write_report([found.section], report, "Sweep")
        say(f"report: {report}")
    journal.unlink(missing_ok=True)
