"""Document vectors, encoded chunk by chunk so that a killed build goes on where it stopped."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from elastic_ir import durable
from elastic_ir.errors import InputError
from elastic_ir.records import Document, EncoderCard

logger = logging.getLogger(__name__)

JOURNAL = "journal"
SETTINGS = "build.json"
NORM_TOLERANCE = 1e-2


class DocumentEncoder(Protocol):
    """What turns document contents into vectors (a document prompt is its own business)."""

    @property
    def card(self) -> EncoderCard:
        """What the vectors are."""
        ...

    @property
    def number_format(self) -> str:
        """In which it computes, e.g. ``fp32``: a build that goes on in another begins anew."""
        ...

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """``[N, D]`` float32 vectors of unit length, one for each of the N texts."""
        ...


class KnownVectors(Protocol):
    """Vectors that were made before."""

    def vector(self, contents: str) -> NDArray[np.float32] | None:
        """``[D]`` of a document with these ``contents``; None where it is not known."""
        ...


class _Chunk(NamedTuple):
    """One line of the journal: a chunk's number and the sha256 of its documents and of its file."""

    number: int
    documents: str
    vectors: str

    def dump(self) -> bytes:
        text = json.dumps(self).encode()
        return b"%s %08x\n" % (text, zlib.crc32(text))

    @classmethod
    def load(cls, line: bytes) -> _Chunk | None:
        """The chunk of a whole, sound line; None for any other."""
        text, _, checksum = line.rpartition(b" ")
        return cls(*json.loads(text)) if checksum == b"%08x\n" % zlib.crc32(text) else None


class VectorChunks:
    """The vectors of a collection, in chunks of one size, on disk until the index is built.

    Chunks of an earlier build that was killed are taken over where the encoder, the chunk size and the
    documents are the same; the work of another encoder is thrown away, and said so. Iterating yields the chunks in
    order.
    """

    def __init__(self, folder: Path, encoder: DocumentEncoder, chunk_size: int) -> None:
        self.card, self.encoder = encoder.card, encoder
        self.count = 0
        self._folder = folder
        self._chunks: list[_Chunk] = []
        told = {"encoder": self.card._asdict(), "number_format": encoder.number_format, "chunk_size": chunk_size}
        settings = json.dumps(told, indent=2).encode()
        if not (folder / SETTINGS).is_file() or (folder / SETTINGS).read_bytes() != settings:
            if chunks := len(list(folder.glob("*.npy"))):
                logger.warning("%s: %d encoded chunks of another model or size are thrown away", folder.parent, chunks)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            durable.replace(folder / SETTINGS, settings)
        self._journal = folder / JOURNAL
        self._known = self._replay()

    def add(self, documents: Sequence[Document], known: KnownVectors | None = None) -> None:
        """Encode the next chunk, unless its vectors are there already; in it, what is not ``known``.

        Raises:
            InputError: if the encoder's answer is not ``[N, D]`` finite float32 of unit length.
        """
        number = len(self._chunks)
        digest = hashlib.sha256(json.dumps([document.contents for document in documents]).encode()).hexdigest()
        chunk = self._known.get(number)
        if chunk is None or chunk.documents != digest or self._bytes(chunk) is None:
            chunk = self._encode(_Chunk(number, digest, ""), documents, known)
        self._chunks.append(chunk)
        self.count += len(documents)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yield ``[n, D]`` float32, chunk after chunk."""
        for chunk in self._chunks:
            data = self._bytes(chunk)
            if data is None:
                raise InputError(f"{self._path(chunk)} was changed while the index was built; build it again")
            yield np.load(io.BytesIO(data), allow_pickle=False)

    def sample(self, count: int, seed: int) -> NDArray[np.float32]:
        """``[count, D]`` vectors drawn without replacement (all of them if there are no more), in order."""
        wanted = np.sort(np.random.default_rng(seed).permutation(self.count)[:count])
        parts, start = [], 0
        for vectors in self:
            here = wanted[(wanted >= start) & (wanted < start + len(vectors))]
            parts.append(vectors[here - start])
            start += len(vectors)
        return np.concatenate(parts)

    def _encode(self, chunk: _Chunk, documents: Sequence[Document], known: KnownVectors | None) -> _Chunk:
        found = [None if known is None else known.vector(document.contents) for document in documents]
        new = [place for place, vector in enumerate(found) if vector is None]
        vectors = np.stack(
            [np.zeros(self.card.dimension, np.float32) if vector is None else vector for vector in found]
        )
        if new:
            encoded = self.encoder.encode([documents[place].contents for place in new])
            _check(encoded, [documents[place] for place in new], self.card, [self.count + 1 + place for place in new])
            vectors[new] = encoded
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(vectors), allow_pickle=False)
        chunk = chunk._replace(vectors=hashlib.sha256(buffer.getbuffer()).hexdigest())
        durable.replace(self._path(chunk), buffer.getvalue())
        with durable.naming(self._journal), self._journal.open("ab") as journal:
            journal.write(chunk.dump())
            journal.flush()
            os.fsync(journal.fileno())
        return chunk

    def _bytes(self, chunk: _Chunk) -> bytes | None:
        """The chunk's file, or None when it is not what the journal says."""
        path = self._path(chunk)
        data = path.read_bytes() if path.is_file() else b""
        return data if hashlib.sha256(data).hexdigest() == chunk.vectors else None

    def _path(self, chunk: _Chunk) -> Path:
        return self._folder / f"chunk-{chunk.number:06d}.npy"

    def _replay(self) -> dict[int, _Chunk]:
        """Read the journal up to its first bad line, and cut it there."""
        known: dict[int, _Chunk] = {}
        self._journal.touch()
        with self._journal.open("r+b") as journal:
            sound = 0
            for line in journal:
                chunk = _Chunk.load(line)
                if chunk is None:
                    break
                known[chunk.number] = chunk
                sound += len(line)
            journal.truncate(sound)
        if known:
            logger.info("%d encoded chunks of an unfinished build are taken over", len(known))
        return known


def _check(vectors: NDArray[np.float32], documents: Sequence[Document], card: EncoderCard, rows: Sequence[int]) -> None:
    wanted = (len(documents), card.dimension)
    if not isinstance(vectors, np.ndarray) or vectors.dtype != np.float32 or vectors.shape != wanted:
        found = f"{vectors.dtype} {vectors.shape}" if isinstance(vectors, np.ndarray) else type(vectors).__name__
        raise InputError(
            f"encoder {card.model} gave {found} for rows {rows[0]} to {rows[-1]} "
            f"({documents[0].doc_id!r} to {documents[-1].doc_id!r}); wanted a numpy array, float32 {wanted}"
        )
    with np.errstate(all="ignore"):
        norms = np.linalg.norm(vectors, axis=1)
    bad = np.flatnonzero(~(np.abs(norms - 1) <= NORM_TOLERANCE))  # NaN compares false, so it is caught here
    if len(bad):
        row = int(bad[0])
        raise InputError(
            f"encoder {card.model} gave document {documents[row].doc_id!r} (row {rows[row]}) a vector of length "
            f"{norms[row]}; wanted finite numbers and length 1: check the model's weights and that it normalizes"
        )
