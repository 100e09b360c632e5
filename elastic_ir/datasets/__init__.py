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

__all__ = ["BeirFolder", "Dataset", "TableFile", "TextFolder", "load", "read_qrels", "read_queries", "stream_queries"]

EMBEDDED: dict[str, Callable[[str], Dataset]] = {
    "pydocs": Pydocs,
    "pydocs/questions": Pydocs,
    "pydocs/known-items": KnownItems,
}
"""Name of a dataset that every machine has -> what makes it."""


def load(name: str, split: str = "test") -> Dataset:
    """Find a dataset by name; nothing is read or downloaded before it is asked for.

    Args:
        name: a name of ``EMBEDDED`` (a folder called so is ``./pydocs``), a folder in the BEIR layout, any other folder
            of text files, a JSONL, CSV or TSV file of documents, or an id of ``ir_datasets`` such as
            ``beir/scifact/test``.
        split: judgments of a folder in the BEIR layout to take; the other kinds have the split in their name, or none.

    Raises:
        DatasetError: if there is no such dataset, or no documents are there.
    """
    if name in EMBEDDED:
        return EMBEDDED[name](name)
    if not _exists(name):
        return IRDataset(name)
    path = Path(name)
    if not path.is_dir():
        return TableFile(name)
    beir = any((path / corpus).exists() for corpus in (CORPUS, f"{CORPUS}.gz"))
    return BeirFolder(name, split) if beir else TextFolder(name)


def _exists(name: str) -> bool:
    try:
        return bool(name) and Path(name).exists()
    except (OSError, ValueError):  # longer than a path can be, or with a NUL
        return False
