"""``ElasticLM``: a BERT encoder whose narrower and shallower versions are slices of its own weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from elastic_ir.elastic.config import ElasticConfig
from elastic_ir.elastic.tokens import TokenBatch
from elastic_ir.subnet import Subnet


class Gates(NamedTuple):
    """Multipliers on the heads ``[B, heads]`` and neurons ``[B, neurons]`` of one layer, for measuring importance."""

    heads: Tensor
    neurons: Tensor


class ElasticLayer(nn.Module):
    """One transformer layer that contains narrower ones.

    Every weight is stored with its elastic dimension first (query, key and value of a head lie
    together), so a narrower layer is a leading slice: a contiguous view, no copy.

    Source: DynaBERT (arXiv:2004.04037), Once-for-All (arXiv:1908.09791).
    """

    def __init__(self, config: ElasticConfig) -> None:
        super().__init__()
        hidden, neurons = config.hidden_size, config.intermediate_size
        self.config = config
        self.qkv = nn.Parameter(torch.empty(3 * hidden, hidden))  # [heads * (q, k, v) * head size, in]
        self.qkv_bias = nn.Parameter(torch.zeros(3 * hidden))
        self.out = nn.Parameter(torch.empty(hidden, hidden))  # [heads * head size, out]
        self.out_bias = nn.Parameter(torch.zeros(hidden))
        self.attention_norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.up = nn.Parameter(torch.empty(neurons, hidden))  # [neurons, in]
        self.up_bias = nn.Parameter(torch.zeros(neurons))
        self.down = nn.Parameter(torch.empty(neurons, hidden))  # [neurons, out]
        self.down_bias = nn.Parameter(torch.zeros(hidden))
        self.ffn_norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        for weight in (self.qkv, self.out, self.up, self.down):
            nn.init.normal_(weight, std=0.02)

    def forward(self, x: Tensor, bias: Tensor | None, heads: int, neurons: int, gates: Gates | None = None) -> Tensor:
        """Run the leading ``heads`` and ``neurons``.

        Args:
            x: ``[B, L, H]``.
            bias: ``[B, 1, 1, L]``, 0 for tokens and -inf for padding; None when nothing is padded.
            heads: attention heads used.
            neurons: feed-forward neurons used.
            gates: multipliers for measuring importance; None for none.

        Returns:
            ``[B, L, H]``.
        """
        batch, length, _ = x.shape
        size = self.config.head_size
        projected = F.linear(x, self.qkv[: heads * 3 * size], self.qkv_bias[: heads * 3 * size])
        q, k, v = projected.view(batch, length, heads, 3, size).permute(3, 0, 2, 1, 4)
        attended = _attend(q, k, v, bias)
        if gates is not None:
            attended = attended * gates.heads[:, :heads, None, None]
        attended = attended.transpose(1, 2).reshape(batch, length, heads * size)
        x = self.attention_norm(x + attended @ self.out[: heads * size] + self.out_bias)
        activated = F.gelu(F.linear(x, self.up[:neurons], self.up_bias[:neurons]))
        if gates is not None:
            activated = activated * gates.neurons[:, None, :neurons]
        normed: Tensor = self.ffn_norm(x + activated @ self.down[:neurons] + self.down_bias)
        return normed


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    # The CPU backward of the fused kernel takes two thirds of a training step: plain softmax there.
    if torch.is_grad_enabled():
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        return (scores if bias is None else scores + bias.to(scores.dtype)).softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


class ElasticLM(nn.Module):
    """A BERT encoder that runs any of its sub-networks.

    The subnet is an argument of the call, so threads at different subnets share one model safely.

    Source: On Elastic Language Models (arXiv:2311.07204).
    """

    def __init__(self, config: ElasticConfig) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden_size
        self.words = nn.Embedding(config.vocab_size, hidden)
        self.positions = nn.Embedding(config.max_positions, hidden)
        self.types = nn.Embedding(config.type_vocab_size, hidden)
        self.embedding_norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.layers = nn.ModuleList(ElasticLayer(config) for _ in range(config.num_layers))

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path) -> ElasticLM:
        """Load the encoder of a bundled name, a folder, or a Hugging Face hub id, in fp32, ready for inference.

        Raises:
            ModelError: if it cannot be had or read, or is a cross-encoder.
        """
        from elastic_ir.elastic.checkpoint import fill, load_checkpoint

        checkpoint = load_checkpoint(name_or_path)
        model = cls(checkpoint.config)
        fill(model, checkpoint)
        return model.eval()

    def extract(self, subnet: Subnet | None = None) -> Any:
        """A plain ``transformers.BertModel`` that computes ``subnet`` (None: full)."""
        from elastic_ir.elastic.huggingface import extract

        return extract(self, subnet)

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the weights."""
        return self.words.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.words.weight.device

    def elastic_layers(self) -> list[ElasticLayer]:
        """The transformer layers, first to last."""
        return [layer for layer in self.layers if isinstance(layer, ElasticLayer)]

    def forward(self, batch: TokenBatch, subnet: Subnet | None = None) -> Tensor:
        """Last hidden states ``[B, L, H]`` of ``batch`` by ``subnet`` (None: full).

        Raises:
            SubnetError: if the model does not have this subnet.
        """
        subnet = self.config.resolve(subnet)
        layers = self.config.layers(subnet.depth)
        return self.run_layers(self.embed(batch), padding_bias(batch, self.dtype), layers, subnet.width)

    def embed(self, batch: TokenBatch) -> Tensor:
        """Input embeddings ``[B, L, H]``."""
        positions = torch.arange(batch.input_ids.shape[1], device=batch.input_ids.device)
        types = self.types.weight[0] if batch.type_ids is None else self.types(batch.type_ids)
        embedded: Tensor = self.embedding_norm(self.words(batch.input_ids) + types + self.positions(positions))
        return embedded

    def run_layers(
        self, x: Tensor, bias: Tensor | None, layers: list[int], width: float, gates: list[Gates] | None = None
    ) -> Tensor:
        """Carry ``x`` ``[B, L, H]`` through the zero-based ``layers`` at ``width``."""
        subnet = Subnet(width, self.config.num_layers)
        heads, neurons = subnet.heads(self.config.num_heads), subnet.neurons(self.config.intermediate_size)
        for index in layers:
            x = self.layers[index](x, bias, heads, neurons, None if gates is None else gates[index])
        return x


def padding_bias(batch: TokenBatch, dtype: torch.dtype) -> Tensor | None:
    """``[B, 1, 1, L]`` with 0 for tokens and a large negative number for padding; None when nothing is padded."""
    length = batch.input_ids.shape[1]
    if bool((batch.lengths == length).all()):
        return None
    padded = torch.arange(length, device=batch.lengths.device)[None, :] >= batch.lengths[:, None]
    bias = torch.zeros(padded.shape, dtype=dtype, device=padded.device)
    return bias.masked_fill_(padded, torch.finfo(dtype).min)[:, None, None, :]
