"""``elastic-ir``: the command line. Heavy packages are imported inside the command that uses them."""

from __future__ import annotations

import json
import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from elastic_ir.errors import ElasticIRError, InputError
from elastic_ir.version import __version__

if TYPE_CHECKING:
    from elastic_ir.pipeline import Hits, Pipeline

app = typer.Typer(
    help="Retrieve-then-rerank search whose compute stretches with the load.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Pipeline configurations.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(config_app, name="config")
runs_app = typer.Typer(help="Run files: check them, join them.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(runs_app, name="runs")

DatasetOption = Annotated[
    str | None, typer.Option("--dataset", "-d", help="pydocs, a folder in the BEIR layout, or an ir_datasets id.")
]
SplitOption = Annotated[str | None, typer.Option(help="Split of a BEIR folder: qrels/SPLIT.tsv. Default: test.")]
IndexOption = Annotated[Path | None, typer.Option("--index", help="Folder of a ready index.")]
LevelOption = Annotated[str | None, typer.Option(help="Operating point, e.g. 'dense:w0.50-d6' or 'bm25'.")]


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for runs, table and picture.")] = Path(
        "runs/demo"
    ),
) -> None:
    """Index this Python's docstrings, search, evaluate, 32 searches at once: the main job.

    Example: elastic-ir demo
    """
    from elastic_ir.demo import run_demo

    run_demo(output)


@app.command()
def index(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the index, e.g. indexes/scifact.")],
    dataset: DatasetOption = None,
    split: SplitOption = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Denser; 'none' builds BM25 only.")] = None,
    width: Annotated[float | None, typer.Option(help="Width of the document subnet, in (0, 1]; default 1.")] = None,
    depth: Annotated[int | None, typer.Option(help="Layers of the document subnet; default all.")] = None,
    factory: Annotated[str | None, typer.Option(help="FAISS factory: Flat, IVF256,Flat, HNSW32, ...")] = None,
    spec: Annotated[Path | None, typer.Option(help="YAML with any of these; options given here win.")] = None,
) -> None:
    """Build an index, dense and BM25; a killed build continues where it stopped.

    Example: elastic-ir index --dataset beir/scifact --model elastic-denser-small --output indexes/scifact
    """
    from elastic_ir.config import DenserConfig, checked, read_spec
    from elastic_ir.datasets import load
    from elastic_ir.dense import ElasticDenser
    from elastic_ir.library import build
    from elastic_ir.subnet import Subnet

    options = {"dataset": dataset, "split": split, "model": model, "width": width, "depth": depth, "factory": factory}
    wanted = read_spec(spec, options)
    if not wanted.dataset:
        raise InputError("no dataset; give --dataset pydocs, a BEIR folder or an ir_datasets id, or --spec FILE")
    denser = None if wanted.model == "none" else ElasticDenser.from_pretrained(wanted.model)
    settings = {"model": wanted.model, "factory": wanted.factory}
    if denser is not None:
        chosen = Subnet(wanted.width, denser.config.num_layers if wanted.depth is None else wanted.depth)
        settings |= {"document_subnet": str(denser.config.resolve(chosen))}
    config = checked(DenserConfig, settings, "index options")
    generation = build(load(wanted.dataset, wanted.split), output, denser, config)
    manifest = generation.manifest
    size = f"{manifest.documents:,} documents, {manifest.size_bytes / 1e6:.1f} MB"
    _say(f"{output}: generation {generation.number}, {size}")
    generation.close()


@app.command()
def search(
    words: Annotated[list[str], typer.Argument(metavar="[PIPELINE.yaml] QUERY", help="A sole argument is the query.")],
    k: Annotated[int, typer.Option("--k", "-k", help="Hits wanted.")] = 10,
    level: LevelOption = None,
    dataset: DatasetOption = None,
    split: SplitOption = None,
    index: IndexOption = None,
    deadline_ms: Annotated[float | None, typer.Option(help="Return the best order so far after this time.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Search once.

    Example: elastic-ir search "read a csv file"
    """
    if len(words) > 2:
        raise InputError(f"found {len(words)} arguments; wanted [PIPELINE.yaml] and one query in quotes")
    config = Path(words[0]) if len(words) == 2 else None
    with _pipeline(config, dataset, split, index) as pipeline:
        hits = pipeline.search(words[-1], k=k, level=level, deadline_ms=deadline_ms)
    if as_json:
        _say(json.dumps(_as_json(hits), ensure_ascii=False, indent=2))
    else:
        from elastic_ir.terminal import show

        show(hits)


@app.command()
def run(
    pipeline: Annotated[Path, typer.Argument(help="Pipeline YAML, e.g. pipelines/elastic.yaml.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Run to write, e.g. runs/NAME.trec or NAME.trec.gz.")],
    dataset: DatasetOption = None,
    split: SplitOption = None,
    index: IndexOption = None,
    queries: Annotated[Path | None, typer.Option(help="TSV or JSONL of queries; default: the dataset's.")] = None,
    hits: Annotated[int, typer.Option(help="Hits a query.")] = 1000,
    level: LevelOption = None,
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
) -> None:
    """Write a run and, beside it, how it was made; a killed run continues where it stopped.

    Example: elastic-ir run pipelines/elastic.yaml --dataset beir/scifact/test --output runs/scifact.trec
    """
    from elastic_ir.datasets import load, stream_queries
    from elastic_ir.runs import Shape, use_threads, write

    if not max_passage_delimiter or (max_passage_hits is not None and max_passage_hits < 1):
        raise InputError("wanted a --max-passage-delimiter of at least one character, --max-passage-hits of at least 1")
    if threads is not None:
        use_threads(threads)
    passages = (max_passage_delimiter, max_passage_hits) if max_passage else (None, None)
    with _pipeline(pipeline, dataset, split, index) as opened:
        name = opened.config.dataset
        if queries is None and name is None:
            raise InputError("no queries; give --queries FILE or --dataset D")
        metadata = write(
            opened,
            stream_queries(queries) if queries else load(str(name), opened.config.split).queries(),
            output,
            tag=tag or output.name.removesuffix(".gz").removesuffix(".trec"),
            k=hits,
            level=level,
            batch=batch,
            form=form,
            shape=Shape(remove_query, *passages),
        )
    _say(f"{output}: {metadata['queries']:,} queries, {metadata['latency_ms']['mean']:.1f} ms each on average")


@app.command()
def evaluate(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="TREC runs; the first is the baseline. {dataset} in a path stands for the dataset: its folder's name, "
            "or its id with - for /; e.g. 'runs/bm25-{dataset}.trec'."
        ),
    ],
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            "--dataset",
            "-d",
            help="pydocs, a folder in the BEIR layout, or an ir_datasets id; several: -d data/scifact -d data/cacm, "
            "each with its table, and {dataset} in every run's path.",
        ),
    ] = None,
    split: SplitOption = None,
    qrels: Annotated[Path | None, typer.Option(help="TREC or BEIR qrels instead of a dataset.")] = None,
    metrics: Annotated[
        str,
        typer.Option(
            help="Comma-separated measures as ranx, trec_eval or ir_measures spell them, e.g. "
            "'ndcg@10,recip_rank,AP(rel=2),Judged@10'."
        ),
    ] = "ndcg@10,mrr@10,recall@100,map",
    margin: Annotated[
        float, typer.Option(help="Loss that still counts as no worse in the test of non-inferiority, e.g. 0.02.")
    ] = 0.01,
    cross_check: Annotated[
        bool,
        typer.Option(
            "--cross-check",
            help="Compute every figure again with trec_eval; a difference above 1e-10 is an error, e.g. "
            "--qrels q.txt run.trec --cross-check. Needs pytrec-eval-terrier.",
        ),
    ] = False,
    engine: Annotated[
        str | None,
        typer.Option(help="numpy (starts at once) or ranx (fast when large), e.g. ranx. Default: by size."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Tables as .json, .tex or .md.")] = None,
    report: Annotated[Path | None, typer.Option(help="Report as .html, .md, .tex or .json, e.g. report.html.")] = None,
) -> None:
    """Evaluate runs as trec_eval does, over all judged queries; every other run is tested against the first.

    Example: elastic-ir evaluate --dataset beir/scifact/test runs/bm25.trec runs/elastic.trec --report report.html
    """
    from elastic_ir.datasets import load
    from elastic_ir.evaluate import Evaluations, Section, read_metadata, read_qrels, read_run, write_report
    from elastic_ir.evaluate import cross_check as check_figures
    from elastic_ir.evaluate import evaluate as evaluate_runs
    from elastic_ir.evaluate.datasets import PLACEHOLDER, label_of, runs_of
    from elastic_ir.evaluate.files import replacing
    from elastic_ir.terminal import show_evaluations

    if (qrels is None) == (not dataset):
        raise InputError("wanted exactly one of --dataset D (once or more) and --qrels FILE")
    if qrels is not None and any(PLACEHOLDER in str(path) for path in runs):
        raise InputError(f"{PLACEHOLDER} in a run's path needs --dataset; --qrels FILE names none")
    forms = {".json": Evaluations.to_json, ".tex": Evaluations.to_latex, ".md": Evaluations.to_markdown}
    if output is not None and output.suffix not in forms:
        raise InputError(f"output {output} ends in {output.suffix!r}; wanted one of {', '.join(forms)}")
    sources = {label_of(name): load(name, split or "test") for name in dataset or ()}
    labels = [label_of(name) for name in dataset] if dataset else [str(qrels)]
    measures = [name for name in _split_measures(metrics) if name]
    sections = []
    for label, paths in runs_of(runs, labels).items():
        source = sources.get(label)
        judged = source.qrels() if source else read_qrels(str(qrels))
        read = {name: read_run(path) for name, path in paths.items()}
        result = evaluate_runs(judged, read, measures, margin=margin, engine_name=_engine(engine))
        if cross_check:
            checked = check_figures(result, judged, read)
            _say(f"{label}: {checked}")
            checked.demand()
        texts = {query.query_id: query.text for query in source.queries()} if source and report else None
        about = {n: m for n, path in paths.items() if (m := _metadata(read_metadata, path)) is not None}
        sections.append(Section(label, result, texts, about))
    results = Evaluations(dict(zip(labels, (section.evaluation for section in sections), strict=True)))
    if output is not None:
        with replacing(output) as file:
            file.write(forms[output.suffix](results))
    if report is not None:
        write_report(sections, report)
    show_evaluations(results)


@app.command()
def train(recipe: Annotated[Path, typer.Argument(help="Recipe in YAML; see docs/training.md.")]) -> None:
    """Train an elastic checkpoint; a killed run continues where it stopped.

    Example: elastic-ir train benchmarks/recipes/denser-small.yaml
    """
    from elastic_ir.train import read_recipe
    from elastic_ir.train import train as run_training

    settings = read_recipe(recipe)

    def report(step: int, losses: dict[str, float]) -> None:
        shown = "  ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
        typer.echo(f"step {step}/{settings.steps}  {shown}", err=True)

    _say(f"finished: {run_training(settings, report)}")


@app.command()
def verify(index: Annotated[Path, typer.Argument(help="Folder of an index.")]) -> None:
    """Check every file of an index against its manifest.

    Example: elastic-ir verify indexes/scifact
    """
    from elastic_ir.index import verify_index

    report = verify_index(index)
    for line in report.problems:
        typer.echo(f"error: {line}", err=True)
    if not report.ok:
        raise typer.Exit(3)
    _say(f"{index}: {report.generation}, {report.files} files, {report.size_bytes / 1e6:.1f} MB, all as written")


@app.command()
def doctor() -> None:
    """Say what this machine has: Java, threads, number formats, cache, models.

    Example: elastic-ir doctor
    """
    from elastic_ir.doctor import examine

    failed = False
    for finding in examine():
        _say(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name}: {finding.detail}")
        failed = failed or not finding.ok
    if failed:
        raise typer.Exit(4)


@config_app.command()
def schema() -> None:
    """Print the JSON schema of a pipeline file.

    Example: elastic-ir config schema
    """
    from elastic_ir.config import PipelineConfig

    _say(json.dumps(PipelineConfig.model_json_schema(), indent=2))


@config_app.command()
def check(pipeline: Annotated[Path, typer.Argument(help="Pipeline YAML.")]) -> None:
    """Check a pipeline file and print it with every default filled in.

    Example: elastic-ir config check pipelines/elastic.yaml
    """
    import yaml

    from elastic_ir.config import read_config

    _say(yaml.safe_dump(read_config(pipeline).model_dump(mode="json"), sort_keys=False).rstrip())


@runs_app.command()
def lint(
    runs: Annotated[list[Path], typer.Argument(help="TREC or MS MARCO runs, plain or .gz.")],
    dataset: DatasetOption = None,
    split: SplitOption = None,
    qrels: Annotated[Path | None, typer.Option(help="TREC or BEIR qrels instead of a dataset.")] = None,
    documents: Annotated[
        bool, typer.Option(help="With --dataset: read the collection to find unknown document ids.")
    ] = True,
    max_hits: Annotated[int, typer.Option(help="Most hits a query should have, e.g. 1000.")] = 1000,
    min_judged: Annotated[float, typer.Option(help="Least share of judged hits in the top 10, e.g. 0.5.")] = 0.5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find what is wrong with run files, in flat memory; exit code 1 if there is an error.

    Example: elastic-ir runs lint runs/scifact.trec --dataset beir/scifact/test
    """
    from elastic_ir.datasets import load, read_qrels
    from elastic_ir.evaluate.lint import Known
    from elastic_ir.evaluate.lint import lint as lint_run

    if qrels is not None and dataset is not None:
        raise InputError("wanted at most one of --dataset D and --qrels FILE")
    known = Known(qrels=read_qrels(qrels)) if qrels else Known()
    if dataset is not None:
        source = load(dataset, split or "test")
        doc_ids = {document.doc_id for document in source.documents()} if documents else None
        known = Known({query.query_id for query in source.queries()}, doc_ids, source.qrels())
    reports = {str(path): lint_run(path, known, max_hits=max_hits, min_judged=min_judged) for path in runs}
    if as_json:
        found = {
            path: {**report._asdict(), "ok": report.ok, "findings": [finding._asdict() for finding in report.findings]}
            for path, report in reports.items()
        }
        _say(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        for path, report in reports.items():
            judged = "" if report.judged is None else f", {report.judged:.1%} of the top 10 judged"
            _say(f"{path}: {report.lines:,} lines, {report.queries:,} queries{judged}")
            for finding in report.findings:
                _say(f"  {finding}")
    if not all(report.ok for report in reports.values()):
        raise typer.Exit(1)


@runs_app.command()
def fuse(
    runs: Annotated[list[Path], typer.Argument(help="Two runs or more.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Run to write, e.g. runs/fused.trec.")],
    method: Annotated[str, typer.Option(help="A method of ranx: rrf, wsum, mnz, bordafuse, ...")] = "rrf",
    norm: Annotated[str, typer.Option(help="min-max, max, sum, zmuv, rank, borda or none.")] = "min-max",
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

    chosen = write_fused(
        runs,
        output,
        tag=tag or output.name.removesuffix(".gz").removesuffix(".trec"),
        method=method,
        norm=norm,
        parameters=_parameters(weights, params or []),
        judged=_judged(optimize, qrels, train),
        measure=metric,
        k=hits,
    )
    _say(f"{output}: {chosen['queries']:,} queries by {method}, {json.dumps(chosen['fusion']['parameters'])[:300]}")


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is going on to stderr.")] = False,
) -> None:
    """Retrieve-then-rerank search whose compute stretches with the load."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    if version:
        _say(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point: errors of ours and of the machine are one line and an exit code, never a traceback.

    Typer ends a closed pipe with 1 and an interrupt with 130, without a word.
    """
    try:
        app(standalone_mode=True)
    except ElasticIRError as exc:
        typer.echo(f"error: {exc}", err=True)
        sys.exit(exc.exit_code)
    except OSError as exc:
        reason = exc.strerror or " ".join(str(exc).split()) or type(exc).__name__
        typer.echo(f"error: {reason}" if exc.filename is None else f"error: {exc.filename}: {reason}", err=True)
        sys.exit(4)


def _pipeline(config: Path | None, dataset: str | None, split: str | None, index: Path | None) -> Pipeline:
    from elastic_ir.pipeline import Pipeline

    return Pipeline.from_config(config, dataset=dataset, split=split, index=index)


def _metadata(read: Any, path: Path) -> dict[str, Any] | None:
    try:
        return dict(read(path))
    except (OSError, ElasticIRError):
        return None


def _split_measures(text: str) -> list[str]:
    """At commas outside parentheses: ``AP(rel=2),RBP(rel=1,p=0.8)`` are two."""
    return [name.strip() for name in re.split(r",(?![^()]*\))", text)]


def _engine(name: str | None) -> Literal["numpy", "ranx"] | None:
    match name:
        case None | "numpy" | "ranx":
            return name
    raise InputError(f"engine is {name!r}; wanted numpy or ranx")


def _parameters(weights: str | None, given: list[str]) -> dict[str, Any]:
    """``--weights 0.3,0.7 --param k=60`` as data."""
    found: dict[str, Any] = {}
    try:
        if weights is not None:
            found["weights"] = [float(weight) for weight in weights.split(",")]
        for text in given:
            name, _, value = text.partition("=")
            found[name] = json.loads(value)
    except ValueError as exc:
        raise InputError(f"parameters cannot be read: {exc}; wanted e.g. --weights 0.3,0.7 and --param k=60") from exc
    return found


def _judged(optimize: bool, qrels: Path | None, train: list[Path] | None) -> tuple[Path, list[Path] | None] | None:
    if not optimize:
        if qrels or train:
            raise InputError("--qrels and --train choose parameters; wanted them together with --optimize")
        return None
    if qrels is None:
        raise InputError("--optimize needs judgements; give --qrels FILE of a train split")
    return qrels, train


def _as_json(hits: Hits) -> dict[str, Any]:
    degraded = hits.degraded and {
        "reasons": list(hits.degraded.reasons),
        "level": str(hits.degraded.level),
        "requested_level": str(hits.degraded.requested_level),
        "candidates": hits.degraded.candidates,
        "detail": hits.degraded.detail,
    }
    return {
        "query": hits.query.text,
        "level": str(hits.level),
        "degraded": degraded,
        "latency_ms": round(hits.latency_ms, 3),
        "stage_ms": {name: round(ms, 3) for name, ms in hits.stage_ms.items()},
        "generation": hits.generation,
        "hits": [hit._asdict() for hit in hits],
    }


def _say(text: str) -> None:
    typer.echo(text)


if __name__ == "__main__":
    main()
