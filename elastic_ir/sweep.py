"""The ladder of a pipeline: quality of a grid of levels, times of the best, and what is worth serving for an SLO."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from elastic_ir.answer import as_asked
from elastic_ir.datasets import Dataset
from elastic_ir.errors import ConfigError, DatasetError
from elastic_ir.evaluate import Evaluation, Section, evaluate
from elastic_ir.evaluate.operating import Point, front
from elastic_ir.grid import CANDIDATES, SweepJournal, depends_on, runs_of_grid
from elastic_ir.level import Level, RerankLevel
from elastic_ir.machine import cores, machine
from elastic_ir.pipeline import Pipeline
from elastic_ir.profile import BATCHES, HITS, UNMEASURED, measure, micro_batch, monotone
from elastic_ir.records import Query
from elastic_ir.schedule.ladder import check_slo
from elastic_ir.schedule.ladderfile import LadderFile, LadderLevel

MEASURE = "ndcg@10"
MARGIN = 0.01
MOST_LEVELS = 8
SHARE_OF_SLO = 0.5
"""A level whose single query takes more than this share of the SLO leaves no room to wait."""


class Served(NamedTuple):
    """The collection that will be served, where it is not the one with judgements: levels are timed over its index."""

    pipeline: Pipeline
    dataset: Dataset


class Sweep(NamedTuple):
    """What a sweep found.

    Attributes:
        file: the ladder.
        section: every level measured as a run, with figures and times, for a report.
        points: the same as operating points.
        reference: the level that the others are compared with: all candidates, to the end.
        not_inferior: the cheapest level timed that is no worse than the reference by more than ``MARGIN``
            (one-sided paired test, 5%), or None where none but the reference itself is.
    """

    file: LadderFile
    section: Section
    points: list[Point]
    reference: Level
    not_inferior: Level | None

    @property
    def evaluation(self) -> Evaluation:
        """Figures of all levels of the grid."""
        return self.section.evaluation


def sweep(
    pipeline: Pipeline,
    dataset: Dataset,
    *,
    served: Served | None = None,
    slo_ms: float = 250.0,
    queries: int = 200,
    seconds: float = 200.0,
    seed: int = 0,
    progress: bool | None = None,
    journal: Path | None = None,
) -> Sweep:
    """Find the ladder of ``pipeline`` for ``slo_ms`` and the torch threads of this process.

    Every query subnet retrieves once, and every sub-network of the ranker scores each candidate once; the grid of
    levels follows from that. Levels on the front of quality and FLOPs are timed.

    Args:
        pipeline: opened on the index of ``dataset``.
        dataset: queries and judgements, of a train or dev split.
        served: where levels are timed; None: where they are judged.
        slo_ms: milliseconds within which answers are due.
        queries: judged queries drawn.
        seconds: to spend on timing.
        seed: of the draw.
        progress: show bars; None on a terminal only.
        journal: file of the queries scored so far, with which a killed sweep goes on; to be removed once the ladder
            is on disk.

    Raises:
        DatasetError: if no query is judged, or what is served has none. ConfigError: for an SLO that is none, or if no
            level is fast enough.
    """
    check_slo(slo_ms / 1000)
    qrels = dataset.qrels()
    judged = sorted(query for query in dataset.queries() if qrels.get(query.query_id))
    if not judged:
        raise DatasetError(f"{dataset.name} has no judged query; wanted a split with judgements")
    drawn = _sample(judged, queries, seed)
    timed_on = served.pipeline if served else pipeline
    asked = _sample(sorted(served.dataset.queries()), queries, seed) if served else drawn
    if served and not asked:
        raise DatasetError(f"{served.dataset.name} has no query; wanted some to time levels with")
    reference = _reference(pipeline)
    _check_slo(timed_on, asked, slo_ms)
    single = _single(timed_on, [reference], asked)
    most_flops = slo_ms * timed_on.flops(reference) / single[reference]  # smaller sub-networks make less of a second
    with _all_cores():
        kept = None if journal is None else SweepJournal(journal, depends_on(pipeline, timed_on, slo_ms))
        runs = dict(runs_of_grid(pipeline, drawn, progress, lambda level: timed_on.flops(level) <= most_flops, kept))
    judgements = {query.query_id: qrels[query.query_id] for query in drawn}
    named = {str(level): run for level, run in runs.items()}
    evaluation = evaluate(judgements, named, (MEASURE,), permutations=100, margin=MARGIN, seed=seed)
    quality = {level: evaluation.means[str(level)][MEASURE] for level in runs}
    priced = [Point(str(level), quality[level], level, None, timed_on.flops(level)) for level in runs]
    best = [point.level for point in front(priced, lambda point: point.flops) if point.level is not None]
    single |= _single(timed_on, [level for level in best if level != reference], asked)
    timed = [level for level in reversed(best) if single[level] <= slo_ms] or [min(best, key=lambda x: single[x])]
    timed = _spread(timed, [quality[level] for level in timed], 2 * MOST_LEVELS)
    profile = measure(timed_on, timed, asked, batches=BATCHES, seconds=seconds, seed=seed, progress=progress)
    times = {level: profile.times(level) for level in timed}
    single |= {level: p50[0] for level, (p50, _) in times.items()}
    points = [point._replace(latency_ms=single[point.level]) for point in priced if point.level in single]
    metadata = {
        point.run: {
            "levels": {query.query_id: point.run for query in drawn},
            "flops": {point.run: point.flops},
            "latency_ms": {"mean": point.latency_ms},
        }
        for point in points
    }
    texts = {query.query_id: query.text for query in drawn}
    section = Section(f"{dataset.name}: {len(drawn)} queries", evaluation, texts, metadata)
    good = [p for p in points if p.level is not None and _not_inferior(evaluation, p.level, reference)]
    fastest = min(good, key=lambda point: point.latency_ms or 0.0)
    cheapest = None if fastest.level == reference else fastest
    file = LadderFile(
        slo_ms=slo_ms, threads=torch.get_num_threads(), dataset=dataset.name, machine=machine(), models=pipeline.models,
        levels=tuple(_levels(times, quality, evaluation, slo_ms)),
        notes=_notes(evaluation, reference, single[reference], cheapest)
        | ({"timed_on": served.dataset.name} if served else {}),
    )  # fmt: skip
    file.ladder()
    return Sweep(file, section, points, reference, None if cheapest is None else cheapest.level)


def _sample(queries: Sequence[Query], most: int, seed: int) -> list[Query]:
    return Random(seed).sample(queries, min(most, len(queries)))


@contextmanager
def _all_cores() -> Iterator[None]:
    """Torch with all of this process's cores, where times do not matter."""
    before = torch.get_num_threads()
    torch.set_num_threads(cores())
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_slo(pipeline: Pipeline, queries: Sequence[Query], slo_ms: float) -> None:
    """Refuse an SLO that no level can meet, before hours of scoring."""
    cheapest = [Level("bm25")] if "bm25" in pipeline.parts.retrievers else []
    if pipeline.parts.denser is not None:
        smallest = pipeline.parts.denser.config.smallest
        cheapest += [Level(retriever, smallest) for retriever in pipeline.parts.retrievers - {"bm25"}]
    if cheapest:
        _check_fastest(min(_single(pipeline, cheapest, queries).values()), slo_ms)


def _check_fastest(quickest: float, slo_ms: float) -> None:
    if quickest > SHARE_OF_SLO * slo_ms:
        raise ConfigError(
            f"no level answers within half the SLO of {slo_ms:.0f} ms; the fastest takes {quickest:.0f} ms: "
            "raise the SLO, or use smaller models or fewer candidates"
        )


def _single(pipeline: Pipeline, levels: Iterable[Level], queries: Sequence[Query]) -> dict[Level, float]:
    """Milliseconds of one query at each level, roughly: the median of three after one that does not count."""
    found = {}
    for level in levels:
        took = []
        for query in [queries[i % len(queries)] for i in range(4)]:
            begun = time.perf_counter()
            list(as_asked(pipeline.run([query], HITS, level, batch=1), UNMEASURED))
            took.append(1000 * (time.perf_counter() - begun))
        found[level] = sorted(took[1:])[1]
    return found


def _reference(pipeline: Pipeline) -> Level:
    """The dearest level: the configured retriever, the full query encoder, and all candidates to the end."""
    parts, settings = pipeline.parts, pipeline.config.reranker
    if parts.denser is None and "bm25" not in parts.retrievers:
        raise ConfigError("no retriever of this pipeline can be swept: its model is missing, and it has no BM25 side")
    level = Level("bm25")
    if parts.denser is not None:
        level = Level(pipeline.config.retriever, parts.denser.config.full)
    if parts.ranker is None or settings is None:
        return level
    return level._replace(rerank=RerankLevel(1.0, min(pipeline.config.candidates, CANDIDATES[-1]), 1.0))


def _not_inferior(evaluation: Evaluation, level: Level, reference: Level) -> bool:
    if level == reference:
        return True
    comparison = evaluation.comparison(str(level), MEASURE)
    return comparison is not None and comparison.p_noninferior < 0.05


def _levels(
    times: Mapping[Level, tuple[list[float], list[float]]],
    quality: Mapping[Level, float],
    evaluation: Evaluation,
    slo_ms: float,
) -> Iterator[LadderLevel]:
    """The levels worth serving: fast enough, none dominated or worse than BM25, ``MOST_LEVELS`` at most, dearest first.

    Times are of batches up to the one that is worth while.
    """
    _check_fastest(min(p95[0] for _, p95 in times.values()), slo_ms)
    least = quality.get(Level("bm25"), 0.0)
    fast = {level: p95[0] for level, (_, p95) in times.items() if p95[0] <= SHARE_OF_SLO * slo_ms}
    fast = {level: ms for level, ms in fast.items() if quality[level] >= least} or fast
    kept: list[Level] = []
    for level in sorted(fast, key=lambda level: (fast[level], -quality[level])):
        if not kept or quality[level] > quality[kept[-1]]:
            kept.append(level)
    dearest_first = _spread(kept[::-1], [quality[level] for level in kept[::-1]], MOST_LEVELS)
    batch = micro_batch(times[level][0] for level in dearest_first)
    p50, p95 = (monotone(_table(times, dearest_first, column)[:, :batch]) for column in (0, 1))
    for level, typical, slow in zip(dearest_first, p50, np.maximum(p50, p95), strict=True):
        low, high = evaluation.intervals[str(level)][MEASURE]
        yield LadderLevel(
            level=str(level), quality=quality[level], interval=(low, high),
            p50_ms=tuple(np.maximum.accumulate(typical).tolist()), p95_ms=tuple(np.maximum.accumulate(slow).tolist()),
        )  # fmt: skip


def _table(
    times: Mapping[Level, tuple[list[float], list[float]]], levels: Sequence[Level], column: int
) -> NDArray[np.float64]:
    return np.array([times[level][column] for level in levels])


def _spread(levels: list[Level], qualities: list[float], most: int) -> list[Level]:
    """At most ``most`` of ``levels``, first and last among them, with the largest steps of quality."""
    kept = list(range(len(levels)))
    while len(kept) > most:
        steps = [qualities[kept[i - 1]] - qualities[kept[i + 1]] for i in range(1, len(kept) - 1)]
        del kept[1 + int(np.argmin(steps))]
    return [levels[i] for i in kept]


def _notes(evaluation: Evaluation, reference: Level, ms: float, not_inferior: Point | None) -> dict[str, object]:
    low, high = evaluation.intervals[str(reference)][MEASURE]
    notes: dict[str, object] = {
        "reference": {"level": str(reference), MEASURE: evaluation.means[str(reference)][MEASURE],
                      "interval": [low, high], "ms": ms},
        "queries": evaluation.queries,
        "margin": MARGIN,
        "not_inferior": None if not_inferior is None else not_inferior.run,
    }  # fmt: skip
    return notes
