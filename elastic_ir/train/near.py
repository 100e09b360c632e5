"""Texts with some of their words exchanged for near ones, for a teacher to answer: more texts than there are labels."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

_NEAREST = 8
_EXCHANGED = 0.2
"""Chance of each word to be exchanged."""
_TOGETHER = 1024
"""Tokens whose similarities to all are held at once."""


class NearWords:
    """For each token used, those of the others whose vectors are nearest.

    Args:
        vectors: of the vocabulary ``[V, H]``.
        used: tokens that may be exchanged, each for another of them.

    Source: TinyBERT (arXiv:1909.10351), which asks a language model for the words.
    """

    def __init__(self, vectors: Tensor, used: Sequence[int]) -> None:
        tokens = torch.tensor(used, dtype=torch.int64)
        unit = F.normalize(vectors.detach().float().cpu()[tokens], dim=-1)
        count = min(_NEAREST, len(used) - 1)
        self._near: dict[int, list[int]] = {}
        for first in range(0, len(used), _TOGETHER):
            rows = torch.arange(first, min(first + _TOGETHER, len(used)))
            similar = unit[rows] @ unit.t()
            similar[torch.arange(len(rows)), rows] = -1.0  # itself
            nearest = tokens[similar.topk(count).indices].tolist()
            self._near |= zip(tokens[rows].tolist(), nearest, strict=True)

    def varied(self, sequence: Sequence[int], random: Random) -> list[int]:
        """``sequence`` with some tokens exchanged."""
        return [self._exchanged(token, random) for token in sequence]

    def _exchanged(self, token: int, random: Random) -> int:
        near = self._near.get(token)
        return random.choice(near) if near and random.random() < _EXCHANGED else token
