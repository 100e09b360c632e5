"""Vectors of an earlier generation, for documents that are as they were."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from elastic_ir.errors import ElasticIRError, IndexCorruptError
from elastic_ir.index.dense import DenseIndex
from elastic_ir.index.encoding import DocumentEncoder
from elastic_ir.index.factory import keeps_vectors
from elastic_ir.index.generation import Generation, open_current
from elastic_ir.index.manifest import damage
from elastic_ir.version import __version__

logger = logging.getLogger(__name__)


class EarlierVectors:
    """The vectors of an open generation by the contents that they were made of; the generation is closed with it."""

    def __init__(self, generation: Generation, index: DenseIndex) -> None:
        self._generation, self._index, self._doc_ids = generation, index, list(generation.rows)
        hashes = np.fromiter((_hash(document.contents) for document in generation.documents), np.uint64, len(index))
        self._rows = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._rows]

    def vector(self, contents: str) -> NDArray[np.float32] | None:
        """``[D]`` of a document with these ``contents``; None if there was none."""
        wanted = np.uint64(_hash(contents))
        for place in range(int(np.searchsorted(self._hashes, wanted)), len(self._hashes)):
            if self._hashes[place] != wanted:
                break
            row = int(self._rows[place])
            with suppress(ElasticIRError):  # damaged meanwhile
                if self._generation.documents.text(self._doc_ids[row]) == contents:
                    return self._index.vector(row)
        return None

    def close(self) -> None:
        """Let go of the generation."""
        self._generation.close()


def earlier_vectors(paths: Iterable[Path], encoder: DocumentEncoder) -> EarlierVectors | None:
    """Of the first index in ``paths`` that keeps whole vectors by the same encoder in the same number format.

    An encoder without a fingerprint is never the same.
    """
    for path in paths if encoder.card.fingerprint else ():
        try:
            found = _vectors_in(path, encoder)
        except (ElasticIRError, OSError) as exc:
            logger.debug("no vectors are taken over from %s: %s", path, exc)
            continue
        if found is not None:
            return found
    return None


def _vectors_in(path: Path, encoder: DocumentEncoder) -> EarlierVectors | None:
    generation = open_current(path)
    try:
        manifest, card = generation.manifest, encoder.card
        made = manifest.encoder, manifest.number_format, manifest.elastic_ir
        if made == (card, encoder.number_format, __version__) and keeps_vectors(manifest.factory or "", card.dimension):
            if damaged := next(damage(generation.path, manifest, hashes=True), None):
                raise IndexCorruptError(damaged)
            if (index := generation.dense) is not None:
                return EarlierVectors(generation, index)
    except BaseException:
        generation.close()
        raise
    generation.close()
    return None


def _hash(contents: str) -> int:
    return int.from_bytes(blake2b(contents.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
