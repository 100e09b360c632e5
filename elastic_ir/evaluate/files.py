"""Whole files or none: text is written beside its target and renamed over it."""

from __future__ import annotations

import gzip
import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO, TextIO, cast

from elastic_ir.durable import sync, target_of
from elastic_ir.errors import RunFileError


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A UTF-8 text file that takes ``path``'s place when the block ends well; else the old file stays.

    Missing parent folders are made. It is gzipped, with no date inside, where the name ends in ``.gz``.

    Raises:
        RunFileError: as ``target_of``, or if the file or its folder cannot be written.
    """
    with writing(path):
        target = target_of(path)
    draft = target.parent / f".{target.name}.{secrets.token_hex(4)}.tmp"
    try:
        with writing(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("xb") as raw:
                with _text(raw, path.suffix == ".gz") as file:
                    yield file
                raw.flush()
                os.fsync(raw.fileno())
            draft.replace(target)
            sync(target.parent)
    finally:
        with suppress(OSError):
            draft.unlink()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` into an error that names ``path``.

    Raises:
        RunFileError: in its place.
    """
    try:
        yield
    except OSError as exc:
        raise RunFileError(f"{path} cannot be written: {exc.strerror or exc}") from exc


@contextmanager
def _text(raw: IO[bytes], packed: bool) -> Iterator[TextIO]:
    """UTF-8 text onto ``raw``, which stays open."""
    binary = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if packed else raw
    file = io.TextIOWrapper(cast("BinaryIO", binary), encoding="utf-8", newline="\n")
    try:
        yield file
    finally:
        file.detach()
        if binary is not raw:
            binary.close()
