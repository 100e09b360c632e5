"""Sort heads and neurons by importance, so that a narrower layer is the leading slice of a wider one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from elastic_ir.elastic.model import ElasticLM, Gates, padding_bias
from elastic_ir.elastic.tokens import TokenBatch

Readout = Callable[[Tensor], Tensor]
"""Last hidden states ``[B, L, H]`` -> one number a row, ``[B]``."""


def random_direction(hidden_size: int, seed: int = 0) -> Readout:
    """Readout of a denser: the first token's unit vector along a fixed random direction."""
    direction = torch.randn(hidden_size, generator=torch.Generator().manual_seed(seed))

    def read(hidden: Tensor) -> Tensor:
        return torch.nn.functional.normalize(hidden[:, 0], dim=-1) @ direction.to(hidden.device)

    return read


def measure(model: ElasticLM, batches: Iterable[TokenBatch], readouts: Iterable[Readout]) -> list[Gates]:
    """Mean |d readout / d gate| of every head and neuron, a ``Gates`` of 1-D tensors per layer.

    A self-distillation loss has no gradient at full size; a readout has.

    Source: DynaBERT (arXiv:2004.04037), section 2.1.
    """
    config, device = model.config, model.device
    full, sizes = config.layers(config.num_layers), (config.num_heads, config.intermediate_size)
    totals = [Gates(*(torch.zeros(size, device=device) for size in sizes)) for _ in full]
    for found, readout in zip(batches, readouts, strict=False):
        batch, rows = found.to(device), len(found.lengths)
        gates = [Gates(*(torch.ones(rows, size, device=device, requires_grad=True) for size in sizes)) for _ in full]
        x, bias = model.embed(batch), padding_bias(batch, model.dtype)
        value = readout(model.run_layers(x, bias, full, 1.0, gates=gates)).sum()
        flat = torch.autograd.grad(value, [gate for layer in gates for gate in layer])
        for index, total in enumerate(totals):
            total.heads.add_(flat[2 * index].abs().sum(0))
            total.neurons.add_(flat[2 * index + 1].abs().sum(0))
    return totals


def sort_by_importance(model: ElasticLM, batches: Sequence[TokenBatch]) -> None:
    """Reorder an encoder by what its first-token vector owes to each head and neuron on ``batches``."""
    directions = [random_direction(model.config.hidden_size, seed) for seed in range(len(batches))]
    reorder(model, measure(model, batches, directions))


@torch.no_grad()
def reorder(model: ElasticLM, importance: list[Gates]) -> None:
    """Permute heads and neurons of the full model's layers, most important first; what it computes stays the same."""
    size = model.config.head_size
    for layer, measured in zip(model.elastic_layers()[: model.config.num_layers], importance, strict=True):
        heads = measured.heads.argsort(descending=True, stable=True)
        neurons = measured.neurons.argsort(descending=True, stable=True)
        for weight, block in ((layer.qkv, 3 * size), (layer.qkv_bias, 3 * size), (layer.out, size)):
            blocks = weight.view(model.config.num_heads, block, *weight.shape[1:])
            weight.copy_(blocks[heads].reshape(weight.shape))
        for weight in (layer.up, layer.up_bias, layer.down):
            weight.copy_(weight[neurons])
