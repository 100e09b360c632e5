"""``elastic-ir profile``: measured latencies of a pipeline's levels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elastic_ir.cli.options import DatasetOption, IndexOption, SplitOption, check_file, open_pipeline, say

if TYPE_CHECKING:
    from rich.table import Table

    from elastic_ir.profile import Profile

MOST_QUERIES = 1000


def profile(
    pipeline: Annotated[Path, typer.Argument(help="Pipeline in YAML.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON of the table; a ready one is checked.")],
    dataset: DatasetOption = None,
    split: SplitOption = None,
    index: IndexOption = None,
    levels: Annotated[
        str | None, typer.Option(help="With commas, dearest first; default: idle, shares of its budget, no reranking.")
    ] = None,
    ladder: Annotated[
        Path | None, typer.Option(help="Measure the levels of this ladder, chosen on another collection.")
    ] = None,
    retimed: Annotated[Path | None, typer.Option(help="Write the --ladder with the times found here.")] = None,
    slo_ms: Annotated[float, typer.Option(min=1, help="Within which the capacity C is stated.")] = 250.0,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: the fastest here, by measurement.")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="To spend.")] = 200.0,
    refresh: Annotated[bool, typer.Option("--refresh", help="Measure anew.")] = False,
) -> None:
    """Measure how long each level takes here, by batch size and query length, and the capacity C.

    Example, where DOCS has the BEIR layout, with queries.jsonl:
    elastic-ir profile pipelines/elastic.yaml --dataset DOCS --output profile.json
    """
    from elastic_ir.datasets import load
    from elastic_ir.errors import ConfigError
    from elastic_ir.level import Level
    from elastic_ir.profile import best_threads, default_levels, measure, read_profile, write_profile
    from elastic_ir.runs import use_threads
    from elastic_ir.schedule import Ladder, Rung
    from elastic_ir.schedule.ladder import check_slo
    from elastic_ir.schedule.ladderfile import read_ladder, write_ladder
    from elastic_ir.schedule.simulate import capacity
    from elastic_ir.terminal import print_table

    if levels and ladder:
        raise ConfigError("--levels and --ladder both name levels; give one of them")
    if retimed is not None and ladder is None:
        raise ConfigError("--retimed needs --ladder, whose levels it keeps")
    check_slo(slo_ms / 1000)
    check_file(output)
    check_file(retimed)
    if threads is not None:
        use_threads(threads)  # before Lucene is given its own
    with open_pipeline(pipeline, dataset, split, index, levelled=False) as opened:
        name = dataset or opened.config.dataset
        if name is None:
            raise ConfigError("a profile needs queries; name the collection's with --dataset")
        queries = list(load(name, split=split or opened.config.split).queries())[:MOST_QUERIES]
        named = default_levels(opened.level)
        chosen = None if ladder is None else read_ladder(ladder)
        if chosen is not None:
            chosen.of(opened.models)
            named = [Level.parse(level.level) for level in chosen.levels]
        elif levels:
            named = [Level.parse(text.strip()) for text in levels.split(",")]
        if output.is_file() and not refresh:
            found = read_profile(output)
            use_threads(threads or found.threads)
            found.check(opened)
            ready = [Level.parse(text) for text in dict.fromkeys(cell.level for cell in found.cells)]
            if (levels or ladder) and not set(named) <= set(ready):
                raise ConfigError(f"{output} is there already; give --refresh to measure other levels")
            named = named if levels or ladder else ready
        else:
            use_threads(threads or best_threads(opened, queries))
            found = measure(opened, named, queries, seconds=seconds)
            write_profile(found, output)
    if chosen is not None and retimed is not None:
        write_ladder(
            chosen.timed({str(level): found.times(level) for level in named}, found.machine, found.threads), retimed
        )
        say(f"ladder with these times: {retimed}")
    dearest = named[0]
    p50, p95 = found.times(dearest)
    rung = Rung(dearest, 1.0, tuple(ms / 1000 for ms in p95), tuple(ms / 1000 for ms in p50))
    most = capacity(Ladder((rung,), slo_ms / 1000))
    say(f"C: {most:.2f} queries a second at {dearest}, 99% within {slo_ms:.0f} ms, {found.threads} threads")
    print_table(_table(found))


def _table(found: Profile) -> Table:
    from rich.table import Table

    table = Table(title=f"milliseconds, p50 / p95, {found.threads} threads")
    batches = sorted({cell.batch for cell in found.cells})
    lengths = sorted({cell.tokens for cell in found.cells})
    table.add_column("level")
    table.add_column("tokens", justify="right")
    for batch in batches:
        table.add_column(f"batch {batch}", justify="right")
    cells = {(cell.level, cell.tokens, cell.batch): cell for cell in found.cells}
    for level in dict.fromkeys(cell.level for cell in found.cells):
        for tokens in lengths:
            row = [cells[level, tokens, batch] for batch in batches]
            table.add_row(level, f"..{tokens}", *(f"{cell.p50_ms:.1f} / {cell.p95_ms:.1f}" for cell in row))
    return table
