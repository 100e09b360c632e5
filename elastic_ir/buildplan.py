"""What a build would take, before it starts: documents, hours, disk, memory, and a factory that suits the size."""

from __future__ import annotations

import shutil
import time
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from elastic_ir.config import DenserConfig
from elastic_ir.datasets import Dataset
from elastic_ir.dense import ElasticDenser
from elastic_ir.elastic.precision import Precision
from elastic_ir.errors import InputError
from elastic_ir.index.factory import bytes_of, check_training, make_index, suggested
from elastic_ir.library import DocumentSide

SAMPLE = 256
"""Documents encoded to see how fast it goes."""
PASSAGE = "It was the first of several rivers to be named after the people who had lived along its banks. " * 6
"""Stands for passages of a hundred words where reading real ones would start a download."""
FLOAT_BYTES, TOKEN_BYTES = 4, 4
DOCUMENT_BYTES = 80
"""Of each document beside its text: the JSON around it, its id twice, where its text and its tokens begin."""
LUCENE_SHARE = 0.65
"""Of the text, as Lucene keeps it: 0.58 on scifact, 0.65 and 0.66 on passages of MS MARCO and on docstrings."""


class BuildPlan(NamedTuple):
    """What a build takes; bytes, seconds.

    Attributes:
        documents: how many.
        sampled: of which so many were read to estimate the rest; 0: none, a passage of a hundred words stands for each.
        encoding_s: of the denser, measured on the sample; 0 without one.
        vectors: on disk while building.
        faiss: of the finished dense index, on disk and in memory.
        texts: of documents, token ids and the Lucene index.
        free: on the disk it goes to.
        factory: that was asked for.
        suggested: the factory that suits so many documents.
    """

    documents: int
    sampled: int
    encoding_s: float
    vectors: int
    faiss: int
    texts: int
    free: int
    factory: str
    suggested: str

    @property
    def disk(self) -> int:
        """While building."""
        return self.vectors + self.faiss + self.texts

    def lines(self) -> list[str]:
        """For people."""
        how = f"{self.sampled:,} were read to estimate" if self.sampled else "taken as passages of a hundred words"
        found = [
            f"documents   {self.documents:,} ({how})",
            f"encoding    {_duration(self.encoding_s)} on this machine",
            f"disk        {_size(self.disk)} while building, {_size(self.faiss + self.texts)} after; "
            f"{_size(self.free)} free",
            f"memory      {_size(self.faiss)} for the dense index when searching",
            f"factory     {self.factory}",
        ]
        if self.suggested != self.factory:
            found.append(f"suggested   --factory {self.suggested} for so many documents")
        if self.disk > self.free:
            found.append("warning     the disk is too small")
        return found


def plan_build(
    dataset: Dataset,
    path: Path,
    denser: ElasticDenser | None,
    config: DenserConfig,
    precision: Precision = "auto",
    documents: int | None = None,
) -> BuildPlan:
    """Estimate a build of ``dataset`` at ``path`` from a sample of it; nothing is written or downloaded.

    Args:
        dataset: its first documents are read; of the ir_datasets catalogue none.
        path: folder of the index, which need not exist.
        denser: encodes the documents; None plans BM25 only.
        config: document subnet, document tokens and factory.
        precision: number format of the encoder's matrix products.
        documents: how many there are; None asks the dataset, and counts where it does not know.

    Raises:
        InputError: if it cannot be known how many documents there are. ConfigError: if they are too few to train on.
    """
    texts = [] if dataset.remote else [document.contents for document in islice(dataset.documents(), SAMPLE)]
    count = documents or dataset.count or (None if dataset.remote else sum(1 for _ in dataset.documents()))
    if count is None:
        raise InputError(f"dataset {dataset.name!r} does not say how many documents it has; wanted --documents N")
    sampled, texts = len(texts), texts or [PASSAGE] * SAMPLE
    mean = sum(len(text.encode()) for text in texts) / len(texts)
    seconds, vectors, faiss, tokens = 0.0, 0, 0, 0.0
    dimension = 0
    if denser is not None:
        side = DocumentSide(denser, config, precision)
        dimension = side.card.dimension
        check_training(make_index(config.factory, dimension), config.factory, count)
        side.encode(texts[:16])
        begun = time.perf_counter()
        side.encode(texts)
        seconds = (time.perf_counter() - begun) / len(texts) * count
        vectors, faiss = FLOAT_BYTES * dimension * count, bytes_of(config.factory, dimension, count)
        tokens = sum(map(len, denser.tokens.ids(texts, 2048))) / len(texts)
    stores = int(count * (mean * (1 + LUCENE_SHARE) + TOKEN_BYTES * tokens + DOCUMENT_BYTES))
    existing = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    return BuildPlan(
        count, sampled, seconds, vectors, faiss, stores, shutil.disk_usage(existing).free,
        config.factory if denser else "none", suggested(count, dimension) if denser else "none",
    )  # fmt: skip


def _size(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
