"""Text files read line by line, with errors that name the file and the line."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from elastic_ir.datasets.base import digest_of
from elastic_ir.durable import sha256
from elastic_ir.errors import DatasetError, nearest
from elastic_ir.records import Query

SMALL_BYTES = 256 * 2**20
"""A file up to this size is read once more to count its documents, or to know whether it changed."""
MAX_LINE_BYTES = 64 * 2**20
MAX_ID_CHARS = 1_000
MAX_QUERY_CHARS = 100_000

_NOT_IN_IDS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]")


class Line:
    """One line of a file, without its line end; ``number`` starts at 1."""

    def __init__(self, path: Path, number: int, text: str) -> None:
        self.path, self.number, self.text = path, number, text

    def fail(self, reason: str, cause: Exception | None = None) -> NoReturn:
        """Raise a DatasetError that names file and line."""
        raise DatasetError(f"{self.path}, line {self.number}: {reason}") from cause

    def record(self) -> dict[str, Any]:
        """The JSON object on this line."""
        try:
            value = json.loads(self.text)
        except (ValueError, RecursionError) as exc:
            self.fail(f"not JSON ({exc}); wanted one JSON object", exc)
        if not isinstance(value, dict):
            self.fail(f"found a JSON {type(value).__name__}; wanted an object")
        return value

    def field(self, row: dict[str, Any], name: str) -> str:
        """The string ``row[name]``."""
        if name not in row:
            self.fail(f"field {name!r} is missing; found the fields {str([*row])[:200]}")
        if not isinstance(row[name], str):
            self.fail(f"field {name!r} is a {type(row[name]).__name__}; wanted a string")
        value: str = row[name]
        try:
            value.encode()
        except UnicodeEncodeError as exc:  # JSON can escape half a surrogate pair, UTF-8 files cannot hold one
            self.fail(f"field {name!r} has an unpaired surrogate at character {exc.start}; wanted Unicode text", exc)
        return value

    def usable_id(self, value: str, name: str) -> str:
        """``value`` if it can be an id in a run file: short, not empty, no white space or control character."""
        if not value:
            self.fail(f"{name} is empty")
        if len(value) > MAX_ID_CHARS:
            self.fail(f"{name} has {len(value):,} characters; wanted at most {MAX_ID_CHARS:,}")
        if found := _NOT_IN_IDS.search(value):
            self.fail(f"{name} {value[:80]!r} has {found[0]!r}; wanted no white space or control characters")
        return value


class Unseen:
    """Ids of one file, each allowed once."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def check(self, value: str, line: Line) -> str:
        """``value``, or an error at ``line`` when it came before."""
        if value in self._seen:
            line.fail(f"id {value!r} came before; wanted every id once")
        self._seen.add(value)
        return value


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a UTF-8 file that are not blank; ``.gz`` is decompressed; a byte order mark is dropped.

    Raises:
        DatasetError: if the file cannot be read, a line is not UTF-8 or has more than ``MAX_LINE_BYTES`` bytes.
    """
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
            for number, raw in enumerate(iter(partial(file.readline, MAX_LINE_BYTES + 1), b""), start=1):
                if len(raw) > MAX_LINE_BYTES:
                    Line(path, number, "").fail(f"longer than {MAX_LINE_BYTES:,} bytes; wanted one record a line")
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if text.strip():
                    yield Line(path, number, text)
    except UnicodeDecodeError as exc:
        raise DatasetError(f"{path}, line {number}: not UTF-8 ({exc.reason} at byte {exc.start})") from exc
    except (OSError, EOFError, zlib.error) as exc:
        place = f" after line {number}" if number else ""
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else exc
        raise DatasetError(f"{path} cannot be read{place} ({reason}); wanted a readable file") from exc


def suffix_of(path: Path) -> str:
    """The suffix that tells the kind of a file: ``.tsv`` of ``queries.TSV.gz``."""
    return (path.with_suffix("").suffix if path.suffix.lower() == ".gz" else path.suffix).lower()


def digest_of_file(path: Path) -> str:
    """Digest of a file; of its size and time of change when it has more than ``SMALL_BYTES``."""
    try:
        status = path.stat()
        return digest_of(status.st_size, status.st_mtime_ns) if status.st_size > SMALL_BYTES else sha256(path)
    except OSError as exc:
        raise DatasetError(f"{path} cannot be read ({exc}); wanted a readable file") from exc


def read_queries(path: Path | str) -> list[Query]:
    """The queries of a file, in file order: ``stream_queries`` as a list."""
    return list(stream_queries(path))


def stream_queries(path: Path | str) -> Iterator[Query]:
    """The queries of a file, in file order, one at a time; only their ids are kept, to find one that comes twice.

    Args:
        path: a ``.tsv`` file (id, tab, text) or a ``.jsonl`` file (``_id``, ``text``), or either with ``.gz``.

    Raises:
        DatasetError: if the file cannot be read, has no queries, or a line is bad: an id that is empty,
            repeated, longer than 1,000 characters or with white space or control characters; a text that
            is empty or longer than 100,000 characters. It names file and line.
    """
    path = Path(path)
    suffix = suffix_of(path)
    if suffix not in QUERY_FORMATS:
        raise DatasetError(f"{path}: unknown form of query file {suffix!r}{nearest(suffix, QUERY_FORMATS)}")
    ids, line = Unseen(), None
    for line in read_lines(path):
        query_id, text = QUERY_FORMATS[suffix](line)
        if len(text) > MAX_QUERY_CHARS:
            line.fail(f"the query has {len(text):,} characters; wanted at most {MAX_QUERY_CHARS:,}")
        if not text.strip():
            line.fail("the query text is empty")
        yield Query(ids.check(line.usable_id(query_id, "query id"), line), text)
    if line is None:
        raise DatasetError(f"{path} has no queries; wanted at least one")


def _tab_separated(line: Line) -> tuple[str, str]:
    query_id, tab, text = line.text.partition("\t")
    if not tab:
        line.fail("no tab; wanted query id, tab, text")
    return query_id, text


def _json_object(line: Line) -> tuple[str, str]:
    row = line.record()
    return line.field(row, "_id"), line.field(row, "text")


QUERY_FORMATS: dict[str, Callable[[Line], tuple[str, str]]] = {".tsv": _tab_separated, ".jsonl": _json_object}
"""Suffix of a query file -> what reads query id and text from a line."""
