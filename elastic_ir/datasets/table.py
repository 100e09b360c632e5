"""A file of documents: a JSON object a line, or a row of a table; each may be gzipped."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from elastic_ir.datasets.base import Dataset, digest_of, key_of
from elastic_ir.datasets.lines import (
    MAX_LINE_BYTES,
    SMALL_BYTES,
    Line,
    Unseen,
    digest_of_file,
    read_lines,
    suffix_of,
)
from elastic_ir.errors import DatasetError, nearest
from elastic_ir.records import Document

IDS = ("_id", "id", "doc_id", "docid", "pid")
TEXTS = ("text", "contents", "content", "body", "passage")
TITLE = "title"
MAX_CELLS = 1_000_000

Row = tuple[Line, dict[str, Any]]


class TableFile(Dataset):
    """The documents of a ``.jsonl``, ``.csv`` or ``.tsv`` file, or of one of these with ``.gz``; no queries.

    A document's text is the first of the fields ``TEXTS`` that it has, its id the first of ``IDS``, or the number of
    its row where there is none; ``title`` may be there. The first row of a table names its columns; a ``.tsv`` whose
    first row does not has ids and texts (MS MARCO's collection).

    Raises:
        DatasetError: if it is a file of another kind.
    """

    def __init__(self, name: str) -> None:
        self.name, self._path = name, Path(name)
        suffix = suffix_of(self._path)
        if suffix not in FORMATS:
            raise DatasetError(
                f"{name} is a file of kind {suffix or 'unknown'!r}{nearest(suffix, FORMATS)}; wanted documents as "
                f"{', '.join(FORMATS)} (with or without .gz), a folder of texts, or one in the BEIR layout"
            )
        self._rows = FORMATS[suffix]
        place = self._path.resolve()
        self.key = f"{key_of(place.stem)}-{digest_of(place)[:8]}"

    @property
    def count(self) -> int | None:
        """Documents of a file of at most ``SMALL_BYTES``; None for others."""
        return None if self._path.stat().st_size > SMALL_BYTES else sum(1 for _ in self._rows(self._path))

    def documents(self) -> Iterator[Document]:
        """The documents in file order; only their ids are kept in memory, to find one that comes twice."""
        ids, number = Unseen(), 0
        for number, (line, row) in enumerate(self._rows(self._path), start=1):
            known = {key: value for key, value in row.items() if value is not None}
            name = next((name for name in IDS if name in known), None)
            if name is None:
                doc_id = str(number)
            else:
                whole = isinstance(known[name], int) and not isinstance(known[name], bool)
                doc_id = str(known[name]) if whole else line.field(known, name)
            texts = [name for name in TEXTS if name in known]
            text = next((name for name in texts if known[name]), texts[0] if texts else None)
            if text is None:
                found, wanted = str([*row])[:200], ", ".join(TEXTS)
                line.fail(f"no text; found the fields {found}; wanted one of {wanted}")
            title = line.field(known, TITLE) if TITLE in known else ""
            yield Document(ids.check(line.usable_id(doc_id, name or "id"), line), line.field(known, text), title)
        if not number:
            raise DatasetError(f"{self._path} has no documents; wanted at least one")

    def fingerprint(self) -> str:
        return digest_of_file(self._path)


def _objects(path: Path) -> Iterator[Row]:
    for line in read_lines(path):
        yield line, line.record()


def _comma_separated(path: Path) -> Iterator[Row]:
    return _table(path, ",")


def _tab_separated(path: Path) -> Iterator[Row]:
    first = next(read_lines(path), None)
    names = [] if first is None else [_name(cell) for cell in first.text.split("\t")]
    if not names or names[0] in IDS or {*names} & {*TEXTS}:
        yield from _table(path, "\t")
        return
    for line in read_lines(path):
        cells = line.text.split("\t")
        if len(cells) != 2:
            line.fail(f"{len(cells)} columns without names; wanted id, tab, text, or a first row of names")
        yield line, {"_id": cells[0], "text": cells[1]}


def _table(path: Path, delimiter: str) -> Iterator[Row]:
    """Rows whose columns the first one names, in any case; cells may be quoted."""
    csv.field_size_limit(MAX_LINE_BYTES)  # of the process; there is no other way
    number, names = 0, list[str]()
    try:
        opened = gzip.open if path.suffix.lower() == ".gz" else open
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            lines = _bounded(path, file, delimiter)
            for number, cells in _quoted(lines) if delimiter == "," else _tabbed(lines):
                line = Line(path, number, "")
                if not any(cells):
                    continue
                if not names:
                    names = [_name(cell) for cell in cells]
                    if not {*names} & {*TEXTS}:
                        wanted = ", ".join(TEXTS)
                        line.fail(f"no column of texts; found {str(names)[:200]}; wanted one named {wanted}")
                    if twice := [name for name in (*IDS, *TEXTS, TITLE) if names.count(name) > 1]:
                        line.fail(f"column {twice[0]!r} comes twice; wanted every name once")
                    continue
                if len(cells) != len(names):
                    line.fail(f"{len(cells)} columns; wanted {len(names)}, as the first row names")
                yield line, dict(zip(names, cells, strict=True))
    except (UnicodeDecodeError, csv.Error) as exc:
        wanted = "wanted a table in UTF-8, with quotes around cells that hold one or begin with one"
        raise DatasetError(f"{path}, after line {number}: {exc}; {wanted}") from exc
    except (OSError, EOFError, zlib.error) as exc:
        raise DatasetError(f"{path} cannot be read after line {number} ({exc}); wanted a readable file") from exc


def _quoted(lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    """Number of the last line of a row, and its cells, which may hold line ends in quotes."""
    reader = csv.reader(lines, strict=True)
    for cells in reader:
        yield reader.line_num, cells


def _tabbed(lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    """Number of a line, and its cells; where quotes are not around them, they are as they stand."""
    for number, line in enumerate(lines, start=1):
        try:
            cells = next(csv.reader([line], delimiter="\t", strict=True), [])
        except csv.Error:
            cells = line.rstrip("\r\n").split("\t")
        yield number, cells


def _name(cell: str) -> str:
    return cell.strip().strip('"').strip().lower()


def _bounded(path: Path, file: TextIO, delimiter: str) -> Iterator[str]:
    """The lines of ``file``, of which none may take more memory than others do: not by cells either."""
    for number, text in enumerate(iter(partial(file.readline, MAX_LINE_BYTES + 1), ""), start=1):
        if len(text) > MAX_LINE_BYTES or text.count(delimiter) > MAX_CELLS:
            Line(path, number, "").fail(f"over {MAX_LINE_BYTES:,} characters or {MAX_CELLS:,} cells; wanted a document")
        yield text


FORMATS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _objects,
    ".csv": _comma_separated,
    ".tsv": _tab_separated,
}
"""Suffix of a file -> what reads its rows."""
