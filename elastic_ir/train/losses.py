"""Distillation losses; each is a mean over the batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def cosine_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine of ``[B, D]`` vectors to the teacher's."""
    return (1 - F.cosine_similarity(student, teacher, dim=-1)).mean()


def similarity_loss(student: Tensor, teacher: Tensor, others: Tensor, temperature: float) -> Tensor:
    """KL of the student's similarities to ``others`` against the teacher's, over their softmax; unit vectors.

    The student's texts are compared with the teacher's vectors, as they will be with the documents of an index.

    Args:
        student: ``[B, D]``.
        teacher: of the same texts ``[B, D]``.
        others: the teacher's vectors that both are compared with ``[N, D]``.
        temperature: of the softmax.
    """
    target = (teacher @ others.t() / temperature).log_softmax(-1)
    found = (student @ others.t() / temperature).log_softmax(-1)
    return F.kl_div(found, target, reduction="batchmean", log_target=True)


def list_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL of the softmax over each candidate list, scores ``[lists, candidates]``."""
    found, target = (student / temperature).log_softmax(-1), (teacher / temperature).log_softmax(-1)
    return F.kl_div(found, target, reduction="batchmean", log_target=True)


def score_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth L1 between raw scores of any shape."""
    return F.smooth_l1_loss(student, teacher, beta=2.0)


def answer_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL of the softmax over labels, answers ``[B, labels]``, times the temperature squared; of a regression ``[B]``
    the squared error."""
    if student.dim() == 1:
        return F.mse_loss(student, teacher)
    return temperature**2 * list_loss(student, teacher, temperature)


def label_loss(answers: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy of answers ``[B, labels]`` to the numbers of the right ones ``[B]``; of a regression ``[B]`` the
    squared error. Rows whose label is not ``known`` ``[B]`` count as 0."""
    compare = F.mse_loss if answers.dim() == 1 else F.cross_entropy
    return (compare(answers, labels, reduction="none") * known).mean()


def relation_loss(student: Tensor, teacher: Tensor, lengths: Tensor, heads: int) -> Tensor:
    """KL of token-to-token relations, mean over queries, keys and values, relation heads and tokens.

    Args:
        student: projections ``[3, B, heads, L, head size]``; their vectors are joined and split into ``heads``.
        teacher: the same, of the teacher; it may have more heads.
        lengths: tokens of each text ``[B]``.
        heads: relation heads; divides heads times head size of both.
    """
    length = student.shape[3]
    padded = torch.arange(length, device=lengths.device)[None, :] >= lengths[:, None]

    def related(projected: Tensor) -> Tensor:
        kinds, batch, _, _, _ = projected.shape
        split = projected.transpose(2, 3).reshape(kinds, batch, length, heads, -1).transpose(2, 3)
        scores = split @ split.transpose(-1, -2) / math.sqrt(split.shape[-1])
        return scores.masked_fill(padded[None, :, None, None, :], torch.finfo(scores.dtype).min).log_softmax(-1)

    divergence = F.kl_div(related(student), related(teacher), reduction="none", log_target=True).sum(-1)
    return (divergence * ~padded[None, :, None, :]).sum() / (3 * heads * lengths.sum())


def hidden_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Squared error of hidden states ``[B, L, H]`` over the teacher's size; ``mask`` ``[B, L]`` is 1 for tokens."""
    weight = mask[..., None].to(teacher.dtype)
    return ((student - teacher).square() * weight).sum() / (teacher.square() * weight).sum()
