"""A run in the making: batches put on disk one by one, so that a killed process loses one batch at most."""

from __future__ import annotations

import fcntl
import gzip
import json
import logging
import os
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from elastic_ir.durable import sync, target_of
from elastic_ir.errors import RunFileError
from elastic_ir.evaluate.files import writing

logger = logging.getLogger(__name__)

_CHUNK = 1 << 20


class RunJournal:
    """The batches of one run, beside its target: ``<run>.part`` grows, ``<run>.part.jsonl`` says what is in it.

    A batch counts once its note is on disk, which is after its lines are; whatever stands behind the last
    noted batch, a torn line included, is cut off at the next start. ``finish`` renames the part over the
    target, or over what it names where it is a link, so that a run appears whole. Only the command that began
    a journal goes on with it: another ``key`` begins anew. One process at a time may hold it. A target named
    ``.gz`` is made of one gzip member for each batch, without dates.

    Args:
        target: the run.
        key: digest of everything that the lines depend on, the queries excepted.

    Raises:
        RunFileError: as ``target_of``, if the files cannot be written, or if another process holds them.
    """

    def __init__(self, target: Path, key: str) -> None:
        with writing(target):
            self._place = target_of(target)
        self.target = target
        self.part = self._place.with_name(f"{self._place.name}.part")
        self.notes_path = self._place.with_name(f"{self._place.name}.part.jsonl")
        self._batch, self._bytes = 0, 0
        with writing(self.target):
            self._place.parent.mkdir(parents=True, exist_ok=True)
            self._notes = self._locked()
            try:
                self._lines = _appendable(self.part)
            except BaseException:
                self._notes.close()
                raise
            self._ends = self._kept(key)
            self._cut(len(self._ends))

    def resume(self, queries: str) -> bool:
        """True if the next batch is on disk already and was of these queries; else all from here on is cut.

        Args:
            queries: digest of the batch's queries.
        """
        if self._batch < len(self._ends) and self._ends[self._batch][0] == queries:
            self._batch += 1
            return True
        self._cut_rest()
        return False

    def commit(self, queries: str, lines: str, note: dict[str, Any]) -> None:
        """Put a batch on disk: its lines, then ``note``, which ``notes`` gives back."""
        content = lines.encode()
        if self.target.suffix == ".gz":
            content = gzip.compress(content, mtime=0)
        with writing(self.target):
            _append(self._lines, content)
            end = self._bytes + len(content)
            about = {"queries": queries, "end": end, "crc32": zlib.crc32(content), "note": note}
            _append(self._notes, _sealed(about))
        self._ends.append((queries, end, self._notes.tell()))
        self._batch, self._bytes = self._batch + 1, end

    def notes(self) -> Iterator[dict[str, Any]]:
        """The notes of the batches gone through, in order, read from disk; batches left over are cut."""
        self._cut_rest()
        with writing(self.target), self.notes_path.open("rb") as file:
            file.readline()
            for line in file:
                yield _opened(line)["note"]

    def finish(self) -> None:
        """Give the target its lines: batches left over are cut, and the part takes the target's name."""
        self._cut_rest()
        with writing(self.target):
            self.part.replace(self._place)
            sync(self._place.parent)
            self.notes_path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and not self._ends:
            for path in (self.part, self.notes_path):
                with suppress(OSError):
                    path.unlink()
        self._lines.close()
        self._notes.close()

    def _kept(self, key: str) -> list[tuple[str, int, int]]:
        """(queries, end in the part, end in the notes) of each whole batch; a first line that names ``key``."""
        header = _sealed({"key": key})
        self._notes.seek(0)
        found = self._notes.readline()
        if found != header:
            if found:
                logger.warning("%s is of another command: the run begins anew", self.notes_path)
            self._notes.truncate(0)
            self._notes.seek(0)
            _append(self._notes, header)
            sync(self._place.parent)
            return []
        ends: list[tuple[str, int, int]] = []
        before, place = 0, len(header)
        self._lines.seek(0)
        for line in self._notes:
            about, place = _opened(line), place + len(line)
            if not about or not self._holds(about["end"] - before, about["crc32"]):
                break
            ends.append((about["queries"], about["end"], place))
            before = about["end"]
        if ends:
            logger.info("%s: %d batches are on disk already", self.part, len(ends))
        return ends

    def _holds(self, size: int, crc32: int) -> bool:
        """Whether the next ``size`` bytes of the part are there and whole."""
        found = 0
        while size and (chunk := self._lines.read(min(size, _CHUNK))):
            size, found = size - len(chunk), zlib.crc32(chunk, found)
        return not size and found == crc32

    def _cut_rest(self) -> None:
        if self._batch < len(self._ends):
            with writing(self.target):
                self._cut(self._batch)

    def _cut(self, batches: int) -> None:
        """Keep the first ``batches`` only."""
        del self._ends[batches:]
        _, self._bytes, place = self._ends[-1] if self._ends else ("", 0, 0)
        if not place:
            self._notes.seek(0)
            place = len(self._notes.readline())
        for file, size in ((self._notes, place), (self._lines, self._bytes)):
            file.truncate(size)
            file.seek(size)
            os.fsync(file.fileno())

    def _locked(self) -> IO[bytes]:
        """The notes, for this process alone; opened again where another that ended removed them before the lock."""
        while True:
            with ExitStack() as opened:
                notes = opened.enter_context(_appendable(self.notes_path))
                self._lock(notes)
                if _is_at(self.notes_path, notes):
                    opened.pop_all()
                    return notes

    def _lock(self, notes: IO[bytes]) -> None:
        try:
            fcntl.flock(notes, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise RunFileError(
                f"{self.target} is being written by another process; wait until it ends, or choose another name"
            ) from exc


def _appendable(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")


def _is_at(path: Path, file: IO[bytes]) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    return False


def _append(file: IO[bytes], content: bytes) -> None:
    file.write(content)
    file.flush()
    os.fsync(file.fileno())


def _sealed(about: dict[str, Any]) -> bytes:
    """One line: a checksum, a space, and JSON."""
    text = json.dumps(about, ensure_ascii=False, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _opened(line: bytes) -> dict[str, Any]:
    """What a line says; empty where it is torn."""
    text = line[9:-1]
    if not line.endswith(b"\n") or line[:9] != b"%08x " % zlib.crc32(text):
        return {}
    about: dict[str, Any] = json.loads(text)
    return about
