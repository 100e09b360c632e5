"""``ElasticLM``: a BERT encoder whose narrower and shallower versions are slices of its own weights."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from elastic_ir.allocator import keep_buffers
from elastic_ir.elastic import bf16, int8
from elastic_ir.elastic.config import ElasticConfig
from elastic_ir.elastic.packed import PackedWeights
from elastic_ir.elastic.tokens import TokenBatch
from elastic_ir.subnet import Subnet


class Gates(NamedTuple):
    """Multipliers on the heads ``[B, heads]`` and neurons ``[B, neurons]`` of one layer, for measuring importance."""

    heads: Tensor
    neurons: Tensor


class Vectors(NamedTuple):
    """Biases and normalisation of one layer: what a subnet that shares its matrices may have to itself.

    ``qkv_bias`` ``[heads * (q, k, v) * head size]``, ``up_bias`` ``[neurons]``, all others ``[H]``.
    """

    qkv_bias: Tensor
    out_bias: Tensor
    attention_scale: Tensor
    attention_shift: Tensor
    up_bias: Tensor
    down_bias: Tensor
    ffn_scale: Tensor
    ffn_shift: Tensor


class ElasticLayer(nn.Module):
    """One transformer layer that contains narrower ones.

    Every weight is stored with its elastic dimension first (query, key and value of a head lie
    together), so a narrower layer is a leading slice: a contiguous view, no copy.

    Source: DynaBERT (arXiv:2004.04037), Once-for-All (arXiv:1908.09791).
    """

    def __init__(self, config: ElasticConfig, width: float = 1.0) -> None:
        super().__init__()
        widest = Subnet(width, config.num_layers)
        hidden, neurons = config.hidden_size, widest.neurons(config.intermediate_size)
        attention = widest.heads(config.num_heads) * config.head_size
        self.config = config
        self.qkv = nn.Parameter(torch.empty(3 * attention, hidden))  # [heads * (q, k, v) * head size, in]
        self.qkv_bias = nn.Parameter(torch.zeros(3 * attention))
        self.out = nn.Parameter(torch.empty(attention, hidden))  # [heads * head size, out]
        self.out_bias = nn.Parameter(torch.zeros(hidden))
        self.attention_norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.up = nn.Parameter(torch.empty(neurons, hidden))  # [neurons, in]
        self.up_bias = nn.Parameter(torch.zeros(neurons))
        self.down = nn.Parameter(torch.empty(neurons, hidden))  # [neurons, out]
        self.down_bias = nn.Parameter(torch.zeros(hidden))
        self.ffn_norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        for weight in (self.qkv, self.out, self.up, self.down):
            nn.init.normal_(weight, std=0.02)
        self._packed = PackedWeights()

    def train(self, mode: bool = True) -> Self:
        """As of any module; packed weights are forgotten, for a fused optimizer changes weights without a trace."""
        self._packed = PackedWeights()
        return super().train(mode)

    def vectors(self) -> Vectors:
        """The biases and normalisation that subnets share."""
        attention, ffn = self.attention_norm, self.ffn_norm
        return Vectors(
            self.qkv_bias, self.out_bias, attention.weight, attention.bias,
            self.up_bias, self.down_bias, ffn.weight, ffn.bias,
        )  # fmt: skip

    def forward(
        self,
        x: Tensor,
        bias: Tensor | None,
        heads: int,
        neurons: int,
        own: Vectors | None = None,
        gates: Gates | None = None,
        positions: int | None = None,
    ) -> Tensor:
        """Run the leading ``heads`` and ``neurons``.

        Args:
            x: ``[B, L, H]``.
            bias: ``[B, 1, 1, L]``, 0 for tokens and -inf for padding; None when nothing is padded.
            heads: attention heads used.
            neurons: feed-forward neurons used.
            own: biases and normalisation in place of the shared ones; None for the shared ones.
            gates: multipliers for measuring importance; None for none.
            positions: leading positions whose output is wanted; they attend to all. None for all.

        Returns:
            ``[B, L, H]``, or ``[B, positions, H]``.
        """
        batch, length, hidden = x.shape
        size, eps = self.config.head_size, self.config.layer_norm_eps
        v = own or self.vectors()
        query, key, value = self.project(x, heads, own)
        if positions is not None:
            query, x, length = query[:, :, :positions], x[:, :positions], min(positions, length)
        attended = _attend(query, key, value, bias)
        if gates is not None:
            attended = attended * gates.heads[:, :heads, None, None]
        attended = attended.transpose(1, 2).reshape(batch, length, heads * size)
        x = x + self._times(attended, "out", heads * size, v.out_bias)
        x = F.layer_norm(x, (hidden,), v.attention_scale, v.attention_shift, eps)
        activated = F.gelu(self._times(x, "up", neurons, v.up_bias[:neurons]))
        if gates is not None:
            activated = activated * gates.neurons[:, None, :neurons]
        x = x + self._times(activated, "down", neurons, v.down_bias)
        return F.layer_norm(x, (hidden,), v.ffn_scale, v.ffn_shift, eps)

    def project(self, x: Tensor, heads: int, own: Vectors | None = None) -> Tensor:
        """Queries, keys and values ``[3, B, heads, L, head size]`` of the leading ``heads`` for ``x`` ``[B, L, H]``."""
        (batch, length, _), size = x.shape, self.config.head_size
        bias = self.qkv_bias if own is None else own.qkv_bias
        projected = self._times(x, "qkv", heads * 3 * size, bias[: heads * 3 * size])
        return projected.view(batch, length, heads, 3, size).permute(3, 0, 2, 1, 4)

    def _times(self, x: Tensor, name: str, size: int, bias: Tensor) -> Tensor:
        """``x`` through the leading ``size`` rows of the matrix ``name``, plus ``bias``."""
        matrix: Tensor = getattr(self, name)
        weight = matrix if size == len(matrix) else matrix[:size]  # whole: one for autocast to convert once
        if name in ("out", "down"):
            weight = weight.t()
        if not torch.is_grad_enabled():
            if int8.int8_is_active():
                return int8.linear(x, self._packed.get(int8.pack, name, matrix, weight), bias)
            if bf16.is_active(x):
                return bf16.linear(x, self._packed.get(bf16.pack, name, matrix, weight), bias)
        return F.linear(x, weight, bias)


LAYER_NAMES = dict(
    zip(
        Vectors._fields,
        ("qkv_bias", "out_bias", "attention_norm.weight", "attention_norm.bias",
         "up_bias", "down_bias", "ffn_norm.weight", "ffn_norm.bias"),
        strict=True,
    )
)  # fmt: skip
"""Where an ``ElasticLayer`` keeps what ``Vectors`` names."""
_FIELDS = {name: field for field, name in LAYER_NAMES.items()}


class Own(nn.Module):
    """What one subnet has to itself: normalisation and biases, or its layers whole, as narrow as it is.

    The vectors are a few kilobytes a layer, and the matrices stay shared; layers of its own are for the smallest. All
    start as the shared ones.

    Source: Slimmable Networks (arXiv:1812.08928) for normalisation of each width, BitFit (arXiv:2106.10199) for
    what biases alone can adapt.
    """

    def __init__(self, config: ElasticConfig, subnet: Subnet) -> None:
        super().__init__()
        hidden, neurons = config.hidden_size, subnet.neurons(config.intermediate_size)
        attention = subnet.heads(config.num_heads) * config.head_size
        sizes = (3 * attention, hidden, hidden, hidden, neurons, hidden, hidden, hidden)
        self.embedding_scale = nn.Parameter(torch.ones(hidden))
        self.embedding_shift = nn.Parameter(torch.zeros(hidden))
        self.layers = nn.ModuleDict(
            {
                str(layer): ElasticLayer(config, subnet.width)
                if str(subnet) in config.own_layers
                else nn.ParameterDict(dict(zip(Vectors._fields, map(torch.zeros, sizes), strict=True)))
                for layer in config.layers(subnet.depth)
            }
        )

    def layer(self, index: int, shared: ElasticLayer) -> tuple[ElasticLayer, Vectors | None]:
        """The layer that stands for the ``shared`` one of zero-based ``index``, and the vectors it runs with."""
        mine = self.layers[str(index)]
        if isinstance(mine, ElasticLayer):
            return mine, None
        return shared, Vectors(*(getattr(mine, name) for name in Vectors._fields))

    def of_layer(self, index: int) -> dict[str, Tensor]:
        """The tensors it has in place of those of the zero-based layer ``index``, by their names there."""
        mine = self.layers[str(index)]
        if isinstance(mine, ElasticLayer):
            return dict(mine.named_parameters())
        return {name: getattr(mine, field) for field, name in LAYER_NAMES.items()}

    @torch.no_grad()
    def start_from(self, model: ElasticLM, missing: Collection[str] | None = None) -> None:
        """Copy what all subnets share; ``missing`` names the parameters that need it (None: all)."""
        norm = model.embedding_norm
        pairs: list[tuple[str, Tensor, Tensor]] = [
            ("embedding_scale", self.embedding_scale, norm.weight),
            ("embedding_shift", self.embedding_shift, norm.bias),
        ]
        for index, mine in self.layers.items():
            shared = dict(model.elastic_layers()[int(index)].named_parameters())
            for name, tensor in self.of_layer(int(index)).items():
                stored = name if isinstance(mine, ElasticLayer) else _FIELDS[name]
                pairs.append((f"layers.{index}.{stored}", tensor, shared[name]))
        for name, tensor, source in pairs:
            if missing is None or name in missing:
                tensor.copy_(source[: len(tensor)])


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    # The CPU backward of the fused kernel takes two thirds of a training step: plain softmax there.
    if torch.is_grad_enabled() and q.device.type == "cpu":
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
        keep_buffers()
        self.config = config
        hidden = config.hidden_size
        self.words = nn.Embedding(config.vocab_size, hidden)
        self.positions = nn.Embedding(config.max_positions, hidden)
        self.types = nn.Embedding(config.type_vocab_size, hidden)
        self.embedding_norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.layers = nn.ModuleList(ElasticLayer(config) for _ in range(config.stored_layers))
        self.own = nn.ModuleDict(
            {_key(name): Own(config, Subnet.parse(name)) for name in (*config.own, *config.own_layers)}
        )

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

    def forward(self, batch: TokenBatch, subnet: Subnet | None = None, positions: int | None = None) -> Tensor:
        """Last hidden states of ``batch`` by ``subnet`` (None: full).

        Args:
            batch: padded texts.
            subnet: sub-network; None means full.
            positions: leading positions wanted: 1 where only the first token is read, which spares three quarters of
                the last layer; None means all.

        Returns:
            ``[B, L, H]``, or ``[B, positions, H]``.

        Raises:
            SubnetError: if the model does not have this subnet.
        """
        subnet = self.config.resolve(subnet)
        own = self.own_part(subnet)
        x, bias = self.embed(batch, own), padding_bias(batch, self.dtype)
        return self.run_layers(x, bias, self.config.layers(subnet.depth), subnet.width, own, positions=positions)

    def own_part(self, subnet: Subnet) -> Own | None:
        """What ``subnet`` has to itself; None when it shares all."""
        key = _key(str(subnet))
        found = self.own[key] if key in self.own else None  # noqa: SIM401 - a ModuleDict has no get
        return found if isinstance(found, Own) else None

    def used_by(self, subnet: Subnet) -> set[str]:
        """Names of the parameters that ``subnet`` reads, in part or whole."""
        own = _key(str(subnet)) if self.own_part(subnet) is not None else None
        shares = str(subnet) not in self.config.own_layers
        layers = {f"layers.{index}" for index in self.config.layers(subnet.depth) if shares}
        used = set()
        for name, parameter in self.named_parameters():
            if name.startswith("own."):
                mine = own is not None and name.startswith(f"own.{own}.")
            elif parameter.dim() == 1 and own is not None:
                mine = False
            else:
                mine = not name.startswith("layers.") or ".".join(name.split(".")[:2]) in layers
            if mine:
                used.add(name)
        return used

    def embed(self, batch: TokenBatch, own: Own | None = None) -> Tensor:
        """Input embeddings ``[B, L, H]``, normalised by ``own`` or, for None, as all subnets share."""
        positions = torch.arange(batch.input_ids.shape[1], device=batch.input_ids.device)
        types = self.types.weight[0] if batch.type_ids is None else self.types(batch.type_ids)
        embedded = self.words(batch.input_ids) + types + self.positions(positions)
        norm = self.embedding_norm
        scale, shift = (norm.weight, norm.bias) if own is None else (own.embedding_scale, own.embedding_shift)
        return F.layer_norm(embedded, norm.normalized_shape, scale, shift, norm.eps)

    def run_layers(
        self,
        x: Tensor,
        bias: Tensor | None,
        layers: list[int],
        width: float,
        own: Own | None = None,
        gates: list[Gates] | None = None,
        positions: int | None = None,
    ) -> Tensor:
        """Carry ``x`` ``[B, L, H]`` through the zero-based ``layers`` at ``width``; the last gives ``positions``."""
        subnet = Subnet(width, self.config.num_layers)
        heads, neurons = subnet.heads(self.config.num_heads), subnet.neurons(self.config.intermediate_size)
        stored = self.elastic_layers()
        for index in layers:
            layer, vectors = stored[index], None
            if own is not None:
                layer, vectors = own.layer(index, layer)
            wanted = positions if index == layers[-1] else None
            x = layer(x, bias, heads, neurons, vectors, None if gates is None else gates[index], wanted)
        return x


def _key(subnet: str) -> str:
    # module names cannot hold a dot
    return subnet.replace(".", "_")


def padding_bias(batch: TokenBatch, dtype: torch.dtype) -> Tensor | None:
    """``[B, 1, 1, L]`` with 0 for tokens and a large negative number for padding; None when nothing is padded.

    A GPU is not asked whether anything is: the answer would hold up the work queued for it.
    """
    length = batch.input_ids.shape[1]
    if batch.lengths.device.type == "cpu" and bool((batch.lengths == length).all()):
        return None
    padded = torch.arange(length, device=batch.lengths.device)[None, :] >= batch.lengths[:, None]
    bias = torch.zeros(padded.shape, dtype=dtype, device=padded.device)
    return bias.masked_fill_(padded, torch.finfo(dtype).min)[:, None, None, :]
