"""The ranker's objective: every exit at every width scores as the teacher does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from elastic_ir.elastic import ElasticConfig, ElasticScorer, TokenBatch, Tokens
from elastic_ir.elastic.checkpoint import Checkpoint
from elastic_ir.elastic.importance import measure, reorder
from elastic_ir.errors import ConfigError
from elastic_ir.subnet import Subnet
from elastic_ir.train.data import Lists
from elastic_ir.train.losses import list_loss, score_loss
from elastic_ir.train.recipe import Recipe


class PairBatch(NamedTuple):
    """Query-candidate pairs, flat; ``shape`` is (lists, candidates)."""

    tokens: TokenBatch
    shape: tuple[int, int]


class RankerObjective:
    """Score regression and list KL to the teacher's scores; one pass serves all exits of a width.

    Source: On Elastic Language Models (arXiv:2311.07204), Matryoshka Re-Ranker (arXiv:2501.16302).
    """

    def __init__(self, recipe: Recipe, checkpoint: Checkpoint) -> None:
        config = checkpoint.config
        if not config.exits:
            raise ConfigError(f"teacher {checkpoint.name} has no score head; wanted a reranker (cross-encoder)")
        self.recipe, self.tokens = recipe, checkpoint.tokens
        self.data = Lists(recipe)
        self.teacher = ElasticScorer(config)
        self.teacher.load_state_dict(checkpoint.state)
        self.teacher.requires_grad_(False)
        last = config.num_layers
        exits = tuple(sorted({*recipe.exits, *config.exits}))
        self.student = ElasticScorer(config.model_copy(update={"depth_rule": "prefix", "exits": exits}))
        state = dict(checkpoint.state)
        for depth in exits:
            for part in ("pooler.weight", "pooler.bias", "score.weight", "score.bias"):
                state.setdefault(f"heads.{depth}.{part}", checkpoint.state[f"heads.{last}.{part}"])
        self.student.load_state_dict(state)

    @property
    def config(self) -> ElasticConfig:
        """Shape of the student."""
        return self.student.config

    @property
    def tokenizer(self) -> Tokens:
        """Tokenizer of the student."""
        return self.tokens

    def prepare(self) -> None:
        """Sort the student's heads and neurons by their influence on the full score."""
        batches = [self.batch(step).tokens for step in range(self.recipe.importance_batches)]
        head = self.student.heads[str(self.config.num_layers)]
        reorder(self.student.encoder, measure(self.student.encoder, batches, [head] * len(batches)))

    def batch(self, step: int) -> PairBatch:
        """The pairs of ``step``; every list is cut to the shortest of the batch."""
        lists = self.data.batch(step)
        size = min(len(item.candidates) for item in lists)
        queries = self.tokens.ids([item.query for item in lists], self.recipe.max_tokens // 2)
        pairs, firsts = [], []
        for item, query in zip(lists, queries, strict=True):
            room = self.recipe.max_tokens - len(query) - 3
            for candidate in self.tokens.ids(item.candidates[:size], room):
                pairs.append(self.tokens.pair(query, candidate))
                firsts.append(len(query) + 2)
        return PairBatch(self.tokens.pad(pairs, firsts), (len(lists), size))

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the teacher to where it will compute."""
        self.teacher.to(device, dtype)

    def losses(self, batch: PairBatch, subnets: list[Subnet]) -> Iterator[tuple[Subnet, Tensor]]:
        """For each subnet the mean loss over the exits up to its depth, at its width."""
        with torch.no_grad():
            targets = self.teacher(batch.tokens).float()
        for subnet in subnets:
            scores = self.student.at_every_exit(batch.tokens, subnet.width, subnet.depth)
            terms = []
            for found in (score.float() for score in scores.values()):
                listwise = list_loss(found.view(batch.shape), targets.view(batch.shape), self.recipe.temperature)
                terms.append(listwise + 0.5 * score_loss(found, targets))
            yield subnet, torch.stack(terms).mean()
