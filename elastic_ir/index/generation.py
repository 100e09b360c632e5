"""``Generation``: one immutable, verified state of an index, open for reading."""

from __future__ import annotations

import fcntl
import os
import threading
import weakref
from pathlib import Path

from elastic_ir.errors import IndexCorruptError
from elastic_ir.index.current import Current, read_current
from elastic_ir.index.dense import DenseIndex
from elastic_ir.index.manifest import LUCENE, MANIFEST, RESTORE, Manifest, damage, read_manifest
from elastic_ir.index.stores import DocumentStore, TokenStore, read_rows


class Generation:
    """An open generation of an index; what it holds is loaded when first asked for, once, by any thread.

    It stays usable, and on disk, until ``close``, however many newer generations are built meanwhile.

    Attributes:
        path: folder of this generation, ``INDEX/gen-000001``.
        manifest: what it is made of.
    """

    def __init__(self, path: Path, manifest: Manifest, handle: int) -> None:
        self.path, self.manifest = path, manifest
        self._unpin = weakref.finalize(self, os.close, handle)
        self._lock = threading.RLock()
        self._rows: dict[str, int] | None = None
        self._dense: DenseIndex | None = None
        self._documents: DocumentStore | None = None
        self._tokens: TokenStore | None = None

    @property
    def number(self) -> int:
        """1 for the first generation of an index."""
        return int(self.path.name.removeprefix("gen-"))

    @property
    def rows(self) -> dict[str, int]:
        """doc_id -> row, in row order."""
        with self._lock:
            if self._rows is None:
                self._rows = read_rows(self.path, self.manifest.documents)
            return self._rows

    @property
    def dense(self) -> DenseIndex | None:
        """The vectors; None where the index was built without an encoder."""
        with self._lock:
            if self._dense is None and self.manifest.encoder is not None:
                self._dense = DenseIndex(self.path, self.manifest, self.manifest.encoder, list(self.rows))
            return self._dense

    @property
    def documents(self) -> DocumentStore:
        """The documents."""
        with self._lock:
            if self._documents is None:
                self._documents = DocumentStore(self.path, self.rows)
            return self._documents

    @property
    def tokens(self) -> TokenStore | None:
        """The token ids; None where the index was built without a tokenizer."""
        with self._lock:
            if self._tokens is None and self.manifest.tokenizer_fingerprint is not None:
                self._tokens = TokenStore(self.path, self.rows, self.manifest.tokenizer_fingerprint)
            return self._tokens

    @property
    def lucene_path(self) -> Path | None:
        """Folder of the Lucene index; None where it was built without."""
        return self.path / LUCENE if self.manifest.has_lucene else None

    def close(self) -> None:
        """Let go of the files; a later build may then remove them. Closing twice is fine."""
        with self._lock:
            if self._documents is not None:
                self._documents.close()
            self._unpin()

    def __enter__(self) -> Generation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_index(path: Path, *, verify: bool = True) -> Generation:
    """Open the current generation of the index at ``path``.

    Args:
        path: the index, as given to ``build_index``.
        verify: compare the sha256 of every file with the manifest (about 1 s a gigabyte); False compares
            only the sizes.

    Raises:
        IndexNotFoundError: if nothing was ever finished there.
        IndexCorruptError: if a file is not what the manifest says; never an older generation instead.
        IndexMismatchError: if it is of a format that this version does not read.
    """
    generation = open_current(Path(path))
    for line in damage(generation.path, generation.manifest, hashes=verify):
        generation.close()
        raise IndexCorruptError(line)
    return generation


def pin(folder: Path, *, exclusive: bool = False) -> int:
    """Hold the generation in ``folder`` against removal; ``exclusive`` is for who removes it.

    Returns:
        A file handle: closing it lets go.

    Raises:
        FileNotFoundError: if it is gone.
        BlockingIOError: if ``exclusive`` and somebody reads it.
    """
    handle = os.open(folder / MANIFEST, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_SH)
        (folder / MANIFEST).stat()  # removed while we waited?
    except BaseException:
        os.close(handle)
        raise
    return handle


def open_current(path: Path) -> Generation:
    """The current generation, its files not looked at yet."""
    current, handle = _pin_current(path)
    try:
        manifest = read_manifest(path / current.name, current.manifest_sha256)
    except BaseException:
        os.close(handle)
        raise
    return Generation(path / current.name, manifest, handle)


def _pin_current(path: Path) -> tuple[Current, int]:
    current = read_current(path)
    while True:
        try:
            return current, pin(path / current.name)
        except OSError as exc:
            # Builds may have replaced and removed it since CURRENT was read: then CURRENT has moved on.
            newer = read_current(path)
            if newer == current:
                raise IndexCorruptError(
                    f"index {path}: {current.name}/{MANIFEST} cannot be read ({exc.strerror}); {RESTORE}"
                ) from exc
            current = newer
