"""Runs on disk."""

from __future__ import annotations

import codecs
import gzip
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from sys import intern
from typing import IO, cast

import numpy as np

from elastic_ir.errors import InputError, RunFileError, nearest
from elastic_ir.evaluate.files import replacing
from elastic_ir.records import Ranking, Run, in_run_order

MAX_LINE_BYTES = 65_536
COLUMNS = {6: "query_id Q0 doc_id rank score tag", 3: "query_id doc_id rank"}
"""Number of columns of a run -> what they hold."""

RANK = re.compile(r"[1-9]\d{0,8}")
_WORD, _BETWEEN = re.compile(r"[^\s\0\ud800-\udfff]+"), re.compile(r"[\s\0\ud800-\udfff]+")
_LARGEST = float(np.finfo(np.float32).max)
_BELOW_NORMAL = 0x007FFFFF  # bits of the largest denormal float32
_TOP_STEP = 0x7F7FFFFF - _BELOW_NORMAL


def write_run(rankings: Iterable[Ranking], path: Path | str, tag: str, form: str = "trec") -> None:
    """Write a run whose order survives trec_eval; whole or not at all; gzipped where the name ends in ``.gz``.

    trec_eval ignores ranks and line order: it sorts by score, kept as float32, and ties by doc_id
    descending. So scores are printed as float32, and one that is not below the score before it is
    lowered by the least step that makes it so. A query without hits writes no line.

    Args:
        rankings: one for each query.
        path: its folder is made when missing.
        tag: sixth column.
        form: a name of ``FORMS``.

    Raises:
        RunFileError: on an id or tag that is empty or has whitespace, a score that is not finite, a
            query_id met twice, a doc_id twice in one query, an unknown form, or a path that cannot be written.
    """
    path = Path(path)
    lines = run_form(form)
    checked_word(tag, "tag", str(path))
    seen: set[str] = set()
    with replacing(path) as file:
        for ranking in rankings:
            query_id = ranking.query.query_id
            if query_id in seen:
                raise RunFileError(f"{path}: query {query_id!r} comes twice; wanted one ranking for each query")
            seen.add(query_id)
            file.writelines(lines(ranking, tag, str(path)))


def trec_lines(ranking: Ranking, tag: str, where: str) -> Iterator[str]:
    """``query_id Q0 doc_id rank score tag``; ``where`` begins the message of an error."""
    query_id = _checked(ranking, where)
    scores = strictly_falling([hit.score for hit in ranking.hits])
    for rank, (hit, score) in enumerate(zip(ranking.hits, scores, strict=True), start=1):
        yield f"{query_id} Q0 {hit.doc_id} {rank} {score:.9g} {tag}\n"


def msmarco_lines(ranking: Ranking, tag: str, where: str) -> Iterator[str]:
    """``query_id``, tab, ``doc_id``, tab, ``rank``: what MS MARCO's own evaluation reads; it has no tag."""
    query_id = _checked(ranking, where)
    for rank, hit in enumerate(ranking.hits, start=1):
        yield f"{query_id}\t{hit.doc_id}\t{rank}\n"


FORMS: dict[str, Callable[[Ranking, str, str], Iterator[str]]] = {
    "trec": trec_lines,
    "msmarco": msmarco_lines,
}
"""Form of a run file -> what makes its lines of a ranking, the tag and the words that begin an error."""


def run_form(name: str) -> Callable[[Ranking, str, str], Iterator[str]]:
    """The entry of ``FORMS``.

    Raises:
        RunFileError: if there is none; it lists them.
    """
    if name not in FORMS:
        raise RunFileError(f"unknown run format {name!r}{nearest(name, FORMS)}")
    return FORMS[name]


def strictly_falling(scores: Sequence[float]) -> list[float]:
    """The nearest float32 values, each below the one before it; finite ``scores`` in ranking order.

    Works on float32 values numbered from below (step 0 is zero, denormals are left out, since some
    processes flush them), where "strictly below" is "at least one step less".
    """
    singles = np.clip(np.asarray(scores, dtype=np.float64), -_LARGEST, _LARGEST).astype(np.float32)
    magnitude = (singles.view(np.int32) & 0x7FFFFFFF).astype(np.int64)
    step = np.sign(singles).astype(np.int64) * np.maximum(magnitude - _BELOW_NORMAL, 0)
    rank = np.arange(len(step))
    step = np.minimum.accumulate(step + rank) - rank
    step = np.maximum(step, rank[::-1] - _TOP_STEP)  # at the very bottom: room for those that follow
    bits = np.where(step == 0, 0, np.abs(step) + _BELOW_NORMAL).astype(np.int32)
    return cast("list[float]", np.copysign(bits.view(np.float32), step).tolist())


def as_singles(scores: Iterable[float]) -> list[float]:
    """``scores`` as trec_eval keeps them: the nearest C floats, among which there are more ties."""
    with np.errstate(over="ignore"):
        return cast("list[float]", np.asarray(list(scores), dtype=np.float64).astype(np.float32).tolist())


def trec_order(scores: Mapping[str, float], where: str) -> list[str]:
    """doc_ids in trec_eval's order: by score as a C float, descending, ties by doc_id descending.

    Raises:
        InputError: if a score is NaN; the message begins with ``where``.
    """
    singles = as_singles(scores.values())
    odd = next((doc_id for doc_id, score in zip(scores, singles, strict=True) if math.isnan(score)), None)
    if odd is not None:
        raise InputError(f"{where}: document {odd!r} has score NaN; wanted a number")
    return [doc_id for doc_id, _ in in_run_order(zip(scores, singles, strict=True))]


def read_run(path: Path | str) -> Run:
    """Read a run, gzipped where the name ends in ``.gz``: six TREC columns, or MS MARCO's three.

    Ranks and tags of TREC lines are ignored, as trec_eval does. A line of three columns (query_id, doc_id,
    rank) gets the score 1 / rank. Equal doc_ids of different queries share one string.

    Raises:
        RunFileError: with the line, if it is malformed, its score is not finite or its document comes
            twice; or if the file cannot be read.
    """
    run: Run = {}
    scores: dict[str, float] = {}
    current, columns = None, 0
    for number, line in numbered_lines(path):
        fields = line.split()
        if len(fields) != columns:
            columns = _columns(fields, columns, f"{path}, line {number}")
        query_id, doc_id = fields[0], intern(fields[2 if columns == 6 else 1])
        if query_id != current:
            current, scores = query_id, run.setdefault(query_id, {})
        if doc_id in scores:
            raise RunFileError(
                f"{path}, line {number}: document {doc_id!r} comes twice for query {query_id!r}; wanted each once"
            )
        scores[doc_id] = _score(fields, path, number)
    return run


def numbered_lines(path: Path | str) -> Iterator[tuple[int, str]]:
    """(number, text) of each line that is not blank, stripped."""
    number = 0
    try:
        with open_run(path) as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise RunFileError(f"{path}, line {number}: longer than {MAX_LINE_BYTES} bytes; is this a run?")
                if text := line.removeprefix(codecs.BOM_UTF8).decode().strip():
                    yield number, text
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as exc:
        where = f"{path}, line {number}" if number else str(path)
        raise RunFileError(f"{where} cannot be read: {exc}") from exc


def open_run(path: Path | str) -> IO[bytes]:
    """The bytes of a run, unpacked where the name ends in ``.gz``."""
    path = Path(path)
    return cast("IO[bytes]", gzip.open(path) if path.suffix == ".gz" else path.open("rb"))


def checked_word(text: str, kind: str, where: str) -> str:
    """``text``, if it can stand in a TREC file.

    Raises:
        RunFileError: if it is empty or has whitespace, NUL or half a surrogate pair.
    """
    if not _WORD.fullmatch(text):
        raise RunFileError(f"{where}: {kind} {text!r} cannot stand in a TREC file; wanted one word without whitespace")
    return text


def tag_of(path: Path) -> str:
    """The tag of a run that is given none: its file's name without ``.trec`` and ``.gz``, as one word."""
    return _BETWEEN.sub("-", path.name.removesuffix(".gz").removesuffix(".trec")) or "run"


def _checked(ranking: Ranking, where: str) -> str:
    """The query_id of a ranking that can be written."""
    query_id = checked_word(ranking.query.query_id, "query_id", where)
    where = f"{where}: query {query_id!r}"
    documents: set[str] = set()
    for hit in ranking.hits:
        doc_id = checked_word(hit.doc_id, "doc_id", where)
        if doc_id in documents:
            raise RunFileError(f"{where}: document {doc_id!r} comes twice; wanted each once")
        if not math.isfinite(hit.score):
            raise RunFileError(f"{where}: document {doc_id!r} has score {hit.score}; wanted a finite number")
        documents.add(doc_id)
    return query_id


def _columns(fields: list[str], before: int, where: str) -> int:
    """The number of columns of a file, by its first line; an error where a later line has another."""
    if before or len(fields) not in COLUMNS:
        wanted = f"{before}: {COLUMNS[before]}" if before else f"6: {COLUMNS[6]}, or 3: {COLUMNS[3]}"
        raise RunFileError(f"{where}: found {len(fields)} fields, wanted {wanted}")
    return len(fields)


def _score(fields: list[str], path: Path | str, number: int) -> float:
    if len(fields) == 3:
        if not RANK.fullmatch(fields[2]):
            raise RunFileError(f"{path}, line {number}: rank {fields[2]!r}; wanted a whole number from 1")
        return 1 / int(fields[2])
    try:
        score = float(fields[4])
    except ValueError:
        score = math.nan
    if not math.isfinite(score) or "_" in fields[4]:
        raise RunFileError(f"{path}, line {number}: score {fields[4]!r}; wanted a finite number")
    return score
