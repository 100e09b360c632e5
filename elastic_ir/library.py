"""The index a pipeline asks for: an explicit folder, or the cached one, built on first use."""

from __future__ import annotations

import logging
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from elastic_ir.config import DenserConfig
from elastic_ir.datasets import Dataset
from elastic_ir.dense import ElasticDenser
from elastic_ir.elastic.precision import Precision
from elastic_ir.errors import IndexNotFoundError
from elastic_ir.index import Generation, build_index, open_index
from elastic_ir.records import EncoderCard
from elastic_ir.subnet import Subnet

logger = logging.getLogger(__name__)

STORED_TOKENS = 2048
"""Token ids kept of each document for reranking."""


class DocumentSide:
    """A denser at the settings of one index: what ``build_index`` calls an encoder."""

    def __init__(self, denser: ElasticDenser, config: DenserConfig, precision: Precision) -> None:
        self.denser, self.precision = denser, precision
        self.subnet = denser.config.resolve(Subnet.parse(config.document_subnet) if config.document_subnet else None)
        self.max_length = min(config.document_tokens or denser.settings.max_length, denser.settings.max_length)

    @property
    def card(self) -> EncoderCard:
        """What the manifest records."""
        return self.denser.card(self.subnet)._replace(max_length=self.max_length)

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Vectors ``[N, D]`` of documents."""
        return self.denser.encode_document(
            texts, self.subnet, max_length=self.max_length, precision=self.precision, batch_tokens=4096
        )


def build(
    dataset: Dataset,
    path: Path,
    denser: ElasticDenser | None,
    config: DenserConfig | None = None,
    precision: Precision = "auto",
    progress: bool | None = None,
) -> Generation:
    """Build an index of ``dataset`` at ``path``: BM25 always, dense and token ids where there is a denser.

    Args:
        dataset: read once.
        path: folder of the index.
        denser: encodes the documents; None builds BM25 only.
        config: document subnet, document tokens and factory; None means the defaults.
        precision: number format of the encoder's matrix products.
        progress: show a bar; None on a terminal only.
    """
    config = config or DenserConfig()
    if denser is None:
        return build_index(dataset.documents(), path, source=dataset.name, total=dataset.count, progress=progress)
    tokens = denser.tokens
    return build_index(
        dataset.documents(),
        path,
        encoder=DocumentSide(denser, config, precision),
        tokenize=lambda texts: tokens.ids(texts, STORED_TOKENS),
        tokenizer_fingerprint=tokens.fingerprint,
        factory=config.factory,
        source=dataset.name,
        total=dataset.count,
        progress=progress,
    )


def cached(
    dataset: Dataset,
    denser: ElasticDenser | None,
    config: DenserConfig,
    precision: Precision,
    progress: bool | None = None,
) -> Generation:
    """The index of ``dataset`` in the user's cache, built when there is none for these very settings."""
    settings = [dataset.key, dataset.fingerprint()]
    if denser is not None:
        side = DocumentSide(denser, config, precision)
        settings += [denser.fingerprint, str(side.subnet), str(side.max_length), config.factory, precision]
    key = sha256("\n".join(settings).encode()).hexdigest()[:12]
    path = cache_folder() / f"{dataset.key}-{'bm25' if denser is None else 'dense'}-{key}"
    try:
        return open_index(path)
    except IndexNotFoundError:
        logger.info("indexing %s into %s", dataset.name, path)
        return build(dataset, path, denser, config, precision, progress)


def cache_folder() -> Path:
    """Where cached indexes live; ``XDG_CACHE_HOME`` moves it."""
    from platformdirs import user_cache_path

    return user_cache_path("elastic_ir") / "indexes"
