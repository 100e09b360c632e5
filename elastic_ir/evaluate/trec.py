"""TREC runs on disk."""

from __future__ import annotations

import codecs
import gzip
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, cast

import numpy as np

from elastic_ir.errors import RunFileError
from elastic_ir.evaluate.files import replacing
from elastic_ir.records import Ranking, Run

MAX_LINE_BYTES = 65_536
_WORD = re.compile(r"[^\s\0\ud800-\udfff]+")
_LARGEST = float(np.finfo(np.float32).max)
_BELOW_NORMAL = 0x007FFFFF  # bits of the largest denormal float32
_TOP_STEP = 0x7F7FFFFF - _BELOW_NORMAL


def write_run(rankings: Iterable[Ranking], path: Path, tag: str) -> None:
    """Write a six-column TREC run whose order survives trec_eval; whole or not at all.

    trec_eval ignores ranks and line order: it sorts by score, kept as float32, and ties by doc_id
    descending. So scores are printed as float32, and one that is not below the score before it is
    lowered by the least step that makes it so. A query without hits writes no line.

    Raises:
        RunFileError: on an id or tag that is empty or has whitespace, a score that is not finite, a
            query_id met twice, a doc_id twice in one query, or a path that cannot be written.
    """
    if path.suffix == ".gz":
        raise RunFileError(f"{path}: runs are written plain; wanted a name without .gz")
    _checked(tag, "tag", str(path))
    seen: set[str] = set()
    with replacing(path) as file:
        for query, hits, _ in rankings:
            query_id = _checked(query.query_id, "query_id", str(path))
            where = f"{path}: query {query_id!r}"
            if query_id in seen:
                raise RunFileError(f"{where} comes twice; wanted one ranking for each query")
            seen.add(query_id)
            documents: set[str] = set()
            for hit in hits:
                doc_id = _checked(hit.doc_id, "doc_id", where)
                if doc_id in documents:
                    raise RunFileError(f"{where}: document {doc_id!r} comes twice; wanted each once")
                if not math.isfinite(hit.score):
                    raise RunFileError(f"{where}: document {doc_id!r} has score {hit.score}; wanted a finite number")
                documents.add(doc_id)
            scores = strictly_falling([hit.score for hit in hits])
            for rank, (hit, score) in enumerate(zip(hits, scores, strict=True), start=1):
                file.write(f"{query_id} Q0 {hit.doc_id} {rank} {score:.9g} {tag}\n")


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


def read_run(path: Path) -> Run:
    """Read a six-column TREC run, gzipped where the name ends in ``.gz``; ranks and tags are ignored.

    Raises:
        RunFileError: with the line, if it is malformed, its score is not finite or its document comes
            twice; or if the file cannot be read.
    """
    run: Run = {}
    for where, line in _lines(path):
        match line.split():
            case [query_id, _, doc_id, _, number, _]:
                scores = run.setdefault(query_id, {})
                if doc_id in scores:
                    raise RunFileError(
                        f"{where}: document {doc_id!r} comes twice for query {query_id!r}; wanted each once"
                    )
                scores[doc_id] = _score(number, where)
            case fields:
                wanted = "wanted 6: query_id Q0 doc_id rank score tag"
                raise RunFileError(f"{where}: found {len(fields)} fields, {wanted}")
    return run


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """("path, line 3", text) for each line that is not blank."""
    where = str(path)
    try:
        with cast("IO[bytes]", gzip.open(path) if path.suffix == ".gz" else path.open("rb")) as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                where = f"{path}, line {number}"
                if len(line) > MAX_LINE_BYTES:
                    raise RunFileError(f"{where}: longer than {MAX_LINE_BYTES} bytes; is this a run?")
                if text := line.removeprefix(codecs.BOM_UTF8).decode().strip():
                    yield where, text
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as exc:
        raise RunFileError(f"{where} cannot be read: {exc}") from exc


def _checked(text: str, kind: str, where: str) -> str:
    if not _WORD.fullmatch(text):
        raise RunFileError(f"{where}: {kind} {text!r} cannot stand in a TREC file; wanted one word without whitespace")
    return text


def _score(text: str, where: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score) or "_" in text:
        raise RunFileError(f"{where}: score {text!r}; wanted a finite number")
    return score
