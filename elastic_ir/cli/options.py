"""What commands share: options, and how they speak."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elastic_ir.durable import target_of

if TYPE_CHECKING:
    from elastic_ir.pipeline import Pipeline

DatasetOption = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        "-d",
        help="A folder of texts (Markdown, reStructuredText, HTML, plain) or in the BEIR layout, a JSONL, CSV or TSV "
        "file of documents, an ir_datasets id, or pydocs.",
    ),
]
SplitOption = Annotated[str | None, typer.Option(help="Split of a BEIR folder: qrels/SPLIT.tsv. Default: test.")]
IndexOption = Annotated[Path | None, typer.Option("--index", help="Folder of a ready index.")]
LadderOption = Annotated[Path | None, typer.Option("--ladder", help="Measured levels that elastic-ir sweep wrote.")]
LevelOption = Annotated[str | None, typer.Option(help="Operating point, e.g. 'dense:w0.50-d6' or 'bm25'.")]


def open_pipeline(
    config: Path | None,
    dataset: str | None,
    split: str | None,
    index: Path | None,
    ladder: Path | None = None,
    *,
    levelled: bool = True,
) -> Pipeline:
    """The pipeline that a command names, with what its options replace.

    Where it is not to be ``levelled`` the ladder that its configuration names need not be there yet.
    """
    from elastic_ir.config import read_config
    from elastic_ir.pipeline import Pipeline

    settings = None if config is None else read_config(config)
    if settings is not None and not levelled:
        settings = settings.model_copy(update={"ladder": None})
    return Pipeline.from_config(settings, dataset=dataset, split=split, index=index, ladder=ladder)


def needs_serve() -> None:
    """Refuse a command whose libraries come with the extra ``serve``, where they are not installed.

    Raises:
        ConfigError: saying how to install them.
    """
    from importlib.util import find_spec

    from elastic_ir.errors import ConfigError

    missing = [name for name in ("fastapi", "hdrh", "httptools", "prometheus_client", "uvicorn") if not find_spec(name)]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} not installed; run pip install -e '.[serve]' in the checkout of elastic_ir"
        )


def check_file(path: Path | None) -> None:
    """Refuse, before any work, a file to be written where there is a folder or a device; None is not written.

    Raises:
        RunFileError: naming it.
    """
    if path is not None:
        target_of(path)


def say(text: str) -> None:
    """Print a line of the answer."""
    typer.echo(text)
