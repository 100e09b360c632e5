"""The task-agnostic objective: every subnet relates the tokens of a text as the teacher's last layer does."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from elastic_ir.elastic import ElasticLM, TokenBatch
from elastic_ir.elastic.checkpoint import Checkpoint, fill
from elastic_ir.elastic.importance import sort_by_importance
from elastic_ir.elastic.model import padding_bias
from elastic_ir.errors import ConfigError
from elastic_ir.subnet import Subnet
from elastic_ir.train.data import TextStreams
from elastic_ir.train.losses import relation_loss
from elastic_ir.train.recipe import Recipe
from elastic_ir.train.sampling import subnets


class RelationObjective:
    """KL of query-query, key-key and value-value relations in the last layer to the teacher's.

    Vectors of all heads are joined and split anew into ``relation_heads``, so that a narrow subnet can be compared
    with a wide teacher. Heads are sorted by importance in both, so that the same ones are compared.

    Source: MiniLMv2 (arXiv:2012.15828), On Elastic Language Models (arXiv:2311.07204).
    """

    def __init__(self, recipe: Recipe, teacher: Checkpoint) -> None:
        if teacher.config.exits:
            raise ConfigError(f"teacher {teacher.name} is a reranker or classifier; wanted an encoder")
        if recipe.own_last or recipe.own_layers or recipe.own_vectors or recipe.keep:
            raise ConfigError(
                "`own_last:`, `own_layers:`, `own_vectors:` and `keep:` are not for an encoder, which shares all"
            )
        if recipe.start is not None:
            raise ConfigError(
                "`start:` is for densers, rankers and classifiers; an encoder's heads must lie as its teacher's do"
            )
        self.recipe, self.tokens = recipe, teacher.tokens
        config = teacher.config.model_copy(update={"depth_rule": "spaced", "denser": None})
        for subnet in subnets(recipe.sampling, config):
            size = subnet.heads(config.num_heads) * config.head_size
            if size % recipe.relation_heads:
                raise ConfigError(f"relation_heads {recipe.relation_heads} does not divide the {size} of {subnet}")
        self._texts = TextStreams(recipe, self.tokens, config.max_positions)
        plain = {"query": "", "document": ""}
        self._sequences = [pool.sequences(plain) for pool in self._texts.pools]
        self.student, self.teacher = ElasticLM(config), ElasticLM(config)
        fill(self.teacher, teacher)
        sort_by_importance(self.teacher, [self.batch(step) for step in range(recipe.importance_batches)])
        self.student.load_state_dict(self.teacher.state_dict())
        self.teacher.requires_grad_(False)

    def prepare(self) -> None:
        """Nothing: the student starts as the sorted teacher."""

    def batch(self, step: int) -> TokenBatch:
        """The texts of ``step``."""
        number, rows = self._texts.rows(step)
        return self._texts.pools[number].padded(self._sequences[number], rows)

    def losses(self, batch: TokenBatch, subnets: list[Subnet]) -> Iterator[tuple[Subnet, Tensor]]:
        """The loss of each subnet, largest first."""
        heads = self.recipe.relation_heads
        with torch.no_grad():
            targets = _last_projections(self.teacher, batch, self.student.config.full).float()
        for subnet in subnets:
            found = _last_projections(self.student, batch, subnet).float()
            yield subnet, relation_loss(found, targets, batch.lengths, heads)


def _last_projections(model: ElasticLM, batch: TokenBatch, subnet: Subnet) -> Tensor:
    """Queries, keys and values ``[3, B, heads, L, head size]`` of the last layer of ``subnet``."""
    layers = model.config.layers(subnet.depth)
    x, bias = model.embed(batch), padding_bias(batch, model.dtype)
    x = model.run_layers(x, bias, layers[:-1], subnet.width)
    return model.elastic_layers()[layers[-1]].project(x, subnet.heads(model.config.num_heads))
