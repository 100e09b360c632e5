"""Batch runs: a pipeline's answers to many queries as a TREC run and the record of how it was made."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from elastic_ir.errors import InputError
from elastic_ir.evaluate import write_metadata, write_run
from elastic_ir.level import Level
from elastic_ir.pipeline import Hits, Pipeline
from elastic_ir.progress import track
from elastic_ir.records import Query, Ranking
from elastic_ir.version import __version__


def write(
    pipeline: Pipeline,
    queries: Sequence[Query],
    output: Path,
    *,
    tag: str,
    k: int = 1000,
    level: Level | str | None = None,
    progress: bool | None = None,
) -> dict[str, Any]:
    """Search ``queries`` and write ``output`` and its sidecar ``<output>.meta.json``.

    Args:
        pipeline: what searches.
        queries: at least one.
        output: TREC run; appears whole or not at all.
        tag: sixth column.
        k: hits of each query.
        level: operating point for all; None means the idle level.
        progress: show a bar; None on a terminal only.

    Returns:
        The metadata written.

    Raises:
        InputError: if there are no queries, or one cannot be searched; nothing is written then.
    """
    if not queries:
        raise InputError("there are no queries; wanted at least one")
    answers: list[Hits] = []

    def rankings() -> Iterator[Ranking]:
        for hits in track(pipeline.run(queries, k, level), "searching", len(queries), _hidden(progress)):
            answers.append(hits)
            yield Ranking(hits.query, tuple(hits))

    write_run(rankings(), output, tag)
    metadata = _metadata(pipeline, answers, tag, k)
    write_metadata(output, metadata)
    return metadata


def _hidden(progress: bool | None) -> bool | None:
    return None if progress is None else not progress


def _metadata(pipeline: Pipeline, answers: Sequence[Hits], tag: str, k: int) -> dict[str, Any]:
    stages = {name for hits in answers for name in hits.stage_ms}
    degraded = Counter(reason for hits in answers if hits.degraded for reason in hits.degraded.reasons)
    return {
        "tag": tag,
        "queries": len(answers),
        "without_hits": sum(not len(hits) for hits in answers),
        "hits": k,
        "rerank_depth": max((hits.level.rerank.candidates for hits in answers if hits.level.rerank), default=0),
        "pipeline": pipeline.to_config(),
        "models": pipeline.models,
        "generation": pipeline.generation,
        "corpus_sha256": pipeline.corpus_sha256,
        "levels": {hits.query.query_id: str(hits.level) for hits in answers},
        "flops": {str(level): pipeline.flops(level) for level in sorted({hits.level for hits in answers}, key=str)},
        "degraded": dict(degraded),
        "latency_ms": {"mean": float(np.mean([hits.latency_ms for hits in answers]))},
        "stage_ms": {
            name: float(np.mean([hits.stage_ms.get(name, 0.0) for hits in answers])) for name in sorted(stages)
        },
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "python": platform.python_version(),
        },
        "elastic_ir": __version__,
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("torch", "faiss-cpu", "pyserini", "ranx", "transformers", "numpy"):
        with suppress(PackageNotFoundError):  # e.g. faiss-gpu in place of faiss-cpu
            found[name] = version(name)
    return found
