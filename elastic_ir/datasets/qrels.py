"""Relevance judgments on disk."""

from __future__ import annotations

import re
from pathlib import Path

from elastic_ir.datasets.lines import Line, read_lines
from elastic_ir.errors import DatasetError
from elastic_ir.records import Qrels

QRELS_COLUMNS = {3: (0, 1, 2), 4: (0, 2, 3)}
"""Number of columns -> where query id, document id and grade are: BEIR's three, or TREC's four."""

_HEADER = ("query-id", "query_id", "queryid", "query", "qid")
_GRADE = re.compile(r"[+-]?[0-9]{1,9}")


def read_qrels(path: Path | str) -> Qrels:
    """The judgments of a file, gzipped where its name ends in ``.gz``.

    A line has BEIR's three columns or TREC's four, between tabs or any white space; BEIR's header may stand
    first; the same judgment may come again.

    Raises:
        DatasetError: if the file cannot be read, has no judgments, or a line is bad: other columns, a grade
            that is not a whole number, an unusable id, or two grades for one pair. It names file and line.
    """
    qrels: Qrels = {}
    for number, line in enumerate(read_lines(Path(path))):
        fields = _fields(line.text.strip())
        if number or fields[0].lower() not in _HEADER or _GRADE.fullmatch(fields[-1]):
            query_id, doc_id, grade = _judgment(line, fields)
            if qrels.setdefault(query_id, {}).setdefault(doc_id, grade) != grade:
                line.fail(
                    f"query {query_id!r}, document {doc_id!r} is judged {grade} and before {qrels[query_id][doc_id]}"
                )
    if not qrels:
        raise DatasetError(f"{path} has no judgments; wanted at least one")
    return qrels


def _fields(text: str) -> list[str]:
    """Columns between tabs, so that a space in an id is seen; between white space where tabs do not make a row."""
    fields = [field.strip() for field in text.split("\t")]
    return fields if len(fields) in QRELS_COLUMNS else text.split()


def _judgment(line: Line, fields: list[str]) -> tuple[str, str, int]:
    if len(fields) not in QRELS_COLUMNS:
        line.fail(f"found {len(fields)} columns; wanted query id, document id, grade (or TREC's four)")
    query_id, doc_id, grade = (fields[column] for column in QRELS_COLUMNS[len(fields)])
    if not _GRADE.fullmatch(grade):
        line.fail(f"grade {grade[:80]!r} cannot be read; wanted a whole number")
    return line.usable_id(query_id, "query id"), line.usable_id(doc_id, "document id"), int(grade)
