"""The cached index of a dataset, built on first use."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from glob import escape
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from elastic_ir.config import DenserConfig
from elastic_ir.datasets import Dataset
from elastic_ir.dense import ElasticDenser
from elastic_ir.durable import writer_lock
from elastic_ir.elastic.precision import Precision, resolve
from elastic_ir.elastic.tokens import Tokens
from elastic_ir.errors import IndexCorruptError, IndexLockedError, IndexMismatchError, IndexNotFoundError
from elastic_ir.index import Generation, build_index, open_index
from elastic_ir.records import EncoderCard
from elastic_ir.subnet import Subnet

logger = logging.getLogger(__name__)

STORED_TOKENS = 2048
"""Token ids kept of each document for reranking."""

WAIT_S, POLL_S = 1800.0, 1.0
"""How long another process that builds the same cached index is waited for, and how often it is looked at."""


class DocumentSide:
    """A denser at the settings of one index: what ``build_index`` calls an encoder."""

    def __init__(self, denser: ElasticDenser, config: DenserConfig, precision: Precision) -> None:
        self.denser, self.precision = denser, precision
        self.subnet = denser.config.resolve(Subnet.parse(config.document_subnet) if config.document_subnet else None)
        self.max_length = min(config.document_tokens or denser.settings.max_length, denser.settings.max_length)

    @property
    def number_format(self) -> str:
        """What ``precision`` means here: vectors made elsewhere may differ in the third digit."""
        return resolve(self.denser.model.device, self.precision)

    @property
    def card(self) -> EncoderCard:
        """What the manifest records."""
        return self.denser.card(self.subnet)._replace(max_length=self.max_length)

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Vectors ``[N, D]`` of documents."""
        return self.denser.encode_document(texts, self.subnet, max_length=self.max_length, precision=self.precision)


def build(
    dataset: Dataset,
    path: Path,
    denser: ElasticDenser | None,
    config: DenserConfig | None = None,
    precision: Precision = "auto",
    progress: bool | None = None,
    *,
    tokens: Tokens | None = None,
    earlier: Sequence[Path] = (),
) -> Generation:
    """Build an index of ``dataset`` at ``path``: BM25 always, dense where there is a denser, and token ids.

    Args:
        dataset: read once.
        path: folder of the index.
        denser: encodes the documents; None builds BM25 only.
        config: document subnet, document tokens and factory; None means the defaults.
        precision: number format of the encoder's matrix products.
        progress: show a bar; None on a terminal only.
        tokens: the ranker's tokenizer, for the stored token ids; None takes the denser's, and without one
            stores none.
        earlier: other indexes to take over vectors from, of contents that have not changed.
    """
    config, tokens = config or DenserConfig(), tokens or (denser.tokens if denser else None)
    return build_index(
        dataset.documents(),
        path,
        encoder=DocumentSide(denser, config, precision) if denser else None,
        tokenize=(lambda texts: tokens.ids(texts, STORED_TOKENS)) if tokens else None,
        tokenizer_fingerprint=tokens.fingerprint if tokens else "",
        factory=config.factory,
        source=os.fsencode(dataset.name).decode("utf-8", "replace"),
        total=dataset.count,
        progress=progress,
        earlier=earlier,
    )


def cached(
    dataset: Dataset,
    denser: ElasticDenser | None,
    config: DenserConfig,
    precision: Precision,
    progress: bool | None = None,
    *,
    tokens: Tokens | None = None,
) -> Generation:
    """The index of ``dataset`` in the user's cache, built when there is none for these very settings.

    Without a denser an index of the same documents with vectors serves as well. A damaged one is built again;
    one that another process is building is waited for.

    Args:
        dataset, denser, config, precision, progress, tokens: as for ``build``.

    Raises:
        IndexLockedError: if another process is still building it after half an hour.
    """
    tokens = tokens or (denser.tokens if denser else None)
    settings = [tokens.fingerprint if tokens else ""]
    if denser is not None:
        side = DocumentSide(denser, config, precision)
        settings += [denser.fingerprint, str(side.subnet), str(side.max_length), config.factory, precision]
    documents = f"{dataset.key}-{_digest(dataset.key, dataset.fingerprint())}"
    kind = f"{'bm25' if denser is None else 'dense'}-{_digest(*settings)}"
    path = cache_folder() / f"{documents}-{kind}"
    if denser is None and not path.exists() and (other := _with_vectors(documents, tokens)) is not None:
        return other

    def make() -> Generation:
        others = _newest_first(f"{escape(dataset.key)}-{12 * '?'}-{kind}")
        return build(dataset, path, denser, config, precision, progress, tokens=tokens, earlier=others)

    return _opened_or_built(path, make)


def _newest_first(pattern: str) -> list[Path]:
    """The cached indexes whose names match."""
    changed = {}
    for path in cache_folder().glob(pattern):
        with suppress(OSError):  # removed meanwhile
            changed[path] = path.stat().st_mtime
    return sorted(changed, key=lambda path: -changed[path])


def _digest(*parts: str) -> str:
    return sha256("\n".join(parts).encode()).hexdigest()[:12]


def _with_vectors(documents: str, tokens: Tokens | None) -> Generation | None:
    """A whole cached index of these documents with vectors of any model and the token ids wanted."""
    for path in sorted(cache_folder().glob(f"{escape(documents)}-dense-*")):
        with suppress(IndexNotFoundError, IndexCorruptError, IndexMismatchError):
            generation = open_index(path)
            if tokens is None or generation.manifest.tokenizer_fingerprint == tokens.fingerprint:
                return generation
            generation.close()
    return None


def _opened_or_built(path: Path, make: Callable[[], Generation]) -> Generation:
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            return _opened(path)
        except IndexNotFoundError:
            logger.info("indexing into %s", path)
        except (IndexCorruptError, IndexMismatchError) as exc:
            logger.warning("the cached index is built again: %s", exc)
        try:
            return make()
        except IndexLockedError as exc:
            logger.warning("waiting for another process: %s", exc)
        _wait_for_writer(path, deadline)


def _opened(path: Path) -> Generation:
    """Open an index and load its vectors, so that what is wrong with them shows now."""
    generation = open_index(path)
    try:
        _ = generation.dense
    except BaseException:
        generation.close()
        raise
    return generation


def _wait_for_writer(path: Path, deadline: float) -> None:
    """Return when nobody writes the index; what it is then, the caller has to look at."""
    while True:
        try:
            with writer_lock(path):
                return
        except IndexLockedError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(POLL_S)


def cache_folder() -> Path:
    """Where cached indexes live; ``XDG_CACHE_HOME`` moves it."""
    from platformdirs import user_cache_path

    return user_cache_path("elastic_ir") / "indexes"
