"""Collections of documents with their queries and judgments, by name: ``load("beir/scifact/test")``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from elastic_ir.datasets.base import Dataset
from elastic_ir.datasets.beir import CORPUS, BeirFolder
from elastic_ir.datasets.irds import IRDataset
from elastic_ir.datasets.lines import read_queries, stream_queries
from elastic_ir.datasets.pydocs import KnownItems, Pydocs
from elastic_ir.datasets.qrels import read_qrels
from elastic_ir.datasets.table import TableFile
from elastic_ir.datasets.texts import TextFolder
from elastic_ir.errors import DatasetError

__all__ = ["BeirFolder", "Dataset", "TableFile", "TextFolder", "load", "read_qrels", "read_queries", "stream_queries"]

EMBEDDED: dict[str, Callable[[str], Dataset]] = {
    "pydocs": Pydocs,
    "pydocs/questions": Pydocs,
    "pydocs/known-items": KnownItems,
}
"""Name of a dataset that every machine has -> what makes it."""


def load(name: str, split: str | None = None) -> Dataset:
    """Find a dataset by name; nothing is read or downloaded before it is asked for.

    Args:
        name: a name of ``EMBEDDED`` (a folder called so is ``./pydocs``), a folder in the BEIR layout, any other folder
            of text files, a JSONL, CSV or TSV file of documents, or an id of ``ir_datasets`` such as
            ``beir/scifact/test``.
        split: judgments of a folder in the BEIR layout to take, None for ``test``; the other kinds have the split in
            their name, or none.

    Raises:
        DatasetError: if there is no such dataset, no documents are there, or it has no splits to choose from.
    """
    if _is_beir(name):
        return BeirFolder(name, split or "test")
    dataset = _without_splits(name)
    if split is None:
        return dataset
    if isinstance(dataset, IRDataset):
        raise DatasetError(f"found split {split!r} for dataset {name!r}; wanted it in the id, e.g. beir/scifact/train")
    raise DatasetError(f"found split {split!r} for dataset {name!r}, which has no splits; wanted its name alone")


def _is_beir(name: str) -> bool:
    if name in EMBEDDED or not _exists(name):
        return False
    return any((Path(name) / corpus).exists() for corpus in (CORPUS, f"{CORPUS}.gz"))


def _without_splits(name: str) -> Dataset:
    if name in EMBEDDED:
        return EMBEDDED[name](name)
    if not _exists(name):
        return IRDataset(name)
    return TextFolder(name) if Path(name).is_dir() else TableFile(name)


def _exists(name: str) -> bool:
    try:
        return bool(name) and Path(name).exists()
    except (OSError, ValueError):  # longer than a path can be, or with a NUL
        return False
