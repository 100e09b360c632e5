"""Draw a trained elastic encoder part of the way back to its teacher: a start for the next training.

Every weight becomes `share` of the trained one and the rest of the teacher's; heads and neurons, which training had
sorted, are matched first. The full sub-network gains, since the teacher is where it wants to be; the smaller ones keep
their own normalisation and biases, and get the trained last layer as a layer of their own.

python benchmarks/recipes/blend.py work/full-900/checkpoint $TEACHER work/blend --share 0.7
"""

from __future__ import annotations

import argparse

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from elastic_ir.elastic import load_checkpoint, save_checkpoint

State = dict[str, Tensor]


def matched(teacher: State, trained: State, layers: int, heads: int) -> State:
    """The ``teacher``'s tensors with heads and neurons in the order of the ``trained`` model's."""
    found = dict(teacher)
    for layer in (f"layers.{index}." for index in range(layers)):
        for order_by, moved, parts in (
            (("up", "down"), ("up", "up_bias", "down"), None),
            (("qkv", "out"), ("qkv", "qkv_bias", "out"), heads),
        ):
            likeness = torch.zeros(())
            for name in order_by:
                mine, theirs = (state[layer + name] for state in (trained, teacher))
                mine, theirs = (tensor.reshape(parts or len(tensor), -1) for tensor in (mine, theirs))
                likeness = likeness + F.normalize(mine, dim=1) @ F.normalize(theirs, dim=1).t()
            order = torch.from_numpy(linear_sum_assignment(-likeness.numpy())[1])
            for name in moved:
                tensor = teacher[layer + name]
                found[layer + name] = tensor.view(parts or len(tensor), -1)[order].reshape(tensor.shape)
    return found


def main() -> None:
    """Write the blended checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained")
    parser.add_argument("teacher")
    parser.add_argument("output")
    parser.add_argument("--share", type=float, default=0.7, help="of the trained weights; 1 changes nothing")
    arguments = parser.parse_args()
    trained, teacher = load_checkpoint(arguments.trained), load_checkpoint(arguments.teacher)
    config, count = trained.config, trained.config.num_layers
    theirs = matched(teacher.state, trained.state, count, config.num_heads)
    state = {}
    for name, mine in trained.state.items():
        state[name] = torch.lerp(theirs[name], mine, arguments.share) if name in theirs else mine
    if not config.own_last:
        last, own = f"layers.{count - 1}.", f"layers.{count}."
        state |= {name.replace(last, own): mine for name, mine in trained.state.items() if name.startswith(last)}
        state = {name.replace(last, own) if name.startswith("own.") else name: t for name, t in state.items()}
    save_checkpoint(arguments.output, config.model_copy(update={"own_last": True}), state, trained.tokens)


if __name__ == "__main__":
    main()
