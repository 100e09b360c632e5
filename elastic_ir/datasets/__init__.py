"""Collections of documents with their queries and judgments, by name: ``load("beir/scifact/test")``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from elastic_ir.datasets.base import Dataset
from elastic_ir.datasets.beir import BeirFolder
from elastic_ir.datasets.irds import IRDataset
from elastic_ir.datasets.lines import read_queries, stream_queries
from elastic_ir.datasets.pydocs import KnownItems, Pydocs
from elastic_ir.datasets.qrels import read_qrels

__all__ = ["BeirFolder", "Dataset", "load", "read_qrels", "read_queries", "stream_queries"]

EMBEDDED: dict[str, Callable[[str], Dataset]] = {
    "pydocs": Pydocs,
    "pydocs/questions": Pydocs,
    "pydocs/known-items": KnownItems,
}
"""Name of a dataset that every machine has -> what makes it."""


def load(name: str, split: str = "test") -> Dataset:
    """Find a dataset by name; nothing is read or downloaded before it is asked for.

    Args:
        name: a name of ``EMBEDDED`` (a folder called so is ``./pydocs``), a folder in the BEIR layout, or an
            id of ``ir_datasets`` such as ``beir/scifact/test``.
        split: judgments of a folder to take; the other kinds have the split in their name.

    Raises:
        DatasetError: if there is no such dataset, or the folder has no corpus.
    """
    if name in EMBEDDED:
        return EMBEDDED[name](name)
    return BeirFolder(name, split) if _exists(name) else IRDataset(name)


def _exists(name: str) -> bool:
    try:
        return bool(name) and Path(name).exists()
    except (OSError, ValueError):  # longer than a path can be, or with a NUL
        return False
