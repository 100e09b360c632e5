"""The denser's objective: every subnet's query vector becomes the teacher's."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from elastic_ir.dense import denser_settings, pool
from elastic_ir.elastic import ElasticConfig, ElasticLM, TokenBatch, Tokens
from elastic_ir.elastic.checkpoint import Checkpoint
from elastic_ir.elastic.importance import measure, random_direction, reorder
from elastic_ir.elastic.model import padding_bias
from elastic_ir.subnet import Subnet
from elastic_ir.train.data import Texts
from elastic_ir.train.losses import cosine_loss, hidden_loss, similarity_loss
from elastic_ir.train.recipe import Recipe


class DenserObjective:
    """Cosine to the teacher's vector, in-batch similarities, and the teacher's hidden states.

    Source: On Elastic Language Models (arXiv:2311.07204); KALE (arXiv:2304.01016) for aligning queries only.
    """

    def __init__(self, recipe: Recipe, checkpoint: Checkpoint) -> None:
        self.recipe, self.tokens = recipe, checkpoint.tokens
        self.settings = denser_settings(checkpoint, recipe.denser.model_dump(exclude_unset=True))
        prompts = {"query": self.settings.query_prompt, "document": self.settings.document_prompt}
        self.data = Texts(recipe, prompts)
        config = checkpoint.config.model_copy(update={"denser": self.settings.model_dump(), "depth_rule": "spaced"})
        self.teacher, self.student = _model(config, checkpoint.state), _model(config, checkpoint.state)
        self.teacher.requires_grad_(False)

    @property
    def config(self) -> ElasticConfig:
        """Shape of the student."""
        return self.student.config

    @property
    def tokenizer(self) -> Tokens:
        """Tokenizer of the student."""
        return self.tokens

    def order_by_importance(self) -> None:
        """Sort the student's heads and neurons; the teacher keeps its own order."""
        batches = [self.batch(step) for step in range(self.recipe.importance_batches)]
        directions = [random_direction(self.config.hidden_size, seed) for seed in range(len(batches))]
        reorder(self.student, measure(self.student, batches, directions))

    def batch(self, step: int) -> TokenBatch:
        """The token batch of ``step``, prompts included."""
        texts = self.data.batch(step)
        return self.tokens.pad([self.tokens.single(ids) for ids in self.tokens.ids(texts, self.recipe.max_tokens - 2)])

    def targets(self, batch: TokenBatch) -> list[Tensor]:
        """The teacher's hidden states after every layer, each ``[B, L, H]``."""
        with torch.no_grad():
            return _hidden_states(self.teacher, batch, self.config.full)

    def loss(self, batch: TokenBatch, targets: list[Tensor], subnet: Subnet) -> Tensor:
        """Loss of one subnet."""
        states = _hidden_states(self.student, batch, subnet)
        teacher, student = (
            F.normalize(pool(hidden.float(), batch.lengths, self.settings.pooling), dim=-1)
            for hidden in (targets[-1], states[-1])
        )
        loss = 10 * cosine_loss(student, teacher) + similarity_loss(student, teacher, self.recipe.temperature)
        if self.recipe.hidden_loss:
            mask = torch.arange(batch.input_ids.shape[1], device=student.device)[None, :] < batch.lengths[:, None]
            layers = self.config.layers(subnet.depth)
            terms = [
                hidden_loss(state.float(), targets[layer].float(), mask)
                for state, layer in zip(states, layers, strict=True)
            ]
            loss = loss + self.recipe.hidden_loss * torch.stack(terms).mean()
        return loss


def _model(config: ElasticConfig, state: dict[str, Tensor]) -> ElasticLM:
    model = ElasticLM(config)
    model.load_state_dict(state)
    return model


def _hidden_states(model: ElasticLM, batch: TokenBatch, subnet: Subnet) -> list[Tensor]:
    x, bias = model.embed(batch), padding_bias(batch, model.dtype)
    states = []
    for layer in model.config.layers(subnet.depth):
        x = model.run_layers(x, bias, [layer], subnet.width)
        states.append(x)
    return states
