"""``ElasticScorer``: an elastic encoder with a small head after each exit."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from elastic_ir.elastic.config import ElasticConfig
from elastic_ir.elastic.model import ElasticLM, padding_bias
from elastic_ir.elastic.tokens import TokenBatch
from elastic_ir.subnet import Subnet


class ScoreHead(nn.Module):
    """BERT's pooler and a linear layer: ``[B, L, H]`` -> ``[B]``, or ``[B, outputs]`` where there are several."""

    def __init__(self, hidden_size: int, outputs: int = 1) -> None:
        super().__init__()
        self.pooler = nn.Linear(hidden_size, hidden_size)
        self.score = nn.Linear(hidden_size, outputs)

    def forward(self, hidden: Tensor) -> Tensor:
        """Score of each sequence, from its first token; never in bf16, whose 8 bits would give many the same score."""
        with torch.autocast(hidden.device.type, enabled=False):
            first = hidden[:, 0].to(self.pooler.weight.dtype)
            logits: Tensor = self.score(torch.tanh(self.pooler(first)))
        return logits.squeeze(-1) if logits.shape[-1] == 1 else logits


class ElasticScorer(nn.Module):
    """Encoder with exits, each with a head: a ranker's cross-encoder (one output), or a classifier.

    Source: Cascade Transformer (arXiv:2005.02534), On Elastic Language Models (arXiv:2311.07204).
    """

    def __init__(self, config: ElasticConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ElasticLM(config)
        self.heads = nn.ModuleDict(
            {str(depth): ScoreHead(config.hidden_size, config.outputs) for depth in config.exits}
        )

    def forward(self, batch: TokenBatch, subnet: Subnet | None = None) -> Tensor:
        """Raw scores ``[B]``, or ``[B, outputs]``, by ``subnet`` (None: full).

        Raises:
            SubnetError: if there is no exit at this depth.
        """
        subnet = self.config.resolve(subnet)
        scores: Tensor = self.heads[str(subnet.depth)](self.encoder(batch, subnet, positions=1))
        return scores

    def used_by(self, subnet: Subnet) -> set[str]:
        """Names of the parameters that ``subnet`` reads, in part or whole."""
        encoder = {f"encoder.{name}" for name in self.encoder.used_by(subnet)}
        head = f"heads.{subnet.depth}."
        return encoder | {name for name, _ in self.named_parameters() if name.startswith(head)}

    def at_every_exit(self, batch: TokenBatch, width: float, depth: int) -> dict[int, Tensor]:
        """Depth -> scores ``[B]`` of every exit down to ``depth``, in one pass at ``width``."""
        x, bias = self.encoder.embed(batch), padding_bias(batch, self.encoder.dtype)
        scores, done = {}, 0
        exits = [known for known in self.config.exits if known <= depth]
        for exit_depth in exits:
            wanted = 1 if exit_depth == exits[-1] else None
            x = self.encoder.run_layers(x, bias, list(range(done, exit_depth)), width, positions=wanted)
            scores[exit_depth], done = self.heads[str(exit_depth)](x), exit_depth
        return scores
