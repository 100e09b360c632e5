"""``ElasticRanker``: scores candidates step by step under a depth budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from elastic_ir.elastic import ElasticScorer, TokenBatch, Tokens, load_checkpoint
from elastic_ir.elastic.checkpoint import fill
from elastic_ir.elastic.model import Own, padding_bias
from elastic_ir.elastic.precision import Precision, autocast
from elastic_ir.elastic.pretrained import Pretrained, settings_of
from elastic_ir.elastic.tokens import BATCH_TOKENS, by_token_budget, packed
from elastic_ir.errors import InputError, ModelError, SubnetError
from elastic_ir.rerank.plan import Plan, Step, candidate_layers, check_budget, plan
from elastic_ir.rerank.scored import Scored
from elastic_ir.rerank.work import Candidate, CandidateList, Pair, Pass, Work, groups
from elastic_ir.subnet import Subnet


class RankerSettings(BaseModel):
    """How pairs are cut.

    Attributes:
        max_length: tokens of a pair, special tokens included.
        max_query_length: tokens kept of the query.
        max_passages: windows scored of a longer document; its score is the best window's.
        cascade: sub-networks of a plan's steps before the last, such as ``w0.25-d2``, cheapest first; None means the
            shallowest exit at the width of the last step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_length: int = Field(default=512, ge=16)
    max_query_length: int = Field(default=64, ge=1)
    max_passages: int = Field(default=4, ge=1)
    cascade: tuple[str, ...] | None = None


POLL_S = 0.01
TEXTS_CHARACTERS = 50_000
"""Of documents to score, before ``stop`` is asked again: they are made tokens in about 50 ms."""
STATES_TOKENS = 100_000
"""Tokens of candidates whose states may be kept at a time, of several lists together: 150 MB at a width of 384."""


def _go_on() -> bool:
    return False


class ElasticRanker(Pretrained):
    """Cross-encoder with a width, exits and a depth budget. Never changed by a call, so threads share it.

    Source: On Elastic Language Models (arXiv:2311.07204), Cascade Transformer (arXiv:2005.02534).
    """

    role = "ranker"
    model: ElasticScorer
    settings: RankerSettings

    def __init__(
        self, model: ElasticScorer, tokens: Tokens, settings: RankerSettings, name: str = "", fingerprint: str = ""
    ) -> None:
        self.model, self.tokens, self.settings = model.eval().requires_grad_(False), tokens, settings
        self.name, self.fingerprint = name, fingerprint
        try:
            self.config.check_cascade(settings.cascade or ())
        except SubnetError as exc:
            raise ModelError(f"{name or 'the ranker'}: {exc}") from exc

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, *, device: str = "cpu", **settings: Any) -> ElasticRanker:
        """Load a bundled name, a folder, or a hub id of a one-score cross-encoder.

        Args:
            name_or_path: e.g. ``"elastic-ranker-small"`` or ``"cross-encoder/ms-marco-MiniLM-L12-v2"``.
            device: torch device.
            settings: fields of ``RankerSettings`` that replace the checkpoint's.

        Raises:
            ModelError: if it cannot be had or read.
        """
        checkpoint = load_checkpoint(name_or_path)
        if not checkpoint.config.exits:
            raise ModelError(f"{name_or_path} has no score head; wanted a reranker (a cross-encoder with one label)")
        if checkpoint.config.outputs != 1 or checkpoint.config.classifier is not None:
            raise ModelError(f"{name_or_path} is a classifier; wanted a reranker (a cross-encoder with one score)")
        model = ElasticScorer(checkpoint.config)
        fill(model, checkpoint)
        merged = settings_of(RankerSettings, checkpoint.config.ranker, settings, f"ranker {name_or_path}")
        return cls(model.to(device), checkpoint.tokens, merged, str(name_or_path), checkpoint.fingerprint)

    @property
    def max_length(self) -> int:
        """Tokens of a pair, special tokens included: the settings', or fewer where the model has fewer positions."""
        return min(self.settings.max_length, self.config.max_positions)

    def score(
        self,
        query: str,
        documents: Sequence[str],
        subnet: Subnet | None = None,
        budget: float | None = None,
        *,
        document_tokens: int | None = None,
        precision: Precision = "fp32",
        batch_tokens: int | None = None,
        stop: Callable[[], bool] = _go_on,
    ) -> NDArray[np.float32]:
        """Final scores of documents given in retriever order.

        Args:
            query: the question.
            documents: texts.
            subnet: width, and the exit at which all stop when there is no ``budget``; None means full.
            budget: share of the full candidate-layers, in (0, 1]; None runs all to ``subnet``.
            document_tokens: read of each document, at most all that the settings allow; None means these.
            precision: ``fp32``, ``bf16``, ``int8`` or ``auto`` (the fastest here).
            batch_tokens: padded tokens of one chunk, between which ``stop`` is asked, as it is while texts are read;
                None: as many as are fast.
            stop: True ends the work: the order is the best so far, documents not scored last as they came.

        Returns:
            ``[N]`` float32, distinct; descending is the final order: candidates that went further stay above.

        Raises:
            SubnetError: if there is no exit at this depth. InputError: for a bad budget, or documents that are no list.
            ModelError: if a score is not finite.
        """
        if isinstance(documents, str) or not isinstance(query, str):
            raise InputError("wanted a question and a list of documents, e.g. score('a question', ['a text'])")
        documents = list(documents)
        for text in documents:
            if not isinstance(text, str):
                raise InputError(f"found {type(text).__name__} among the documents; wanted texts alone")
        subnet = self.config.resolve(subnet)
        steps: Plan = (Step(len(documents), subnet),)
        if budget is not None:
            steps = self.plan(budget, len(documents), subnet)
        most = self.settings.max_length * self.settings.max_passages
        candidates: list[list[int]] = []
        for texts in packed(documents, len, TEXTS_CHARACTERS):
            candidates += [[]] * len(texts) if stop() else self.tokens.ids(texts, min(document_tokens or most, most))
        scored = self.score_candidates(
            query, candidates, steps, precision=precision, batch_tokens=batch_tokens, stop=stop
        )
        if not scored.finite:
            raise ModelError(f"ranker {self.name} gives a score that is not finite; its weights are damaged")
        return scored.final()

    def plan(self, budget: float, candidates: int, subnet: Subnet | None = None) -> Plan:
        """The plan for ``candidates`` that ends at ``subnet`` (None: the full model).

        The budget is a share of what ``candidates`` cost in the full model; a layer at width w costs w, so a
        narrow subnet may finish them all for less. Windows of a long document count as one candidate.

        Raises:
            InputError: if the budget is outside (0, 1].
        """
        last = self.config.resolve(subnet)
        check_budget(budget)
        before = [Subnet(last.width, self.config.exits[0])]
        if self.settings.cascade is not None:
            before = [self.config.resolve(Subnet.parse(name)) for name in self.settings.cascade]
        cascade = [*(step for step in before if candidate_layers(step) < candidate_layers(last)), last]
        carried = all(self._carries(*pair) for pair in pairwise(cascade))
        layers = budget * candidates * self.config.num_layers
        return plan(layers, candidates, cascade, carried=carried) if candidates else ()

    def _carries(self, before: Subnet, after: Subnet) -> bool:
        """Whether ``after`` can go on from the states of ``before``: the same layers so far, at the same width."""
        encoder, same = self.model.encoder, before.width == after.width and before.depth < after.depth
        shared = encoder.own_part(before) is None and encoder.own_part(after) is None
        return self.config.depth_rule == "prefix" and same and shared

    def flops(self, steps: Plan, length: int) -> float:
        """Floating-point operations of ``steps``, for pairs of ``length`` tokens."""
        total, done = 0.0, 0
        for number, (candidates, subnet) in enumerate(steps):
            carries = number + 1 < len(steps) and self._carries(subnet, steps[number + 1].subnet)
            run = Subnet(subnet.width, subnet.depth - done)
            total += candidates * self.config.flops(run, length, length, None if carries else 1)
            done = subnet.depth if carries else 0
        return total

    def score_candidates(
        self,
        query: str,
        candidates: Sequence[Sequence[int]],
        steps: Plan,
        *,
        prior: Sequence[float] | None = None,
        precision: Precision = "fp32",
        batch_tokens: int | None = None,
        stop: Callable[[], bool] = _go_on,
        turn: Lock | None = None,
    ) -> Scored:
        """``score_lists`` of one list."""
        asked = CandidateList(query, candidates, steps, prior)
        return self.score_lists([asked], precision=precision, batch_tokens=batch_tokens, stop=stop, turn=turn)[0]

    @torch.inference_mode()
    def score_lists(
        self,
        lists: Sequence[CandidateList],
        *,
        precision: Precision = "fp32",
        batch_tokens: int | None = None,
        stop: Callable[[], bool] = _go_on,
        turn: Lock | None = None,
    ) -> list[Scored]:
        """Raw scores of the candidates of each list, and the step of its plan that each was made in.

        Lists that run the same sub-network in the same step share its batches. A step whose sub-network can go on
        from the states of the one before does.

        Args:
            lists: questions and their candidates; a blank question raises.
            precision: number format of the matrix products.
            batch_tokens: padded tokens of one chunk, between which ``stop`` is asked; None: as many as are fast.
            stop: True ends the work; what was scored so far is returned.
            turn: held while a chunk runs, so that searches side by side take turns; None runs at once.
        """
        works = [Work(asked, self._query(asked.query)) for asked in lists]
        most = STATES_TOKENS if self.config.depth_rule == "prefix" else None
        for group in groups(works, most):
            if not self._score(group, precision, batch_tokens or 2 * BATCH_TOKENS, stop, turn):
                break
        return [work.result() for work in works]

    def _score(
        self,
        works: Sequence[Work],
        precision: Precision,
        batch_tokens: int,
        stop: Callable[[], bool],
        turn: Lock | None,
    ) -> bool:
        """Take ``works`` through their plans; False where ``stop`` ended it."""
        for number in range(max((len(work.asked.steps) for work in works), default=0)):
            for shared, candidates in self._passes(works, number).items():
                windows = (p for work, row in candidates for p in work.carried.pop(row, None) or self._pairs(work, row))
                scored: list[tuple[Pair, np.float32]] = []
                for pairs in packed(windows, lambda pair: len(pair.ids), batch_tokens):
                    if not _take(turn, stop):
                        return False
                    try:
                        scores = self._advance(pairs, shared.subnet, precision, batch_tokens, keep=shared.keep)
                    finally:
                        if turn is not None:
                            turn.release()
                    for pair, score in zip(pairs, scores, strict=True):
                        scored.append((pair, score))
                        if pair.last:  # a candidate counts when all its windows are scored
                            for its, found in scored:
                                its.work.note(its, found, number + 1)
                            scored.clear()
            for work in works:
                work.narrow(number + 1)
        return True

    def _query(self, text: str) -> list[int]:
        if not text.strip():
            raise InputError("the query is empty; wanted a question")
        return self.tokens.ids([text], min(self.settings.max_query_length, self.max_length // 2))[0]

    def _passes(self, works: Sequence[Work], number: int) -> dict[Pass, list[Candidate]]:
        """What step ``number`` of each plan has to score, by what can share a batch."""
        found: dict[Pass, list[Candidate]] = {}
        for work in works:
            subnets = [step.subnet for step in work.asked.steps]
            if number >= len(subnets):
                continue
            carries = [False, *(self._carries(*pair) for pair in pairwise(subnets)), False]
            its = Pass(subnets[number], subnets[number - 1] if carries[number] else None, carries[number + 1])
            found.setdefault(its, []).extend((work, row) for row in work.rows)
        return found

    def _pairs(self, work: Work, row: int) -> list[Pair]:
        document, query = work.asked.documents[row], work.query
        room = self.max_length - len(query) - 3
        starts = range(0, max(1, len(document)), room)
        windows = [document[start : start + room] for start in starts][: self.settings.max_passages]
        return [
            Pair(work, row, self.tokens.pair(query, window), len(query) + 2, last=window is windows[-1])
            for window in windows
        ]

    def _advance(
        self, pairs: list[Pair], subnet: Subnet, precision: Precision, batch_tokens: int, *, keep: bool
    ) -> NDArray[np.float32]:
        """Carry ``pairs`` on to the end of ``subnet`` and score them ``[pairs]``; ``keep`` keeps their states."""
        scores = np.empty(len(pairs), np.float32)
        encoder, device = self.model.encoder, self.model.encoder.device
        own = encoder.own_part(subnet)
        for group in by_token_budget([len(pair.ids) for pair in pairs], min(batch_tokens, BATCH_TOKENS)):
            chosen = [pairs[i] for i in group]
            batch = self.tokens.pad(
                [p.ids for p in chosen], [p.first_length for p in chosen], self.config.length_multiple
            ).to(device)
            with autocast(device, precision):
                x = self._states(chosen, batch, own)
                bias = padding_bias(batch, encoder.dtype)
                layers = self.config.layers(subnet.depth)[chosen[0].done :]
                x = encoder.run_layers(x, bias, layers, subnet.width, own, positions=None if keep else 1)
                scores[group] = self.model.heads[str(subnet.depth)](x).float().cpu().numpy()
            for i, pair in enumerate(chosen):
                pair.done, pair.state = (subnet.depth, x[i, : len(pair.ids)].clone()) if keep else (0, None)
        return scores

    def _states(self, pairs: list[Pair], batch: TokenBatch, own: Own | None) -> Tensor:
        if pairs[0].state is None:
            return self.model.encoder.embed(batch, own)
        states = pad_sequence([pair.state for pair in pairs if pair.state is not None], batch_first=True)
        return F.pad(states, (0, 0, 0, batch.input_ids.shape[1] - states.shape[1]))


def _take(turn: Lock | None, stop: Callable[[], bool]) -> bool:
    """Wait for the turn; False when ``stop`` ends the waiting, which is asked without it, for it may search itself."""
    while not stop():
        if turn is None or turn.acquire(timeout=POLL_S):
            return True
    return False
