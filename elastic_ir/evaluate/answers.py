"""Retrieval for question answering: a passage is right when its text, not its title, holds an answer.

As DPR counts it (arXiv:2004.04906).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import regex

from elastic_ir.evaluate.trec import trec_order
from elastic_ir.records import Qrels, Run

ANSWER_MEASURES = ("hit_rate@1", "hit_rate@5", "hit_rate@20", "hit_rate@100")
"""Top-k accuracy, of judgments that ``answer_qrels`` makes."""
DEPTH = 100

_TOKEN = regex.compile(r"[\p{L}\p{N}\p{M}]+|[^\p{Z}\p{C}]")
_BETWEEN = "\0"


def normalised(text: str) -> str:
    """The tokens of ``text`` as DPR cuts and compares them: NFD, words and single signs, lower case."""
    tokens = _TOKEN.findall(unicodedata.normalize("NFD", text))
    return _BETWEEN + "".join(token.lower() + _BETWEEN for token in tokens)


def wanted_documents(runs: Iterable[Run], queries: Iterable[str], depth: int = DEPTH) -> set[str]:
    """doc_ids among the first ``depth`` of any run, of ``queries``."""
    asked = set(queries)
    return {doc_id for run in runs for query_id in asked & run.keys() for doc_id in _first(run, query_id, depth)}


def answer_qrels(
    answers: Mapping[str, Sequence[str]], texts: Mapping[str, str], runs: Iterable[Run], depth: int = DEPTH
) -> Qrels:
    """Judgments by answer: 1 for a document that holds one, 0 for others, of the first ``depth`` of each run.

    Args:
        answers: query_id -> strings, any of which answers it.
        texts: doc_id -> text, of ``wanted_documents``; one that is missing holds none.
        runs: those to be judged.
        depth: how far they are judged; deeper cutoffs mean nothing.
    """
    qrels: Qrels = {query_id: {} for query_id in answers}
    patterns = {query_id: [n for n in map(normalised, found) if len(n) > 1] for query_id, found in answers.items()}
    read = {doc_id: normalised(text) for doc_id, text in texts.items()}
    for run in runs:
        for query_id, wanted in patterns.items():
            judged = qrels[query_id]
            for doc_id in _first(run, query_id, depth):
                if doc_id not in judged:
                    text = read.get(doc_id, "")
                    judged[doc_id] = int(any(pattern in text for pattern in wanted))
    return {query_id: judged or {"-": 0} for query_id, judged in qrels.items()}


def _first(run: Run, query_id: str, depth: int) -> list[str]:
    return trec_order(run.get(query_id, {}), f"query {query_id!r}")[:depth]
