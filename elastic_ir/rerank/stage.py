"""The rerank stage: ``ElasticRanker`` over the first candidates of a ranking."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

import numpy as np

from elastic_ir.elastic.precision import Precision
from elastic_ir.errors import InputError
from elastic_ir.level import RerankLevel
from elastic_ir.records import Degradation, Hit, Ranking
from elastic_ir.rerank.plan import Plan
from elastic_ir.rerank.ranker import ElasticRanker
from elastic_ir.rerank.scored import Scored
from elastic_ir.rerank.work import CandidateList
from elastic_ir.stage import SearchContext, Stage, left

logger = logging.getLogger(__name__)

CandidateTokens = Callable[[Sequence[str]], list[Sequence[int]]]
"""doc_ids -> token ids of each document, without special tokens."""


class Rerank(Stage):
    """Reorders the first ``candidates`` hits; the tail stays below them in its order.

    The level in the context, when it has a rerank part, replaces the stage's own settings; a level
    without one skips the stage. A ranker that fails leaves the order as it was, declared.

    Searches take turns at the ranker, chunk by chunk, each with all of torch's threads: side by side they
    would only get in each other's way. Who waits still minds its deadline.

    ``retriever_weight`` adds the retriever's scores, in standard deviations over the candidates, times this, to every
    score of the ranker: what both find good comes first.
    """

    name = "rerank"

    def __init__(
        self,
        ranker: ElasticRanker,
        tokens_of: CandidateTokens,
        settings: RerankLevel,
        precision: Precision = "fp32",
        retriever_weight: float = 0.0,
    ) -> None:
        self.ranker, self.tokens_of, self.settings, self.precision = ranker, tokens_of, settings, precision
        self.retriever_weight = retriever_weight
        self._turn = threading.Lock()

    def __call__(self, rankings: Sequence[Ranking], context: SearchContext) -> list[Ranking]:
        settings = self.settings if context.level is None else context.level.rerank
        if settings is None:
            return list(rankings)
        depth = self.ranker.config.deepest(settings.width)
        rows = [row for row, ranking in enumerate(rankings) if ranking.hits]
        heads = [rankings[row].hits[: settings.candidates] for row in rows]

        def stopped() -> bool:
            return context.expired or all(context.abandoned(rankings[row].query) for row in rows)

        try:
            lists = [
                CandidateList(
                    rankings[row].query.text,
                    self.tokens_of([hit.doc_id for hit in head]),
                    self.ranker.plan(settings.budget, len(head), depth),
                    prior(head, self.retriever_weight),
                )
                for row, head in zip(rows, heads, strict=True)
            ]
            scored = self.ranker.score_lists(
                lists, precision=self.precision, batch_tokens=context.chunk_tokens, stop=stopped, turn=self._turn
            )
        except InputError:
            raise
        except Exception as exc:
            logger.warning("reranker failed, retriever order kept: %s", exc)
            return [_degraded(ranking, "ranker_down", str(exc)) if ranking.hits else ranking for ranking in rankings]
        result = list(rankings)
        for row, asked, its in zip(rows, lists, scored, strict=True):
            result[row] = _reordered(rankings[row], its, asked.steps)
            if its.stopped and context.abandoned(rankings[row].query):
                result[row] = left(result[row])
        return result


def _reordered(ranking: Ranking, scored: Scored, plan: Plan) -> Ranking:
    """``ranking`` with its first hits in the order of ``scored``."""
    head, tail = ranking.hits[: len(scored.scores)], ranking.hits[len(scored.scores) :]
    if not scored.finite:
        return _degraded(ranking, "ranker_down", "a score is not finite")
    if not (scored.steps > 0).any():
        return _degraded(ranking, "deadline", f"none of {len(head)} candidates scored")
    final = scored.final()
    hits = [head[row]._replace(score=float(final[row]), retrieved=head[row].score) for row in scored.order()]
    reranked = ranking._replace(hits=(*hits, *_below(hits[-1].score, tail)))
    if not scored.stopped:
        return reranked
    furthest = int(np.max(scored.steps))
    done = int((scored.steps == furthest).sum())
    detail = f"stopped with {done} of {len(head)} candidates scored by {plan[furthest - 1].subnet}"
    return _degraded(reranked, "deadline", detail)


def prior(hits: Sequence[Hit], weight: float) -> list[float] | None:
    """The hits' scores in standard deviations from their mean, times ``weight``; None where that says nothing."""
    scores = np.array([hit.score for hit in hits])
    if not hits or not weight or not np.isfinite(scores).all() or not scores.std():
        return None
    weighted: list[float] = (weight * (scores - scores.mean()) / scores.std()).tolist()
    return weighted


def _degraded(ranking: Ranking, reason: str, detail: str) -> Ranking:
    return ranking._replace(degraded=(*ranking.degraded, Degradation(reason, Rerank.name, detail)))


def _below(score: float, tail: Sequence[Hit]) -> list[Hit]:
    """The tail with its order kept and scores that fall below ``score`` by whole steps."""
    return [hit._replace(score=score - 1 - position) for position, hit in enumerate(tail)]
