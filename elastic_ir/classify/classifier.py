"""``ElasticClassifier``: labels or a number for one sentence, or two, by any sub-network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from elastic_ir.elastic import ElasticScorer, Tokens, load_checkpoint
from elastic_ir.elastic.checkpoint import Checkpoint, fill
from elastic_ir.elastic.huggingface import extract_classifier
from elastic_ir.elastic.precision import Precision, autocast
from elastic_ir.elastic.pretrained import Pretrained, settings_of
from elastic_ir.elastic.tokens import BATCH_TOKENS, GPU_BATCH_TOKENS, by_token_budget
from elastic_ir.errors import InputError, ModelError
from elastic_ir.subnet import Subnet


class ClassifierSettings(BaseModel):
    """What the outputs mean and how texts are cut.

    Attributes:
        labels: names of the outputs; empty for a regression.
        max_length: tokens of a text, or of a pair, special tokens included; the longer sentence is cut first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: tuple[str, ...] = ()
    max_length: int = Field(default=128, ge=8)


class ElasticClassifier(Pretrained):
    """Sequence classification and regression with a width and a depth. Never changed by a call, so threads share it.

    Source: On Elastic Language Models (arXiv:2311.07204).
    """

    role = "classifier"
    model: ElasticScorer
    settings: ClassifierSettings

    def __init__(
        self, model: ElasticScorer, tokens: Tokens, settings: ClassifierSettings, name: str = "", fingerprint: str = ""
    ) -> None:
        outputs = model.config.outputs
        if len(settings.labels) not in ((0, 1) if outputs == 1 else (outputs,)):
            raise ModelError(f"{name or 'the model'} has {outputs} outputs and {len(settings.labels)} labels")
        self.model, self.tokens, self.settings = model.eval().requires_grad_(False), tokens, settings
        self.name, self.fingerprint = name, fingerprint

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, *, device: str = "cpu", **settings: Any) -> ElasticClassifier:
        """Load a folder or a Hugging Face hub id: one of ours, or a BERT for sequence classification.

        Args:
            name_or_path: e.g. ``"textattack/bert-base-uncased-CoLA"``, or a folder that ``elastic-ir glue`` made.
            device: torch device.
            settings: fields of ``ClassifierSettings`` that replace the checkpoint's.

        Raises:
            ModelError: if it cannot be had or read, or has no head.
        """
        return cls.from_checkpoint(load_checkpoint(name_or_path), device=device, **settings)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, *, device: str = "cpu", **settings: Any) -> ElasticClassifier:
        """As ``from_pretrained``, of a checkpoint already read."""
        config = checkpoint.config
        if not config.exits:
            raise ModelError(
                f"{checkpoint.name} is an encoder; wanted a classifier: fine-tune one with elastic-ir glue"
            )
        if config.ranker is not None:
            raise ModelError(f"{checkpoint.name} is a reranker; wanted a classifier, or load it with ElasticRanker")
        merged = settings_of(ClassifierSettings, config.classifier, settings, f"classifier {checkpoint.name}")
        model = ElasticScorer(config)
        fill(model, checkpoint)
        return cls(model.to(device), checkpoint.tokens, merged, checkpoint.name, checkpoint.fingerprint)

    def extract(self, subnet: Subnet | None = None) -> Any:
        """A plain ``transformers.BertForSequenceClassification`` that computes ``subnet`` (None: full).

        Raises:
            SubnetError: if there is no exit at this depth.
        """
        return extract_classifier(self.model, subnet, self.settings.labels)

    def predict(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, subnet: Subnet | None = None, **options: Any
    ) -> list[str] | list[float]:
        """The most likely label of each text, or the number that a regression gives; arguments as of ``logits``."""
        found = self.logits(texts, pairs, subnet, **options)
        if found.ndim == 1:
            return [float(value) for value in found]
        return [self.settings.labels[row] for row in found.argmax(-1)]

    @torch.inference_mode()
    def logits(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        subnet: Subnet | None = None,
        *,
        precision: Precision = "fp32",
    ) -> NDArray[np.float32]:
        """Raw outputs of each text.

        Args:
            texts: sentences, or the first of each pair.
            pairs: the second of each pair, as many; None where there is one sentence.
            subnet: sub-network; None means full.
            precision: ``fp32``, ``bf16``, ``int8`` or ``auto`` (the fastest here).

        Returns:
            ``[N, labels]`` float32, or ``[N]`` of a regression.

        Raises:
            SubnetError: if there is no exit at this depth. InputError: if texts and pairs differ in number, or one is
                no list of strings.
        """
        for given in (texts, () if pairs is None else pairs):
            if isinstance(given, str) or not all(isinstance(text, str) for text in given):
                raise InputError(f"found {given!r:.60}; wanted a list of strings")
        subnet, outputs, device = self.config.resolve(subnet), self.config.outputs, self.model.encoder.device
        sequences, firsts = sequences_of(
            self.tokens, texts, pairs, min(self.settings.max_length, self.config.max_positions)
        )
        result = np.empty((len(texts), outputs) if outputs > 1 else len(texts), np.float32)
        budget = GPU_BATCH_TOKENS if device.type == "cuda" else BATCH_TOKENS
        for rows in by_token_budget([len(sequence) for sequence in sequences], budget):
            batch = self.tokens.pad([sequences[row] for row in rows], [firsts[row] for row in rows]).to(device)
            with autocast(device, precision):
                result[rows] = self.model(batch, subnet).float().cpu().numpy()
        return result


def sequences_of(
    tokens: Tokens, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int
) -> tuple[list[list[int]], list[int]]:
    """Complete token sequences of texts, or of pairs, and how many leading tokens of each are of the first segment.

    Raises:
        InputError: if texts and pairs differ in number.
    """
    first = tokens.ids(texts, max_length - 2)
    if pairs is None:
        sequences = [tokens.single(ids) for ids in first]
        return sequences, [len(sequence) for sequence in sequences]
    if len(pairs) != len(texts):
        raise InputError(f"found {len(texts)} first and {len(pairs)} second sentences; wanted as many of each")
    sequences, firsts = [], []
    for one, two in zip(first, tokens.ids(pairs, max_length - 2), strict=True):
        room = max_length - 3
        half = (room + (len(one) > len(two))) // 2  # the longer has the odd one, as in transformers
        kept = min(len(one), max(half, room - len(two)))
        sequences.append(tokens.pair(one[:kept], two[: room - kept]))
        firsts.append(kept + 2)
    return sequences, firsts
