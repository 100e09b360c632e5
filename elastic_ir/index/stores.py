"""The documents of a generation and their token ids, by doc_id, without holding them in memory."""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from elastic_ir.durable import NewFile
from elastic_ir.errors import BackendError, IndexCorruptError, InputError
from elastic_ir.index.manifest import DOC_IDS, DOCUMENT_OFFSETS, DOCUMENTS, TOKEN_OFFSETS, TOKENS
from elastic_ir.index.npy import NpyWriter, read_npy
from elastic_ir.records import Document


class DocumentStore:
    """The documents of a generation, in the order they were indexed.

    One line of JSON each, found by its byte offset. Safe to use from many threads.
    """

    def __init__(self, folder: Path, rows: Mapping[str, int]) -> None:
        self._path = folder / DOCUMENTS
        self._rows = rows
        self._offsets = _offsets(folder / DOCUMENT_OFFSETS, len(rows), self._path.stat().st_size)
        with self._path.open("rb") as file:
            self._lines = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def get(self, doc_id: str) -> Document:
        """The document ``doc_id``.

        Raises:
            InputError: if there is none.
            IndexCorruptError: if its line is damaged (only where the index was opened unverified).
            BackendError: after ``close()``.
        """
        start, end = _span(self._offsets, self._rows, doc_id)
        try:
            document = Document(**json.loads(self._lines[start:end]))
        except (ValueError, TypeError) as exc:
            if self._lines.closed:
                raise BackendError(f"the index at {self._path.parent} was closed; open it again") from exc
            raise IndexCorruptError(f"{self._path}: the line of {doc_id!r} is damaged; build the index again") from exc
        if document.doc_id != doc_id:
            raise IndexCorruptError(
                f"{self._path}: found {document.doc_id!r} where {doc_id!r} should be; build the index again"
            )
        return document

    def text(self, doc_id: str) -> str:
        """What was indexed and encoded for ``doc_id``: its ``contents``, title first. Raises as ``get``."""
        return self.get(doc_id).contents

    def close(self) -> None:
        """Let go of the file."""
        self._lines.close()

    def __iter__(self) -> Iterator[Document]:
        return map(self.get, self._rows)

    def __len__(self) -> int:
        return len(self._rows)


class TokenStore:
    """The token ids of every document's contents, without special tokens.

    One flat int32 array on disk and the offset of each document in it. Safe to use from many threads.

    Attributes:
        tokenizer_fingerprint: what made the ids; empty when the builder was not told.
    """

    def __init__(self, folder: Path, rows: Mapping[str, int], tokenizer_fingerprint: str) -> None:
        self.tokenizer_fingerprint = tokenizer_fingerprint
        self._rows = rows
        self._flat: NDArray[np.int32] = read_npy(folder / TOKENS)
        self._offsets = _offsets(folder / TOKEN_OFFSETS, len(rows), len(self._flat))

    def tokens(self, doc_id: str) -> NDArray[np.int32]:
        """The token ids ``[T]`` of ``doc_id``, read-only; T may be 0.

        Raises:
            InputError: if there is no such document.
        """
        start, end = _span(self._offsets, self._rows, doc_id)
        return np.asarray(self._flat[start:end])


@contextmanager
def document_writer(folder: Path) -> Iterator[Callable[[Sequence[Document]], None]]:
    """Write the files of a ``DocumentStore`` and the list of ids; yields what takes the next documents."""
    with (
        NewFile(folder / DOC_IDS) as ids,
        NewFile(folder / DOCUMENTS) as lines,
        _RaggedOffsets(folder / DOCUMENT_OFFSETS) as offsets,
    ):

        def add(documents: Sequence[Document]) -> None:
            encoded = [_line(document) for document in documents]
            ids.write("".join(f"{document.doc_id}\n" for document in documents).encode())
            lines.write(b"".join(encoded))
            offsets.extend_by([len(line) for line in encoded])

        yield add


@contextmanager
def token_writer(folder: Path) -> Iterator[Callable[[Sequence[Sequence[int]]], None]]:
    """Write the files of a ``TokenStore``; yields what takes the token ids of the next documents."""
    with NpyWriter(folder / TOKENS, np.int32) as flat, _RaggedOffsets(folder / TOKEN_OFFSETS) as offsets:

        def add(tokens: Sequence[Sequence[int]]) -> None:
            flat.extend(token for document in tokens for token in document)
            offsets.extend_by([len(document) for document in tokens])

        yield add


def read_rows(folder: Path, count: int) -> dict[str, int]:
    """doc_id -> row, in row order.

    Raises:
        IndexCorruptError: if there are not ``count`` different ids.
    """
    try:
        ids = (folder / DOC_IDS).read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError) as exc:
        raise IndexCorruptError(f"index file {folder / DOC_IDS} cannot be read ({exc}); build the index again") from exc
    rows = {doc_id: row for row, doc_id in enumerate(ids)}
    if not len(rows) == len(ids) == count:
        raise IndexCorruptError(
            f"index file {folder / DOC_IDS} has {len(rows)} different ids, but the manifest says {count}; "
            "build the index again"
        )
    return rows


class _RaggedOffsets(NpyWriter):
    """Where each item of a ragged array starts: 0, then one end per item."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, np.int64)
        self._end = 0
        self.extend([0])

    def extend_by(self, lengths: Sequence[int]) -> None:
        ends = self._end + np.cumsum(lengths, dtype=np.int64)
        self._end = int(ends[-1]) if len(ends) else self._end
        self.extend(ends)


def _line(document: Document) -> bytes:
    # Lone surrogates occur in crawled text; they survive the round trip.
    return f"{json.dumps(document._asdict(), ensure_ascii=False)}\n".encode("utf-8", "surrogatepass")


def _offsets(path: Path, count: int, end: int) -> NDArray[np.int64]:
    offsets: NDArray[np.int64] = read_npy(path)
    if offsets.shape != (count + 1,) or offsets[-1] != end:
        raise IndexCorruptError(f"index file {path} does not belong to its {count} documents; build the index again")
    return offsets


def _span(offsets: NDArray[np.int64], rows: Mapping[str, int], doc_id: str) -> tuple[int, int]:
    row = rows.get(doc_id)
    if row is None:
        raise InputError(f"document {doc_id!r} is not in the index; it holds {len(rows)} others")
    return int(offsets[row]), int(offsets[row + 1])
