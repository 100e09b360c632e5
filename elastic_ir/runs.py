"""Batch runs: a pipeline's answers to many queries as a run on disk and the record of how it was made."""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch

from elastic_ir.answer import Hits, as_asked
from elastic_ir.errors import InputError, RunFileError
from elastic_ir.evaluate import write_metadata
from elastic_ir.evaluate.journal import RunJournal
from elastic_ir.evaluate.trec import checked_word, run_form
from elastic_ir.level import Level
from elastic_ir.machine import machine
from elastic_ir.pipeline import MAX_K, Pipeline, check_limits
from elastic_ir.progress import track
from elastic_ir.records import Hit, Query, Ranking
from elastic_ir.schedule.arrivals import arrivals
from elastic_ir.schedule.ladderfile import read_ladder
from elastic_ir.version import __version__

HITS_AT_ONCE = 32_768
"""Hits of the queries that share one pass, unless ``batch`` says otherwise: what bounds the memory of a run."""

MOST_AT_ONCE, MOST_RERANKED_AT_ONCE = 256, 32
"""Queries that share one pass at most, and with a reranker: what a killed process loses."""

_KEPT = (
    "the batches before are kept and the same command goes on behind them; "
    "--allow-degraded (allow_degraded) writes such answers too"
)


class Shape(NamedTuple):
    """What becomes of a query's hits before they are written.

    Attributes:
        remove_query: drop the document whose id is the query's, as BEIR's arguana and quora need it.
        max_passage: ids are ``document<delimiter>passage``: keep the best passage of each document, under
            the document's id (MaxP); the delimiter, or None for ids as they are.
        documents: kept at the end; None keeps as many as hits are asked for.

    Source: Dai and Callan, SIGIR 2019 (MaxP), in the form of pyserini's ``--max-passage``.
    """

    remove_query: bool = False
    max_passage: str | None = None
    documents: int | None = None

    def hits(self, hits: Iterable[Hit], query_id: str, k: int) -> tuple[Hit, ...]:
        """What is left of ``hits``, in the same order; at most ``documents``, or else ``k``."""
        if self.max_passage:
            best: dict[str, Hit] = {}
            for hit in hits:
                doc_id = hit.doc_id.split(self.max_passage)[0]
                best.setdefault(doc_id, hit._replace(doc_id=doc_id))
            hits = best.values()
        kept = (hit for hit in hits if not (self.remove_query and hit.doc_id == query_id))
        return tuple(islice(kept, self.documents or k))


def write(
    pipeline: Pipeline,
    queries: Iterable[Query],
    output: Path | str,
    *,
    tag: str,
    k: int = 1000,
    level: Level | str | None = None,
    ladder: Path | None = None,
    load: str | None = None,
    batch: int | None = None,
    form: str = "trec",
    shape: Shape | None = None,
    allow_degraded: bool = False,
    progress: bool | None = None,
) -> dict[str, Any]:
    """Search ``queries`` and write ``output`` and its sidecar ``<output>.meta.json``.

    Batches go to disk as they are answered (``evaluate.journal``), so memory holds one batch. When the
    process is killed, or a query fails, the same call continues behind the last batch on disk, and ends
    in the same bytes. The sidecar holds the level and latency of every query.

    Args:
        pipeline: what searches.
        queries: at least one; read a batch at a time.
        output: run file; appears whole or not at all, gzipped where its name ends in ``.gz``.
        tag: sixth column.
        k: hits of each query.
        level: operating point for all; None means the idle level.
        ladder: measured levels for ``load``; None means the pipeline's own.
        load: how the queries arrive, e.g. ``poisson:40``: each is answered at the level that our policy would take.
        batch: queries that share one pass; None chooses by the hits and the reranker.
        form: ``trec`` or ``msmarco``.
        shape: what becomes of the hits; None writes them as they are.
        allow_degraded: write what is left where a model or Java fails, too; the sidecar counts such answers.
        progress: show a bar; None on a terminal only.

    Returns:
        The metadata written.

    Raises:
        InputError: if there are no queries, or one cannot be searched; ``output`` stays as it was then.
        SubnetError: if the pipeline cannot run ``level``; ``output`` stays as it was then.
        RunFileError: if an id or the tag cannot stand in a run, a query_id comes twice, or nothing can be written.
        BackendError: if a part of the pipeline is down, unless ``allow_degraded``; ``output`` stays as it was then.
    """
    output = Path(output)
    check_options(output, tag=tag, k=k, level=level, ladder=ladder, load=load, batch=batch, form=form)
    shape, lines = shape or Shape(), run_form(form)
    wanted = pipeline.checked_level(level)
    levels: list[Level] = []
    if load is not None:
        queries = list(queries)
        wanted, levels = pipeline.levels_under(load, len(queries), ladder)
    asked = min(MAX_K, k + 1) if shape.remove_query else k
    size = batch_size(asked, wanted) if batch is None else batch
    about = {
        "tag": tag,
        "hits": k,
        "form": form,
        "batch": size,
        "threads": torch.get_num_threads(),
        **shape._asdict(),
        "allow_degraded": allow_degraded,
        "pipeline": pipeline.to_config(),
        "models": pipeline.models,
        "generation": pipeline.generation,
        "corpus_sha256": pipeline.corpus_sha256,
        "elastic_ir": __version__,
    }
    if load is not None:
        about["load"] = load
    seen: set[str] = set()
    plan = {"level": str(wanted), "levels": [str(level) for level in levels]} if levels else {"level": str(wanted)}
    pipeline.warm_up(wanted, *levels)
    with RunJournal(output, _digest(about | plan)) as journal:
        for chunk in _batches(_counted(queries, progress), size):
            spent = levels[len(seen) : len(seen) + len(chunk)] or [wanted] * len(chunk)
            _check_new(chunk, seen, output)
            digest = _digest(chunk)
            if not journal.resume(digest):
                answers = pipeline.answers(chunk, asked, wanted, spent)
                answers = answers if allow_degraded else list(as_asked(answers, _KEPT))
                kept = [Ranking(a.query, shape.hits(a, a.query.query_id, k)) for a in answers]
                text = "".join(line for ranking in kept for line in lines(ranking, tag, str(output)))
                journal.commit(digest, text, _note(answers, kept))
        if not seen:
            raise InputError("there are no queries; wanted at least one")
        metadata = about | _summary(journal.notes()) | _surroundings()
        metadata["flops"] = {level: pipeline.flops(level) for level in sorted(set(metadata["levels"].values()))}
        write_metadata(output, metadata)
        journal.finish()
    return metadata


def check_options(
    output: Path,
    *,
    tag: str,
    k: int = 1000,
    level: Level | str | None = None,
    ladder: Path | None = None,
    load: str | None = None,
    batch: int | None = None,
    form: str = "trec",
) -> None:
    """Refuse, before an index is opened or built, what ``write`` can do with no pipeline; arguments are as there.

    Raises:
        InputError: saying what was found, and what was wanted.
    """
    checked_word(tag, "tag", str(output))
    run_form(form)
    check_limits(k)
    if batch is not None and batch < 1:
        raise InputError(f"batch is {batch}; wanted at least 1 query")
    if isinstance(level, str):
        Level.parse(level)
    if load is not None:
        arrivals(load, 1)
    if ladder is not None:
        read_ladder(ladder)


def batch_size(k: int, level: Level) -> int:
    """Queries that share one pass: as many as keep ``HITS_AT_ONCE`` hits in memory."""
    most = MOST_AT_ONCE if level.rerank is None else MOST_RERANKED_AT_ONCE
    return max(1, min(most, HITS_AT_ONCE // max(k, 1)))


def use_threads(threads: int) -> None:
    """Let models and FAISS use this many threads; it holds for the whole process.

    Raises:
        InputError: if ``threads`` is less than 1.
    """
    import faiss

    if threads < 1:
        raise InputError(f"threads is {threads}; wanted at least 1")
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)


def _counted(queries: Iterable[Query], progress: bool | None) -> Iterator[Query]:
    total = len(queries) if isinstance(queries, Sized) else None
    return track(queries, "searching", total, None if progress is None else not progress)


def _batches(queries: Iterator[Query], size: int) -> Iterator[list[Query]]:
    while chunk := list(islice(queries, size)):
        yield chunk


def _check_new(chunk: Sequence[Query], seen: set[str], output: Path) -> None:
    for query in chunk:
        checked_word(query.query_id, "query_id", str(output))
        if query.query_id in seen:
            raise RunFileError(f"{output}: query {query.query_id!r} comes twice; wanted each once")
        seen.add(query.query_id)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode(errors="replace")).hexdigest()


def _note(answers: Sequence[Hits], kept: Sequence[Ranking]) -> dict[str, Any]:
    """What the sidecar will say of a batch."""
    stage_ms: Counter[str] = Counter()
    for hits in answers:
        stage_ms.update(hits.stage_ms)
    return {
        "answers": [
            [
                hits.query.query_id,
                str(hits.level),
                round(hits.latency_ms, 3),
                len(ranking.hits),
                list(hits.degraded.reasons) if hits.degraded else [],
            ]
            for hits, ranking in zip(answers, kept, strict=True)
        ],
        "stage_ms": dict(stage_ms),
    }


def _summary(notes: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """What the notes of all batches come to."""
    levels: dict[str, str] = {}
    queries_ms: dict[str, float] = {}
    names: dict[str, str] = {}
    degraded: Counter[str] = Counter()
    stage_ms: Counter[str] = Counter()
    without_hits = 0
    for note in notes:
        stage_ms.update(note["stage_ms"])
        for query_id, level, latency_ms, hits, reasons in note["answers"]:
            levels[query_id], queries_ms[query_id] = names.setdefault(level, level), latency_ms
            without_hits += not hits
            degraded.update(reasons)
    count = len(levels)
    plans = [plan for name in names if (plan := Level.parse(name).rerank)]
    return {
        "queries": count,
        "without_hits": without_hits,
        "rerank_depth": max((plan.candidates for plan in plans), default=0),
        "levels": levels,
        "queries_ms": queries_ms,
        "degraded": dict(degraded),
        "latency_ms": {"mean": sum(queries_ms.values()) / count},
        "stage_ms": {name: total / count for name, total in sorted(stage_ms.items())},
    }


def _surroundings() -> dict[str, Any]:
    """Machine and versions."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for name in ("torch", "faiss-cpu", "pyserini", "ranx", "transformers", "numpy"):
        with suppress(PackageNotFoundError):  # e.g. faiss-gpu in place of faiss-cpu
            versions[name] = version(name)
    about = machine() | {"system": platform.platform(), "python": platform.python_version()}
    return {"machine": about, "versions": versions}
