"""``elastic-ir``: the command line. Heavy packages are imported inside the command that uses them."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elastic_ir.cli.evaluate import evaluate
from elastic_ir.cli.glue import glue
from elastic_ir.cli.load import load
from elastic_ir.cli.options import (
    DatasetOption,
    IndexOption,
    LadderOption,
    LevelOption,
    SplitOption,
    open_pipeline,
    say,
)
from elastic_ir.cli.profile import profile
from elastic_ir.cli.runs import run, runs_app
from elastic_ir.cli.serve import serve
from elastic_ir.cli.simulate import simulate
from elastic_ir.cli.sweep import sweep
from elastic_ir.errors import ElasticIRError, InputError
from elastic_ir.version import __version__

if TYPE_CHECKING:
    from elastic_ir.answer import Hits

app = typer.Typer(
    help="Retrieve-then-rerank search whose compute stretches with the load.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Pipeline files: all keys, a check of one.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(config_app, name="config")


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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it takes: hours, disk, memory.")] = False,
    documents: Annotated[
        int | None, typer.Option(min=1, help="For --dry-run: how many there are, where the dataset does not say.")
    ] = None,
) -> None:
    """Build an index, dense and BM25; a killed build continues, and of changed documents only new texts are encoded.

    Example: elastic-ir index --dataset beir/scifact --model elastic-denser-small --output indexes/scifact
    """
    from elastic_ir.config import DenserConfig, checked, read_spec
    from elastic_ir.datasets import load
    from elastic_ir.dense import ElasticDenser
    from elastic_ir.library import build
    from elastic_ir.subnet import Subnet

    options = {"dataset": dataset, "split": split, "model": model, "width": width, "depth": depth, "factory": factory}
    if documents is not None and not dry_run:
        raise InputError("--documents is for --dry-run, which only estimates; a build takes the whole dataset")
    wanted = read_spec(spec, options)
    if not wanted.dataset:
        raise InputError("no dataset; give --dataset, e.g. a folder of texts or in the BEIR layout, or --spec FILE")
    denser = None if wanted.model == "none" else ElasticDenser.from_pretrained(wanted.model)
    settings = {"model": wanted.model, "factory": wanted.factory}
    if denser is not None:
        chosen = Subnet(wanted.width, denser.config.num_layers if wanted.depth is None else wanted.depth)
        settings |= {"document_subnet": str(denser.config.resolve(chosen))}
    config = checked(DenserConfig, settings, "index options")
    source = load(wanted.dataset, wanted.split)
    if dry_run:
        from elastic_ir.buildplan import plan_build

        for line in plan_build(source, output, denser, config, documents=documents).lines():
            say(line)
        return
    generation = build(source, output, denser, config)
    manifest = generation.manifest
    size = f"{manifest.documents:,} documents, {manifest.size_bytes / 1e6:.1f} MB"
    say(f"{output}: generation {generation.number}, {size}")
    generation.close()


@app.command()
def search(
    words: Annotated[list[str], typer.Argument(metavar="[PIPELINE.yaml] QUERY", help="A sole argument is the query.")],
    k: Annotated[int, typer.Option("--k", "-k", help="Hits wanted.")] = 10,
    level: LevelOption = None,
    dataset: DatasetOption = None,
    split: SplitOption = None,
    index: IndexOption = None,
    ladder: LadderOption = None,
    deadline_ms: Annotated[
        float | None,
        typer.Option(help="Stop reranking after this time and return the best order so far; retrieval is not cut off."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Search once.

    Example: elastic-ir search "read a csv file"
    """
    files = ".yaml", ".yml"
    if len(words) > 2 or (len(words) == 2 and not words[0].endswith(files) and not Path(words[0]).exists()):
        raise InputError(f"found {len(words)} arguments; wanted [PIPELINE.yaml] and one query in quotes")
    if len(words) == 1 and words[0].endswith(files) and Path(words[0]).is_file():
        raise InputError(f"found {words[0]} and no query; wanted [PIPELINE.yaml] and one query in quotes")
    config = Path(words[0]) if len(words) == 2 else None
    with open_pipeline(config, dataset, split, index, ladder) as pipeline:
        pipeline.warm_up(*[level] if level else [])
        hits = pipeline.search(words[-1], k=k, level=level, deadline_ms=deadline_ms)
    if as_json:
        say(json.dumps(_as_json(hits), ensure_ascii=False, indent=2))
    else:
        from elastic_ir.terminal import show

        show(hits)


app.command()(run)
app.command()(evaluate)
app.command()(profile)
app.command()(sweep)
app.command()(simulate)
app.command()(serve)
app.command()(load)
app.command()(glue)
app.add_typer(runs_app, name="runs")


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe in YAML; see docs/training.md.")],
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda, in place of the recipe's.")] = None,
) -> None:
    """Train an elastic checkpoint; a killed run continues where it stopped, on this device or another.

    Example: elastic-ir train benchmarks/recipes/denser-small.yaml --device cuda
    """
    from elastic_ir.train import read_recipe
    from elastic_ir.train import train as run_training

    settings = read_recipe(recipe, **({} if device is None else {"device": device}))

    def report(step: int, losses: dict[str, float]) -> None:
        shown = "  ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
        typer.echo(f"step {step}/{settings.steps}  {shown}", err=True)

    say(f"finished: {run_training(settings, report)}")


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
    say(f"{index}: {report.generation}, {report.files} files, {report.size_bytes / 1e6:.1f} MB, all as written")


@app.command()
def doctor() -> None:
    """Say what this machine has: Java, threads, number formats, cache, models.

    Example: elastic-ir doctor
    """
    from elastic_ir.doctor import examine

    failed = False
    for finding in examine():
        say(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name}: {finding.detail}")
        failed = failed or not finding.ok
    if failed:
        raise typer.Exit(4)


@config_app.command()
def schema() -> None:
    """Print the JSON schema of a pipeline file.

    Example: elastic-ir config schema
    """
    from elastic_ir.config import PipelineConfig

    say(json.dumps(PipelineConfig.model_json_schema(), indent=2))


@config_app.command()
def check(pipeline: Annotated[Path, typer.Argument(help="Pipeline YAML.")]) -> None:
    """Check a pipeline file and print it with every default filled in.

    Example: elastic-ir config check pipelines/elastic.yaml
    """
    import yaml

    from elastic_ir.config import read_config

    say(yaml.safe_dump(read_config(pipeline).model_dump(mode="json"), sort_keys=False).rstrip())


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
        say(__version__)
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


def _as_json(hits: Hits) -> dict[str, Any]:
    return {
        "query": hits.query.text,
        "level": str(hits.level),
        "degraded": hits.degraded and hits.degraded.plain(),
        "latency_ms": round(hits.latency_ms, 3),
        "stage_ms": {name: round(ms, 3) for name, ms in hits.stage_ms.items()},
        "generation": hits.generation,
        "hits": [hit._asdict() for hit in hits],
    }
