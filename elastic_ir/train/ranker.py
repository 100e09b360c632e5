"""The ranker's objective: every sub-network scores as the teacher does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from elastic_ir.elastic import ElasticScorer, TokenBatch
from elastic_ir.elastic.checkpoint import Checkpoint, fill, load_checkpoint
from elastic_ir.elastic.importance import measure, reorder
from elastic_ir.errors import ConfigError
from elastic_ir.subnet import Subnet
from elastic_ir.train.data import Lists
from elastic_ir.train.losses import list_loss, score_loss
from elastic_ir.train.recipe import Recipe
from elastic_ir.train.sampling import subnets
from elastic_ir.train.student import (
    changed,
    check_start,
    hidden_states,
    last,
    load_start,
    start_own,
    states_loss,
    taught_by,
    with_own,
)


class PairBatch(NamedTuple):
    """Query-candidate pairs, flat; ``shape`` is (lists, candidates)."""

    tokens: TokenBatch
    shape: tuple[int, int]


class RankerObjective:
    """Score regression and list KL to the teacher's scores.

    With prefix exits one pass serves all exits of a width; with spaced layers each subnet runs on its own, and the
    teacher's hidden states are taught too.

    Source: On Elastic Language Models (arXiv:2311.07204), Matryoshka Re-Ranker (arXiv:2501.16302).
    """

    def __init__(self, recipe: Recipe, teacher: Checkpoint) -> None:
        self._prefix = recipe.depth_rule == "prefix"
        if not teacher.config.exits:
            raise ConfigError(f"teacher {teacher.name} has no score head; wanted a reranker (cross-encoder)")
        if teacher.config.outputs != 1:
            raise ConfigError(f"teacher {teacher.name} is a classifier; wanted a reranker (cross-encoder)")
        if self._prefix and (recipe.own_vectors or recipe.own_last or recipe.own_layers):
            raise ConfigError("own_vectors, own_last, own_layers: not with prefix exits; wanted depth_rule: spaced")
        self.recipe, self.tokens = recipe, teacher.tokens
        self._longest = min(recipe.max_tokens, teacher.config.max_positions)
        self.data = Lists(recipe)
        self._ids: dict[str, list[int]] = {}
        self.teacher = ElasticScorer(teacher.config)
        fill(self.teacher, teacher)
        self.teacher.requires_grad_(False)
        start = teacher if recipe.start is None else load_checkpoint(recipe.start)
        check_start(start, teacher)
        if start.native and start.config.depth_rule != recipe.depth_rule:
            raise ConfigError(
                f"start {start.name} has depth_rule {start.config.depth_rule}, the recipe {recipe.depth_rule}; "
                "its sub-networks would run other layers"
            )
        config = start.config.model_copy(update={"depth_rule": recipe.depth_rule, "exits": ()})
        exits = {*recipe.exits, *start.config.exits}
        if not self._prefix:
            exits |= {subnet.depth for subnet in subnets(recipe.sampling, config)}
        settings = config.ranker or {}
        if recipe.cascade is not None:
            settings = settings | {"cascade": recipe.cascade}
        config = changed(config, exits=tuple(sorted(exits)), ranker=settings or None)
        config.model_copy(update={"trained": ()}).check_cascade(recipe.cascade or ())
        self.student = ElasticScorer(with_own(config, recipe))
        state = dict(start.state)
        for depth in exits:
            for part in ("pooler.weight", "pooler.bias", "score.weight", "score.bias"):
                state.setdefault(f"heads.{depth}.{part}", start.state[f"heads.{config.num_layers}.{part}"])
        self._missing = load_start(self.student, start._replace(state=state))

    def prepare(self) -> None:
        """Sort the student's heads and neurons by their influence on the full score (a ``start`` has them in order)."""
        if self.recipe.start is None:
            batches = [self.batch(step).tokens for step in range(self.recipe.importance_batches)]
            head = self.student.heads[str(self.student.config.num_layers)]
            reorder(self.student.encoder, measure(self.student.encoder, batches, [head] * len(batches)))
        start_own(self.student.encoder, self._missing)

    def batch(self, step: int) -> PairBatch:
        """The pairs of ``step``; every list is cut to the shortest of the batch."""
        lists = self.data.batch(step)
        size = min(len(item.candidates) for item in lists)
        queries = self.tokens.ids([item.query for item in lists], self._longest // 2)
        self._tokenize([text for item in lists for text in item.candidates[:size]])
        pairs, firsts = [], []
        for item, query in zip(lists, queries, strict=True):
            room = self._longest - len(query) - 3
            for candidate in item.candidates[:size]:
                pairs.append(self.tokens.pair(query, self._ids[candidate][:room]))
                firsts.append(len(query) + 2)
        return PairBatch(self.tokens.pad(pairs, firsts), (len(lists), size))

    def _tokenize(self, candidates: list[str]) -> None:
        """Keep the token ids of ``candidates``: many stand in several lists."""
        new = [text for text in dict.fromkeys(candidates) if text not in self._ids]
        self._ids |= zip(new, self.tokens.ids(new, self._longest), strict=True)

    def losses(self, batch: PairBatch, subnets: list[Subnet]) -> Iterator[tuple[Subnet, Tensor]]:
        """The loss of each subnet, largest first; with prefix exits the mean over the exits up to its depth."""
        return self._of_exits(batch, subnets) if self._prefix else self._of_subnets(batch, subnets)

    def _of_exits(self, batch: PairBatch, subnets: list[Subnet]) -> Iterator[tuple[Subnet, Tensor]]:
        _, targets = taught_by(self.teacher, batch.tokens, self.recipe)
        for subnet in subnets:
            scores = self.student.at_every_exit(batch.tokens, subnet.width, subnet.depth)
            terms = [self._score_loss(found.float(), targets, batch.shape) for found in scores.values()]
            yield subnet, torch.stack(terms).mean()

    def _of_subnets(self, batch: PairBatch, subnets: list[Subnet]) -> Iterator[tuple[Subnet, Tensor]]:
        tokens, full = batch.tokens, self.student.config.full
        wanted, targets = taught_by(self.teacher, tokens, self.recipe)
        for subnet in subnets:
            states = hidden_states(self.student.encoder, tokens, subnet, read=1)
            loss = self._score_loss(self.student.heads[str(subnet.depth)](last(states)).float(), targets, batch.shape)
            if weight := self.recipe.hidden_weight(subnet == full):
                loss = loss + weight * states_loss(states, wanted, tokens.lengths)
            yield subnet, loss

    def _score_loss(self, found: Tensor, targets: Tensor, shape: tuple[int, int]) -> Tensor:
        listwise = list_loss(found.view(shape), targets.view(shape), self.recipe.temperature)
        return listwise + 0.5 * score_loss(found, targets)
