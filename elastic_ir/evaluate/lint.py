"""``lint``: what is wrong with a run file, found in one pass over its lines."""

from __future__ import annotations

import codecs
import math
import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from elastic_ir.errors import RunFileError
from elastic_ir.evaluate.trec import COLUMNS, MAX_LINE_BYTES, RANK, as_singles, open_run
from elastic_ir.records import Qrels

Severity: TypeAlias = Literal["error", "warning"]

LINES_SHOWN = 5
JUDGED_DEPTH = 10
_LARGEST = float(np.finfo(np.float32).max)
_WHOLE = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_NAN = re.compile(r"[+-]?nan", re.IGNORECASE)
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
_ODD = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\u200b]|[^\S \t\n\v\f\r]")
_ASCII_SPACE = re.compile(r"[ \t\n\v\f\r]+")

CODES: dict[str, tuple[Severity, str]] = {
    "unreadable": ("error", "the file ends early or is damaged; what follows was not read"),
    "empty": ("error", "the file has no lines; wanted at least one hit"),
    "bom": ("error", "a byte order mark begins the file; trec_eval takes it for a part of the query id"),
    "crlf": ("warning", "lines end in CR LF; wanted LF alone"),
    "no-final-newline": ("warning", "the last line has no line end; it may be cut off"),
    "blank-line": ("warning", "blank lines"),
    "encoding": ("error", "not UTF-8"),
    "long-line": ("error", f"longer than {MAX_LINE_BYTES:,} bytes; is this a run?"),
    "columns": ("error", f"wanted six columns ({COLUMNS[6]}) throughout, or MS MARCO's three ({COLUMNS[3]})"),
    "id-whitespace": ("error", "a space inside an id or tag of a tab-separated line; readers split it there"),
    "odd-character": ("error", "control, invisible or odd space characters, which tools split or show differently"),
    "q0": ("warning", "the second column is not Q0"),
    "mixed-tags": ("warning", "more than one run tag; is this several runs in one file?"),
    "rank": ("error", "the rank is not a whole number"),
    "negative-rank": ("error", "the rank is below 0"),
    "rank-sequence": ("warning", "the ranks of a query are not 1, 2, 3, ... down the file"),
    "rank-order": ("error", "the rank column says another order than the scores, which is what trec_eval takes"),
    "score": ("error", "the score is not a number"),
    "nan": ("error", "the score is NaN; no order is defined"),
    "infinite": ("error", "the score is infinite"),
    "float32-range": ("error", "the score is infinite as float32, which trec_eval keeps"),
    "scores-increase": ("error", "a score is above the one before it; tools that keep the file's order disagree"),
    "ties": ("warning", "equal scores within a query; tools break them differently"),
    "float32-ties": ("warning", "scores differ in the file and are equal as float32, which trec_eval keeps"),
    "tie-order": ("warning", "ties stand in another order than trec_eval's (doc_id descending)"),
    "duplicate": ("error", "a document comes twice for a query"),
    "interleaved": ("error", "a query comes back after another; each piece was checked by itself"),
    "too-many-hits": ("warning", "more hits for a query than wanted"),
    "unknown-query": ("error", "the dataset has no such query"),
    "unjudged-query": ("warning", "the qrels do not judge this query; it counts for nothing"),
    "missing-query": ("warning", "judged queries have no hit in the run; they count 0"),
    "unknown-document": ("error", "the collection has no such document"),
    "unjudged": ("warning", f"most hits of the first {JUDGED_DEPTH} are unjudged, so the figures say little"),
}
"""Code of a finding -> how bad it is, and what it means."""


class Finding(NamedTuple):
    """One kind of fault: how often, on which lines first, and an example.

    ``lines`` are the numbers of the first lines with it, from 1; empty where it is about no line.
    """

    code: str
    severity: Severity
    times: int
    lines: tuple[int, ...]
    example: str

    def __str__(self) -> str:
        more = ", ..." if self.times > len(self.lines) else ""
        where = f", line {', '.join(map(str, self.lines))}{more}" if self.lines else ""
        return f"{self.severity}: {self.code}: {CODES[self.code][1]} ({self.times:,} x{where}); {self.example}"


class Report(NamedTuple):
    """What ``lint`` found in one run.

    ``judged`` is the mean share of each judged query's first ten hits that has a judgement; None without qrels.
    """

    lines: int
    queries: int
    judged: float | None
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """True when there is no error."""
        return all(finding.severity != "error" for finding in self.findings)


class Known(NamedTuple):
    """What a run is checked against; None is not checked."""

    query_ids: Collection[str] | None = None
    doc_ids: Collection[str] | None = None
    qrels: Qrels | None = None


def lint(
    path: Path,
    known: Known | None = None,
    *,
    max_hits: int = 1000,
    min_judged: float = 0.5,
) -> Report:
    """Look for the faults of ``CODES`` in a run, gzipped where its name ends in ``.gz``.

    Memory grows with the queries and the hits of the largest one, not with the lines.

    Args:
        path: six TREC columns or MS MARCO's three.
        known: queries, documents and judgements of the dataset; None checks the file by itself.
        max_hits: more for one query is a finding.
        min_judged: a smaller share of judged hits among the first ten is a finding.

    Raises:
        RunFileError: if there is no such file.
    """
    notes, known = _Notes(), known or Known()
    judged = _Judged(known.qrels) if known.qrels else None
    seen: set[str] = set()
    for block in _blocks(_rows(path, notes)):
        query_id, first = block[0].query_id, block[0].number
        if query_id in seen:
            notes.add("interleaved", first, f"query {query_id!r} was complete before")
        elif known.query_ids is not None and query_id not in known.query_ids:
            notes.add("unknown-query", first, f"query {query_id!r}")
        elif known.qrels and query_id not in known.qrels:
            notes.add("unjudged-query", first, f"query {query_id!r}")
        if judged and query_id not in seen:
            judged.add(query_id, [row.doc_id for row in block])
        seen.add(query_id)
        for check in (_check_documents, _check_ranks, _check_scores):
            check(block, notes)
        if len(block) > max_hits:
            notes.add(
                "too-many-hits", block[max_hits].number, f"query {query_id!r} has {len(block):,}, not {max_hits:,}"
            )
        if known.doc_ids is not None:
            for row in block:
                if row.doc_id not in known.doc_ids:
                    notes.add("unknown-document", row.number, f"document {row.doc_id!r}")
    for query_id in (known.qrels or {}) if seen else ():
        if query_id not in seen:
            notes.add("missing-query", 0, f"query {query_id!r}")
    share = judged.share if judged else None
    if share is not None and share < min_judged:
        notes.add("unjudged", 0, f"{share:.1%} are judged, wanted {min_judged:.0%}")
    return Report(notes.lines, len(seen), share, notes.findings())


class _Row(NamedTuple):
    """One hit; ``score`` is None in MS MARCO's form, and ``rank`` or ``score`` NaN where it is no number."""

    number: int
    query_id: str
    doc_id: str
    rank: float
    score: float | None


@dataclass
class _Notes:
    """Findings as they come."""

    lines: int = 0
    _count: dict[str, int] = field(default_factory=dict)
    _lines: dict[str, list[int]] = field(default_factory=dict)
    _example: dict[str, str] = field(default_factory=dict)

    def add(self, code: str, line: int, example: str) -> None:
        """Note a fault; ``line`` 0 means none in particular."""
        self._count[code] = self._count.get(code, 0) + 1
        self._example.setdefault(code, example)
        lines = self._lines.setdefault(code, [])
        if line and len(lines) < LINES_SHOWN:
            lines.append(line)

    def findings(self) -> tuple[Finding, ...]:
        """In the order of ``CODES``."""
        return tuple(
            Finding(code, severity, self._count[code], tuple(self._lines[code]), f"e.g. {self._example[code]}"[:300])
            for code, (severity, _) in CODES.items()
            if code in self._count
        )


class _Judged:
    """The mean share of judged documents among the first hits."""

    def __init__(self, qrels: Qrels) -> None:
        self._qrels = qrels
        self._sum, self._queries = 0.0, 0

    def add(self, query_id: str, doc_ids: Sequence[str]) -> None:
        if grades := self._qrels.get(query_id):
            first = doc_ids[:JUDGED_DEPTH]
            self._sum += sum(doc_id in grades for doc_id in first) / len(first)
            self._queries += 1

    @property
    def share(self) -> float | None:
        return self._sum / self._queries if self._queries else None


def _lines(path: Path, notes: _Notes) -> Iterator[tuple[int, str]]:
    """(number, text) of each line that can be read, without its line end."""
    number, line = 0, b"\n"
    try:
        file = open_run(path)
    except OSError as exc:
        raise RunFileError(f"{path} cannot be read: {exc.strerror or exc}") from exc
    with file:
        try:
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    notes.add("long-line", number, repr(line[:40]))
                    while line and not line.endswith(b"\n"):
                        line = file.readline(MAX_LINE_BYTES)
                    continue
                if number == 1 and line.startswith(codecs.BOM_UTF8):
                    notes.add("bom", 1, repr(line[:40]))
                    line = line.removeprefix(codecs.BOM_UTF8)
                end = line[-2:]
                if end == b"\r\n":
                    notes.add("crlf", number, repr(line[-20:]))
                elif not end.endswith(b"\n"):
                    notes.add("no-final-newline", number, repr(line[-40:]))
                try:
                    text = line.decode().rstrip("\r\n")
                except UnicodeDecodeError as exc:
                    notes.add("encoding", number, f"{exc.reason} at byte {exc.start}")
                    continue
                yield number, text
        except (OSError, EOFError, zlib.error) as exc:
            notes.add("unreadable", number, str(exc))
    notes.lines = number
    if not number:
        notes.add("empty", 0, str(path))


def _rows(path: Path, notes: _Notes) -> Iterator[_Row]:
    """The hits of lines with the right number of columns; everything about one line is noted here."""
    columns, tag = 0, None
    for number, text in _lines(path, notes):
        if not text.isascii() or not text.isprintable():
            _check_characters(number, text, notes)
        fields = _fields(text)
        columns = columns or (len(fields) if len(fields) in COLUMNS else 0)
        if len(fields) != columns or not columns:
            if not fields:
                notes.add("blank-line", number, "a line without text")
            elif len(tabbed := text.split("\t")) in COLUMNS and all(tabbed):
                notes.add("id-whitespace", number, repr(text[:80]))
            else:
                notes.add("columns", number, f"{len(fields)} columns in {text[:80]!r}")
            continue
        if columns == 3:
            if not RANK.fullmatch(fields[2]):  # it is the order, so nothing reads a file in which it is another
                notes.add("rank", number, f"{fields[2][:40]!r}")
                fields[2] = "nan"
            yield _Row(number, fields[0], fields[1], float(fields[2]), None)
            continue
        query_id, q0, doc_id, rank, score, found = fields
        if q0 != "Q0":
            notes.add("q0", number, f"{q0!r}")
        if tag is None:
            tag = found
        elif found != tag:
            notes.add("mixed-tags", number, f"{found!r} after {tag!r}")
        yield _Row(number, query_id, doc_id, _rank(rank, number, notes), _score(score, number, notes))


def _fields(text: str) -> list[str]:
    """Columns as C programs see them: only ASCII white space divides."""
    if text.isascii() and text.isprintable():
        return text.split()
    return [part for part in _ASCII_SPACE.split(text) if part]


def _check_characters(number: int, text: str, notes: _Notes) -> None:
    if found := _ODD.search(text):
        notes.add("odd-character", number, f"{found[0]!r} in {text[:80]!r}")


def _rank(text: str, number: int, notes: _Notes) -> float:
    if not _WHOLE.fullmatch(text):
        notes.add("rank", number, f"{text[:40]!r}")
        return math.nan
    rank = int(text)
    if rank < 0:
        notes.add("negative-rank", number, text)
    return rank


def _score(text: str, number: int, notes: _Notes) -> float:
    if _NUMBER.fullmatch(text):
        score = float(text)
        if abs(score) > _LARGEST:
            notes.add("float32-range", number, text[:40])
        return score
    code = "nan" if _NAN.fullmatch(text) else "infinite" if _INFINITE.fullmatch(text) else "score"
    notes.add(code, number, f"{text[:40]!r}")
    return math.nan


def _blocks(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    """Neighbours with one query_id."""
    block: list[_Row] = []
    for row in rows:
        if block and row.query_id != block[0].query_id:
            yield block
            block = []
        block.append(row)
    if block:
        yield block


def _check_documents(block: list[_Row], notes: _Notes) -> None:
    if len({row.doc_id for row in block}) == len(block):
        return
    seen: set[str] = set()
    for row in block:
        if row.doc_id in seen:
            notes.add("duplicate", row.number, f"document {row.doc_id!r} for query {row.query_id!r}")
        seen.add(row.doc_id)


def _check_ranks(block: list[_Row], notes: _Notes) -> None:
    for wanted, row in enumerate(block, start=1):
        if row.rank != wanted and row.rank >= 0:  # what is no rank is noted elsewhere
            notes.add("rank-sequence", row.number, f"rank {row.rank:g} of query {row.query_id!r}, wanted {wanted}")
            return


def _check_scores(block: list[_Row], notes: _Notes) -> None:
    """Order and ties, among the lines whose score is a number."""
    rows = [row for row in block if row.score is not None and not math.isnan(row.score)]
    scores = [row.score for row in rows if row.score is not None]
    singles = as_singles(scores)
    for (before, after), (double, next_double), (single, next_single) in zip(
        pairwise(rows), pairwise(scores), pairwise(singles), strict=True
    ):
        if next_single < single:
            continue
        said = f"{next_double!r} after {double!r} for query {after.query_id!r}"
        if next_double > double:
            notes.add("scores-increase", after.number, said)
        elif next_double == double:
            notes.add("ties", after.number, said)
        if next_double != double and next_single == single:
            notes.add("float32-ties", after.number, said)
        if next_single == single and after.doc_id > before.doc_id:
            notes.add("tie-order", after.number, f"{after.doc_id!r} after {before.doc_id!r}, both {double!r}")
    _check_rank_order(rows, singles, notes)


def _check_rank_order(rows: list[_Row], singles: list[float], notes: _Notes) -> None:
    """The rank column against the scores: a better rank must not have a smaller score."""
    if all(a.rank < b.rank and x >= y for (a, b), (x, y) in zip(pairwise(rows), pairwise(singles), strict=True)):
        return
    ranked = sorted(
        (row.rank, -single, row.number, row.query_id)
        for row, single in zip(rows, singles, strict=True)
        if row.rank >= 0
    )
    for (rank, score, _, _), (next_rank, next_score, number, query_id) in pairwise(ranked):
        if rank < next_rank and next_score < score:
            said = f"query {query_id!r}: rank {next_rank:g} has a better score than rank {rank:g}"
            notes.add("rank-order", number, said)
