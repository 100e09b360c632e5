"""Files that survive a power cut: write, fsync, rename, fsync the folder; and one writer at a time."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from elastic_ir.errors import IndexLockedError, InputError, RunFileError

LOCK = ".lock"


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put ``path`` into an ``OSError`` that names no file (a full disk does not say where)."""
    try:
        yield
    except OSError as exc:
        if exc.filename is None:
            exc.filename = str(path)
        raise


class NewFile:
    """A file being written from the start; leaving the ``with`` block without an error puts it on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb")

    def write(self, data: bytes) -> None:
        with naming(self.path):
            self._file.write(data)

    def rewrite(self, data: bytes) -> None:
        """Replace the first ``len(data)`` bytes."""
        with naming(self.path):
            self._file.seek(0)
            self._file.write(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        with naming(self.path), self._file:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())


def sync(path: Path) -> None:
    """Put a file's bytes, or a folder's names, on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        with naming(path):
            os.fsync(handle)
    finally:
        os.close(handle)


def rename(source: Path, target: Path) -> None:
    """Rename within one folder, for good."""
    source.replace(target)
    sync(target.parent)


def replace(path: Path, data: bytes) -> None:
    """Give ``path`` the content ``data``: readers and power cuts see the old or the new, never a mixture."""
    partial = path.with_name(f"{path.name}.tmp")
    with NewFile(partial) as file:
        file.write(data)
    rename(partial, path)


def target_of(path: Path) -> Path:
    """The file whose place a new one at ``path`` takes: that of a link is behind it, and the link stays.

    Raises:
        RunFileError: if a folder, device, pipe or socket is there, which no file may take the place of.
    """
    if path.is_dir():
        raise RunFileError(f"output {path} is a folder; wanted the name of a file")
    if path.exists() and not path.is_file():
        raise RunFileError(f"output {path} is a device, pipe or socket; wanted the name of a file")
    return Path(os.path.realpath(path))


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path to write to, which takes ``path``'s place when the block ends well; missing parent folders are made.

    Raises:
        RunFileError: as ``target_of``.
    """
    target = target_of(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    try:
        yield part
        sync(part)
        rename(part, target)
    finally:
        part.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def writer_lock(folder: Path, what: str = "index") -> Iterator[None]:
    """Be the only writer of ``folder``, ``what`` in messages, which is made when missing.

    The lock is the kernel's (``flock``): it ends with the process, so nothing is left to clean up
    after a crash.

    Raises:
        IndexLockedError: at once, if another process or thread is writing.
        InputError: if ``folder`` is a file.
    """
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            sync(folder.parent)
    except (FileExistsError, NotADirectoryError) as exc:
        raise InputError(f"{what} {folder}: {exc.filename} is a file; wanted a folder, choose another path") from exc
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            owner = os.pread(handle, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise IndexLockedError(
                f"{what} {folder} is being written by process {owner}; wait until it ends, or stop it and run again"
            ) from exc
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)
