"""The grid of levels that a sweep compares, each with its run: common stages computed once, a killed one continued."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from elastic_ir.answer import as_asked
from elastic_ir.durable import whole
from elastic_ir.level import Level, RerankLevel
from elastic_ir.pipeline import Pipeline
from elastic_ir.profile import HITS, UNMEASURED, settings_of
from elastic_ir.progress import track
from elastic_ir.records import Hit, Query
from elastic_ir.rerank import ElasticRanker, Plan, Step, replay
from elastic_ir.rerank.stage import prior
from elastic_ir.subnet import Subnet

logger = logging.getLogger(__name__)

CANDIDATES = (5, 10, 20, 30, 50, 100)
BUDGETS = (1.0, 0.5, 0.25, 0.1)

Lists = dict[str, list[Hit]]
Scores = dict[Subnet, dict[str, float]]
"""Sub-network -> doc_id -> raw score."""


def runs_of_grid(
    pipeline: Pipeline,
    queries: Sequence[Query],
    progress: bool | None,
    affordable: Callable[[Level], bool] = lambda level: True,
    journal: SweepJournal | None = None,
) -> Iterator[tuple[Level, dict[str, dict[str, float]]]]:
    """Every level of the grid with its run of ``HITS`` hits, the reference first.

    Levels of smaller query subnets that are not ``affordable`` are left out.
    """
    parts, most = pipeline.parts, max(HITS, min(pipeline.config.candidates, CANDIDATES[-1]))
    retrieved: dict[Level, Lists] = {}
    for retriever in sorted(parts.retrievers - {"bm25"}, key=lambda name: (name != pipeline.config.retriever, name)):
        if parts.denser is not None:
            config = parts.denser.config
            subnets = {config.full, *map(Subnet.parse, config.trained)}
            for subnet in sorted(subnets, key=lambda s: (-config.flops(s, 1, 1), s)):
                level = Level(retriever, subnet)
                retrieved[level] = _retrieved(pipeline, queries, level, most)
    if "bm25" in parts.retrievers:
        retrieved[Level("bm25")] = _retrieved(pipeline, queries, Level("bm25"), most)
    if parts.ranker is not None and parts.config.reranker is not None:
        yield from _reranked(pipeline, parts.ranker, queries, retrieved, affordable, progress, journal)
    for level, lists in retrieved.items():
        yield level, {query_id: _ranked([hit.doc_id for hit in hits]) for query_id, hits in lists.items()}


def _retrieved(pipeline: Pipeline, queries: Sequence[Query], level: Level, most: int) -> Lists:
    return {hits.query.query_id: list(hits) for hits in as_asked(pipeline.run(queries, most, level), UNMEASURED)}


def _ranked(doc_ids: Sequence[str]) -> dict[str, float]:
    """The first ``HITS`` as a run: scores that fall by whole steps."""
    return {doc_id: float(HITS - rank) for rank, doc_id in enumerate(doc_ids[:HITS])}


def _reranked(
    pipeline: Pipeline,
    ranker: ElasticRanker,
    queries: Sequence[Query],
    retrieved: Mapping[Level, Lists],
    affordable: Callable[[Level], bool],
    progress: bool | None,
    journal: SweepJournal | None,
) -> Iterator[tuple[Level, dict[str, dict[str, float]]]]:
    """Every retriever's list reranked by every plan of the grid; but for the first one's, where ``affordable``."""
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
    begun = set() if journal is None else journal.levels

    def worth_while(level: Level) -> bool:
        return str(level) in begun if begun else affordable(level)

    wanted = {level: w for level, w in wanted.items() if w[0] == first or worth_while(level)}
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


class SweepJournal:
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
        elif lines:
            logger.warning("%s is of a sweep of something else, whose scores are dropped", path)
        rows = [json.dumps({"text": text, "best": best}) for text, best in self._known.items()]
        with whole(path) as part:
            part.write_text("".join(f"{line}\n" for line in [json.dumps(depends_on), *rows]), "utf-8")
        if rows:
            logger.info("%d queries scored by an earlier sweep are taken over", len(rows))

    @property
    def levels(self) -> set[str]:
        """The levels that were scored before; a sweep goes on with the same. Empty where none was."""
        return set(next(iter(self._known.values()), ()))

    def best(self, query: Query) -> dict[str, list[str]]:
        """Level -> doc_ids, best first; empty where the query was not scored."""
        return self._known.get(query.text, {})

    def note(self, query: Query, best: Mapping[str, list[str]]) -> None:
        """Keep what was found for ``query``."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"text": query.text, "best": best}) + "\n")


def depends_on(pipeline: Pipeline, timed_on: Pipeline, slo_ms: float) -> dict[str, object]:
    """What the journal of a sweep of ``pipeline`` depends on; SLO and times decide which levels it has."""
    return {
        "slo_ms": slo_ms,
        "models": pipeline.models,
        "corpus": pipeline.corpus_sha256,
        "timed_on": timed_on.corpus_sha256,
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
