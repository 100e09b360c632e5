"""The ladder of a pipeline: quality of a grid of levels, times of the best, and what is worth serving for an SLO."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from elastic_ir.datasets import Dataset
from elastic_ir.errors import ConfigError, DatasetError
from elastic_ir.evaluate import Evaluation, Section, evaluate
from elastic_ir.evaluate.operating import Point, front
from elastic_ir.level import Level, RerankLevel
from elastic_ir.machine import cores, machine
from elastic_ir.pipeline import Pipeline
from elastic_ir.profile import BATCHES, HITS, as_asked, measure, micro_batch, monotone, settings_of
from elastic_ir.progress import track
from elastic_ir.records import Hit, Query
from elastic_ir.rerank import ElasticRanker, Plan, Step, replay
from elastic_ir.rerank.stage import prior
from elastic_ir.schedule.ladderfile import LadderFile, LadderLevel
from elastic_ir.subnet import Subnet

logger = logging.getLogger(__name__)

MEASURE = "ndcg@10"
CANDIDATES = (5, 10, 20, 30, 50, 100)
BUDGETS = (1.0, 0.5, 0.25, 0.1)
MARGIN = 0.01
MOST_LEVELS = 8
SHARE_OF_SLO = 0.5
"""A level whose single query takes more than this share of the SLO leaves no room to wait."""

Lists = dict[str, list[Hit]]
Scores = dict[Subnet, dict[str, float]]
"""Sub-network -> doc_id -> raw score."""


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
        slo_ms: milliseconds within which answers are due.
        queries: judged queries drawn.
        seconds: to spend on timing.
        seed: of the draw.
        progress: show bars; None on a terminal only.
        journal: file of the queries scored so far, with which a killed sweep goes on; removed at the end.

    Raises:
        DatasetError: if no query is judged. ConfigError: if no level is fast enough.
    """
    qrels = dataset.qrels()
    judged = sorted(query for query in dataset.queries() if qrels.get(query.query_id))
    if not judged:
        raise DatasetError(f"{dataset.name} has no judged query; wanted a split with judgements")
    drawn = Random(seed).sample(judged, min(queries, len(judged)))
    reference = _reference(pipeline)
    _check_slo(pipeline, drawn, slo_ms)
    single = _single(pipeline, [reference], drawn)
    most_flops = slo_ms * pipeline.flops(reference) / single[reference]  # smaller sub-networks make less of a second
    with _all_cores():
        kept = None if journal is None else Journal(journal, _depends_on(pipeline))
        runs = dict(_runs(pipeline, drawn, progress, most_flops, kept))
    judgements = {query.query_id: qrels[query.query_id] for query in drawn}
    named = {str(level): run for level, run in runs.items()}
    evaluation = evaluate(judgements, named, (MEASURE,), permutations=100, margin=MARGIN, seed=seed)
    quality = {level: evaluation.means[str(level)][MEASURE] for level in runs}
    priced = [Point(str(level), quality[level], level, None, pipeline.flops(level)) for level in runs]
    best = [point.level for point in front(priced, lambda point: point.flops) if point.level is not None]
    single |= _single(pipeline, [level for level in best if level != reference], drawn)
    timed = [level for level in reversed(best) if single[level] <= slo_ms] or [min(best, key=lambda x: single[x])]
    timed = _spread(timed, [quality[level] for level in timed], 2 * MOST_LEVELS)
    profile = measure(pipeline, timed, drawn, batches=BATCHES, seconds=seconds, seed=seed, progress=progress)
    times = {level: profile.times(level) for level in timed}
    single |= {level: p50[0] for level, (p50, _) in times.items()}
    points = [point._replace(latency_ms=single[point.level]) for point in priced if point.level in single]
    metadata = {
        point.run: {
            "levels": {query.query_id: point.run for query in drawn},
            "queries_ms": {query.query_id: point.latency_ms for query in drawn},
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
        notes=_notes(evaluation, reference, single[reference], cheapest),
    )  # fmt: skip
    file.ladder()
    if journal is not None:
        journal.unlink(missing_ok=True)
    return Sweep(file, section, points, reference, None if cheapest is None else cheapest.level)


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
        config = pipeline.parts.denser.config
        subnets = [config.full, *map(Subnet.parse, config.trained)]
        smallest = min(subnets, key=lambda subnet: config.flops(subnet, 1, 1))
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
            list(as_asked(pipeline.run([query], HITS, level, batch=1), level))
            took.append(1000 * (time.perf_counter() - begun))
        found[level] = sorted(took[1:])[1]
    return found


def _reference(pipeline: Pipeline) -> Level:
    """The dearest level: the full query encoder, and all candidates to the end."""
    parts, settings = pipeline.parts, pipeline.config.reranker
    dense = sorted(parts.retrievers - {"bm25"}, reverse=True) if parts.denser is not None else []
    if not dense and "bm25" not in parts.retrievers:
        raise ConfigError("no retriever of this pipeline can be swept: its model is missing, and it has no BM25 side")
    level = Level(dense[0], parts.denser.config.full) if dense and parts.denser is not None else Level("bm25")
    if parts.ranker is None or settings is None:
        return level
    return level._replace(rerank=RerankLevel(1.0, min(pipeline.config.candidates, CANDIDATES[-1]), 1.0))


def _runs(
    pipeline: Pipeline,
    queries: Sequence[Query],
    progress: bool | None,
    most_flops: float = float("inf"),
    journal: Journal | None = None,
) -> Iterator[tuple[Level, dict[str, dict[str, float]]]]:
    """Every level of the grid with its run of ``HITS`` hits, the reference first.

    Levels of smaller query subnets that spend more than ``most_flops`` are left out.
    """
    parts, most = pipeline.parts, max(HITS, min(pipeline.config.candidates, CANDIDATES[-1]))
    retrieved: dict[Level, Lists] = {}
    for retriever in sorted(parts.retrievers - {"bm25"}, reverse=True):
        if parts.denser is not None:
            config = parts.denser.config
            subnets = {config.full, *map(Subnet.parse, config.trained)}
            for subnet in sorted(subnets, key=lambda s: (-config.flops(s, 1, 1), s)):
                level = Level(retriever, subnet)
                retrieved[level] = _retrieved(pipeline, queries, level, most)
    if "bm25" in parts.retrievers:
        retrieved[Level("bm25")] = _retrieved(pipeline, queries, Level("bm25"), most)
    if parts.ranker is not None and parts.config.reranker is not None:
        yield from _reranked(pipeline, parts.ranker, queries, retrieved, most_flops, progress, journal)
    for level, lists in retrieved.items():
        yield level, {query_id: _ranked([hit.doc_id for hit in hits]) for query_id, hits in lists.items()}


def _retrieved(pipeline: Pipeline, queries: Sequence[Query], level: Level, most: int) -> Lists:
    return {hits.query.query_id: list(hits) for hits in as_asked(pipeline.run(queries, most, level), level)}


def _ranked(doc_ids: Sequence[str]) -> dict[str, float]:
    """The first ``HITS`` as a run: scores that fall by whole steps."""
    return {doc_id: float(HITS - rank) for rank, doc_id in enumerate(doc_ids[:HITS])}


def _reranked(
    pipeline: Pipeline,
    ranker: ElasticRanker,
    queries: Sequence[Query],
    retrieved: Mapping[Level, Lists],
    most_flops: float,
    progress: bool | None,
    journal: Journal | None,
) -> Iterator[tuple[Level, dict[str, dict[str, float]]]]:
    """Every retriever's list reranked by every plan of the grid; but for the first one's, within ``most_flops``."""
    settings = pipeline.config.reranker
    most, weight = min(pipeline.config.candidates, CANDIDATES[-1]), settings.retriever_weight if settings else 0.0
    widths = sorted({1.0, *(Subnet.parse(text).width for text in ranker.config.trained)}, reverse=True)
    counts = [count for count in CANDIDATES if count < most] + [most]
    plans: dict[RerankLevel, Plan] = {}
    for width in widths:
        last = ranker.config.deepest(width)
        for count in reversed(counts):
            for budget in BUDGETS:
                plan = ranker.plan(budget, count, last)
                if plan not in plans.values():
                    plans[RerankLevel(width, count, budget)] = plan
    first = next(iter(retrieved))
    wanted = {source._replace(rerank=rerank): (source, rerank) for source in retrieved for rerank in plans}
    wanted = {level: w for level, w in wanted.items() if w[0] == first or pipeline.flops(level) <= most_flops}
    runs: dict[Level, dict[str, dict[str, float]]] = {level: {} for level in wanted}
    for query in track(queries, "scoring", disable=None if progress is None else not progress):
        known = {} if journal is None else journal.best(query)
        if known.keys() >= {str(level) for level in wanted}:
            for level in wanted:
                runs[level][query.query_id] = _ranked(known[str(level)])
            continue
        asked = {}
        for level, (source, rerank) in wanted.items():
            head, plan = retrieved[source][query.query_id][: rerank.candidates], plans[rerank]
            if len(head) < rerank.candidates:
                plan = ranker.plan(rerank.budget, len(head), ranker.config.deepest(rerank.width))
            extra = prior(head, weight) or [0.0] * len(head)
            asked[level] = _Asked(head, plan, np.array(extra, np.float32))
        scores = _scores(pipeline, ranker, query, [*asked.values()])
        for level, one in asked.items():
            tail = retrieved[wanted[level][0]][query.query_id][len(one.head) :]
            best = [one.head[row].doc_id for row in one.order(scores)]
            runs[level][query.query_id] = _ranked([*best, *(hit.doc_id for hit in tail)])
        if journal is not None:
            journal.note(query, {str(level): list(run[query.query_id]) for level, run in runs.items()})
    yield from runs.items()


class Journal:
    """The best documents of every level of the queries scored so far, on disk.

    Args:
        path: JSONL; lines of an earlier sweep that depended on something else are dropped.
        depends_on: what the order of documents depends on.
    """

    def __init__(self, path: Path, depends_on: dict[str, object]) -> None:
        self._path, self._known = path, dict[str, dict[str, list[str]]]()
        lines = path.read_text("utf-8").splitlines() if path.is_file() else []
        if lines and lines[0] == json.dumps(depends_on):
            for line in lines[1:]:
                with suppress(ValueError):  # the last one may be cut
                    row = json.loads(line)
                    self._known[row["text"]] = row["best"]
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [json.dumps({"text": text, "best": best}) for text, best in self._known.items()]
        part = path.with_name(f"{path.name}.part")
        part.write_text("".join(f"{line}\n" for line in [json.dumps(depends_on), *rows]), "utf-8")
        part.replace(path)
        if rows:
            logger.info("%d queries scored by an earlier sweep are taken over", len(rows))

    def best(self, query: Query) -> dict[str, list[str]]:
        """Level -> doc_ids, best first; empty where the query was not scored."""
        return self._known.get(query.text, {})

    def note(self, query: Query, best: Mapping[str, list[str]]) -> None:
        """Keep what was found for ``query``."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"text": query.text, "best": best}) + "\n")


def _depends_on(pipeline: Pipeline) -> dict[str, object]:
    return {
        "models": pipeline.models,
        "corpus": pipeline.corpus_sha256,
        "pipeline": settings_of(pipeline),
        "hits": HITS,
    }


class _Asked(NamedTuple):
    """The candidates of a query at one level, the plan that reranks them, and what is added to their scores."""

    head: list[Hit]
    plan: Plan
    extra: NDArray[np.float32]

    def order(self, scores: Scores, steps: int | None = None) -> Sequence[int]:
        """Rows of ``head``, best first, after ``steps`` of the plan (None: all)."""
        plan = self.plan[:steps]
        if not plan:
            return range(len(self.head))
        of_head = {
            step.subnet: np.array([scores[step.subnet].get(hit.doc_id, np.nan) for hit in self.head], np.float32)
            + self.extra
            for step in plan
        }
        order: list[int] = replay(plan, of_head).order().tolist()
        return order


def _scores(pipeline: Pipeline, ranker: ElasticRanker, query: Query, asked: Sequence[_Asked]) -> Scores:
    """Raw scores by each sub-network of the documents that a plan takes to it: each is made once, the rest never."""
    scores: Scores = {step.subnet: {} for one in asked for step in one.plan}
    for number in range(max((len(one.plan) for one in asked), default=0)):
        needed: dict[Subnet, dict[str, None]] = {}
        for one in asked:
            if number < len(one.plan):
                step = one.plan[number]
                rows = one.order(scores, number)[: step.candidates]
                needed.setdefault(step.subnet, {}).update(dict.fromkeys(one.head[row].doc_id for row in rows))
        for subnet, found in needed.items():
            doc_ids = [doc_id for doc_id in found if doc_id not in scores[subnet]]
            if doc_ids:
                tokens, steps = pipeline.parts.tokens_of(doc_ids), (Step(len(doc_ids), subnet),)
                scored = ranker.score_candidates(query.text, tokens, steps, precision=pipeline.config.precision)
                scores[subnet] |= zip(doc_ids, scored.scores.tolist(), strict=True)
    return scores


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
