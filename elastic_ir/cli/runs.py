"""``elastic-ir run`` and ``elastic-ir runs``: write, check and join run files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from elastic_ir.cli.options import (
    DatasetOption,
    IndexOption,
    LadderOption,
    LevelOption,
    SplitOption,
    check_file,
    open_pipeline,
    say,
)
from elastic_ir.errors import DatasetError, InputError

T = TypeVar("T")
runs_app = typer.Typer(help="Run files: check them, join them.", no_args_is_help=True, rich_markup_mode=None)


def run(
    pipeline: Annotated[Path, typer.Argument(help="Pipeline YAML, e.g. pipelines/elastic.yaml.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Run to write, e.g. runs/NAME.trec or NAME.trec.gz.")],
    dataset: DatasetOption = None,
    split: SplitOption = None,
    index: IndexOption = None,
    queries: Annotated[Path | None, typer.Option(help="TSV or JSONL of queries; default: the dataset's.")] = None,
    hits: Annotated[int, typer.Option(help="Hits a query.")] = 1000,
    level: LevelOption = None,
    ladder: LadderOption = None,
    load: Annotated[
        str | None, typer.Option(help="Answer at the levels that queries arriving so would get, e.g. poisson:40.")
    ] = None,
    tag: Annotated[str | None, typer.Option(help="Run tag; default: the file's name.")] = None,
    form: Annotated[str, typer.Option("--format", help="trec (six columns) or msmarco (query, document, rank).")] = (
        "trec"
    ),
    batch: Annotated[
        int | None, typer.Option(help="Queries that share one pass, e.g. 64; default: by hits and reranker.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Processor threads, e.g. 4; default: all cores.")] = None,
    remove_query: Annotated[
        bool, typer.Option("--remove-query", help="Drop the hit whose id is the query's (BEIR's quora, arguana).")
    ] = False,
    max_passage: Annotated[
        bool, typer.Option("--max-passage", help="Ids are DOCUMENT#PASSAGE: keep each document's best passage.")
    ] = False,
    max_passage_hits: Annotated[
        int | None, typer.Option(help="Documents kept with --max-passage, e.g. 100; default: as many as hits.")
    ] = None,
    max_passage_delimiter: Annotated[str, typer.Option(help="Between document and passage, e.g. '#'.")] = "#",
    allow_degraded: Annotated[
        bool,
        typer.Option("--allow-degraded", help="Where a model or Java fails, write what is left; default: an error."),
    ] = False,
) -> None:
    """Write a run and, beside it, how it was made; a killed run continues where it stopped.

    Example: elastic-ir run pipelines/elastic.yaml --dataset beir/scifact/test --output runs/scifact.trec
    """
    from elastic_ir.datasets import load as load_dataset
    from elastic_ir.datasets import stream_queries
    from elastic_ir.evaluate.trec import tag_of
    from elastic_ir.runs import Shape, check_options, use_threads, write

    check_file(output)
    if (ladder is None) != (load is None) or (load is not None and level is not None):
        raise InputError("wanted --ladder FILE and --load ARRIVALS together, and then no --level")
    if not max_passage_delimiter or (max_passage_hits is not None and max_passage_hits < 1):
        raise InputError("wanted a --max-passage-delimiter of at least one character, --max-passage-hits of at least 1")
    if threads is not None:
        use_threads(threads)
    if max_passage_hits is not None and not max_passage:
        raise InputError("--max-passage-hits needs --max-passage")
    passages = (max_passage_delimiter, max_passage_hits) if max_passage else (None, None)
    asked: dict[str, Any] = {"tag": tag or tag_of(output), "k": hits, "level": level, "batch": batch, "form": form}
    asked |= {"ladder": ladder, "load": load}
    check_options(output, **asked)
    with open_pipeline(pipeline, dataset, split, index) as opened:
        name = opened.config.dataset
        if queries is None and name is None:
            raise InputError("no queries; give --queries FILE or --dataset D")
        metadata = write(
            opened,
            stream_queries(queries) if queries else load_dataset(str(name), opened.config.split).queries(),
            output,
            **asked,
            shape=Shape(remove_query, *passages),
            allow_degraded=allow_degraded,
        )
    degraded = "".join(f"; {count:,} degraded: {reason}" for reason, count in metadata["degraded"].items())
    mean = f"{metadata['latency_ms']['mean']:.1f} ms each on average"
    used = [*metadata["flops"]]
    where = used[0] if len(used) == 1 else f"{len(used)} levels"
    say(f"{output}: {metadata['queries']:,} queries at {where}, {mean}{degraded}")


@runs_app.command()
def lint(
    runs: Annotated[list[Path], typer.Argument(help="TREC or MS MARCO runs, plain or .gz.")],
    dataset: DatasetOption = None,
    split: SplitOption = None,
    qrels: Annotated[Path | None, typer.Option(help="TREC or BEIR qrels instead of a dataset.")] = None,
    documents: Annotated[
        bool, typer.Option(help="With --dataset: find unknown document ids; all ids are held, 150 bytes each.")
    ] = True,
    max_hits: Annotated[int, typer.Option(help="Most hits a query should have, e.g. 1000.")] = 1000,
    min_judged: Annotated[float, typer.Option(help="Least share of judged hits in the top 10, e.g. 0.5.")] = 0.5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find what is wrong with run files, read line by line; exit code 1 if there is an error.

    Example: elastic-ir runs lint runs/scifact.trec --dataset beir/scifact/test
    """
    from elastic_ir.datasets import load, read_qrels
    from elastic_ir.evaluate.lint import Known
    from elastic_ir.evaluate.lint import lint as lint_run

    if qrels is not None and dataset is not None:
        raise InputError("wanted at most one of --dataset D and --qrels FILE")
    known = Known(qrels=read_qrels(qrels)) if qrels else Known()
    if dataset is not None:
        source = load(dataset, split)
        doc_ids = {document.doc_id for document in source.documents()} if documents else None
        known = Known(_if_any(source.query_ids), doc_ids, _if_any(source.qrels))
    reports = {str(path): lint_run(path, known, max_hits=max_hits, min_judged=min_judged) for path in runs}
    if as_json:
        found = {
            path: {**report._asdict(), "ok": report.ok, "findings": [finding._asdict() for finding in report.findings]}
            for path, report in reports.items()
        }
        say(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        for path, report in reports.items():
            judged = "" if report.judged is None else f", {report.judged:.1%} of the top 10 judged"
            say(f"{path}: {report.lines:,} lines, {report.queries:,} queries{judged}")
            for finding in report.findings:
                say(f"  {finding}")
    if not all(report.ok for report in reports.values()):
        raise typer.Exit(1)


def _if_any(read: Callable[[], T]) -> T | None:
    """What a dataset has; None, and a word on stderr, where it has none."""
    try:
        return read()
    except DatasetError as exc:
        typer.echo(f"{exc}; looked for what needs none", err=True)
        return None


@runs_app.command()
def fuse(
    runs: Annotated[list[Path], typer.Argument(help="Two runs or more.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Run to write, e.g. runs/fused.trec.")],
    method: Annotated[str, typer.Option(help="A method of ranx: rrf, wsum, mnz, bordafuse, ...")] = "rrf",
    norm: Annotated[
        str, typer.Option(help="min-max, min-max-inverted, max, sum, zmuv, rank, borda or none.")
    ] = "min-max",
    weights: Annotated[str | None, typer.Option(help="One for each run, e.g. 0.3,0.7.")] = None,
    params: Annotated[list[str] | None, typer.Option("--param", help="Another parameter, e.g. k=60.")] = None,
    optimize: Annotated[bool, typer.Option("--optimize", help="Choose the parameters on --qrels.")] = False,
    qrels: Annotated[Path | None, typer.Option(help="Judgements of a train split, e.g. qrels/train.tsv.")] = None,
    train: Annotated[
        list[Path] | None, typer.Option(help="Train-split run of each RUN, in order; default: the runs themselves.")
    ] = None,
    metric: Annotated[str, typer.Option(help="What --optimize makes best, e.g. ndcg@10.")] = "ndcg@10",
    hits: Annotated[int, typer.Option(help="Hits a query.")] = 1000,
    tag: Annotated[str | None, typer.Option(help="Run tag; default: the file's name.")] = None,
) -> None:
    """Join runs into one, and write beside it how; rrf needs no compiling.

    Example: elastic-ir runs fuse runs/bm25.trec runs/dense.trec --method rrf --output runs/hybrid.trec
    """
    from elastic_ir.evaluate.joined import write_fused
    from elastic_ir.evaluate.trec import tag_of

    check_file(output)
    chosen = write_fused(
        runs,
        output,
        tag=tag or tag_of(output),
        method=method,
        norm=norm,
        parameters=_parameters(weights, params or []),
        judged=_judged(optimize, qrels, train),
        measure=metric,
        k=hits,
    )
    parameters = chosen["fusion"]["parameters"]
    shown = f", {json.dumps(parameters)[:300]}" if parameters else ""
    say(f"{output}: {chosen['queries']:,} queries by {method}{shown}")


def _parameters(weights: str | None, given: list[str]) -> dict[str, Any]:
    """``--weights 0.3,0.7 --param k=60`` as data."""
    found: dict[str, Any] = {}
    texts = [] if weights is None else [f"weights={weights}"]
    for text in (*texts, *given):
        name, _, value = text.partition("=")
        try:
            found[name] = [float(one) for one in value.split(",")] if text in texts else json.loads(value)
        except ValueError as exc:
            wanted = "wanted e.g. --weights 0.3,0.7 and --param k=60"
            raise InputError(f"parameter {name} cannot be read from {value!r:.60}; {wanted}") from exc
    return found


def _judged(optimize: bool, qrels: Path | None, train: list[Path] | None) -> tuple[Path, list[Path] | None] | None:
    if not optimize:
        if qrels or train:
            raise InputError("--qrels and --train choose parameters; wanted them together with --optimize")
        return None
    if qrels is None:
        raise InputError("--optimize needs judgements; give --qrels FILE of a train split")
    return qrels, train
