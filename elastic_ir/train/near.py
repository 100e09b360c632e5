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


class NearWords:
    """For each token used, those of the others whose vectors are nearest.

    Args:
        vectors: of the vocabulary ``[V, H]``.
        used: tokens that are exchanged, and what they are exchanged for.

    Source: TinyBERT (arXiv:1909.10351), which asks a language model for the words.
    """

    def __init__(self, vectors: Tensor, used: Sequence[int]) -> None:
        tokens = torch.tensor(used)
        unit = F.normalize(vectors.detach().float().cpu()[tokens], dim=-1)
        count = min(_NEAREST, len(used) - 1)
        self._near: dict[int, list[int]] = {}
        for rows in torch.arange(len(used)).split(1024):
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
