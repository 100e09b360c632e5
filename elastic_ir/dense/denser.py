"""``ElasticDenser``: the elastic model as a dense retriever."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from elastic_ir.elastic import ElasticConfig, ElasticLM, TokenBatch, Tokens, load_checkpoint
from elastic_ir.elastic.checkpoint import Checkpoint, fill
from elastic_ir.elastic.precision import Precision, autocast, resolve
from elastic_ir.elastic.pretrained import Pretrained, settings_of
from elastic_ir.elastic.tokens import BATCH_TOKENS, GPU_BATCH_TOKENS, by_token_budget
from elastic_ir.errors import InputError, ModelError
from elastic_ir.progress import track
from elastic_ir.records import EncoderCard
from elastic_ir.subnet import Subnet

Pooling = Literal["cls", "mean"]
LEAST_LENGTH = 3


class DenserSettings(BaseModel):
    """How hidden states become a vector.

    Attributes:
        pooling: the first token's state, or the mean over tokens.
        query_prompt: text put before every query.
        document_prompt: text put before every document.
        max_length: tokens kept of a text, prompt and special tokens included.
        space: name of the vector space; None means the model's own fingerprint.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pooling: Pooling = "cls"
    query_prompt: str = ""
    document_prompt: str = ""
    max_length: int = Field(default=512, ge=8)
    space: str | None = None


class ElasticDenser(Pretrained):
    """Encodes documents and queries by any sub-network; one index serves every query subnet.

    The object is never changed by a call, so threads share it.

    Source: On Elastic Language Models (arXiv:2311.07204).
    """

    role = "denser"
    model: ElasticLM
    settings: DenserSettings

    def __init__(
        self, model: ElasticLM, tokens: Tokens, settings: DenserSettings, name: str = "", fingerprint: str = ""
    ) -> None:
        check_settings(settings, model.config, tokens)
        self.model, self.tokens, self.settings = model.eval().requires_grad_(False), tokens, settings
        self.name, self.fingerprint = name, fingerprint

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, *, device: str = "cpu", **settings: Any) -> ElasticDenser:
        """Load a bundled name, a folder, or a Hugging Face hub id.

        Args:
            name_or_path: e.g. ``"elastic-denser-small"`` or ``"BAAI/bge-small-en-v1.5"``.
            device: torch device.
            settings: fields of ``DenserSettings`` that replace the checkpoint's.

        Raises:
            ModelError: if it cannot be had or read.
        """
        return cls.from_checkpoint(load_checkpoint(name_or_path), device=device, **settings)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, *, device: str = "cpu", **settings: Any) -> ElasticDenser:
        """As ``from_pretrained``, of a checkpoint already read."""
        if checkpoint.config.exits:
            raise ModelError(
                f"{checkpoint.name} is a reranker or classifier; wanted a denser (an encoder without heads)"
            )
        model = ElasticLM(checkpoint.config)
        fill(model, checkpoint)
        merged = denser_settings(checkpoint, settings)
        return cls(model.to(device), checkpoint.tokens, merged, checkpoint.name, checkpoint.fingerprint)

    @property
    def dimension(self) -> int:
        """Components of a vector, the same for every subnet."""
        return self.config.hidden_size

    def card(self, subnet: Subnet | None = None) -> EncoderCard:
        """What an index records of the vectors that ``subnet`` makes."""
        settings = self.settings
        return EncoderCard(
            model=self.name,
            fingerprint=self.fingerprint,
            space=settings.space or self.fingerprint,
            subnet=str(self.config.resolve(subnet)),
            dimension=self.dimension,
            pooling=settings.pooling,
            query_prompt=settings.query_prompt,
            document_prompt=settings.document_prompt,
            max_length=settings.max_length,
        )

    def encode_document(
        self, texts: Sequence[str], subnet: Subnet | None = None, **options: Any
    ) -> NDArray[np.float32]:
        """Vectors ``[N, D]`` float32, unit length, of documents; options as in ``encode``."""
        return self.encode(texts, subnet, prompt=self.settings.document_prompt, **options)

    def encode_query(
        self, texts: Sequence[str], subnet: Subnet | None = None, *, precision: Precision = "fp32", **options: Any
    ) -> NDArray[np.float32]:
        """Vectors ``[N, D]`` float32, unit length, of queries; options as in ``encode``.

        A query is short: where ``auto`` means 8-bit products, they pay at full width only, and narrower sub-networks
        stay in fp32.
        """
        subnet = self.config.resolve(subnet)
        if precision == "auto" and subnet.width < 1 and resolve(self.model.device, "auto") == "int8":
            precision = "fp32"
        return self.encode(texts, subnet, prompt=self.settings.query_prompt, precision=precision, **options)

    def encode(
        self,
        texts: Sequence[str],
        subnet: Subnet | None = None,
        *,
        prompt: str = "",
        max_length: int | None = None,
        truncate_dim: int | None = None,
        batch_tokens: int | None = None,
        precision: Precision = "fp32",
        progress: bool = False,
    ) -> NDArray[np.float32]:
        """Encode texts in batches of similar length.

        Args:
            texts: a list of strings; an empty list gives ``[0, D]``.
            subnet: sub-network; None means full.
            prompt: put before every text.
            max_length: tokens kept, at most the settings'; None means the settings'.
            truncate_dim: leading components kept, normalised again; None keeps all.
            batch_tokens: padded tokens in one batch; None means what suits the device.
            precision: ``fp32``, ``bf16``, ``int8``, or ``auto`` (the fastest here).
            progress: show a bar.

        Returns:
            ``[N, D]`` float32, unit length, in the order of ``texts``. In fp32 a vector does not depend
            on the batch it was in, to 1e-5.

        Raises:
            SubnetError: if the model does not have this subnet.
            InputError: if ``texts`` is not a list of strings, or ``truncate_dim`` or ``max_length`` is out of range.
        """
        if truncate_dim is not None and not 0 < truncate_dim <= self.dimension:
            raise InputError(f"truncate_dim {truncate_dim} is out of range; wanted 1..{self.dimension}")
        return self.encode_tokens(
            self.tokenize(texts, prompt=prompt, max_length=max_length), subnet, truncate_dim=truncate_dim,
            batch_tokens=batch_tokens, precision=precision, progress=progress,
        )  # fmt: skip

    def tokenize(self, texts: Sequence[str], *, prompt: str = "", max_length: int | None = None) -> list[list[int]]:
        """Token ids of each text as ``encode`` reads them, special tokens and ``prompt`` included.

        Raises:
            InputError: if ``texts`` is not a list of strings, or ``max_length`` is out of range.
        """
        if isinstance(texts, str):
            raise InputError("found a single string; wanted a list of texts, e.g. encode_query(['a question'])")
        if max_length is not None and max_length < LEAST_LENGTH:
            raise InputError(f"max_length is {max_length}; wanted {LEAST_LENGTH} or more, special tokens included")
        texts = list(texts)
        for odd in (text for text in texts if not isinstance(text, str)):
            raise InputError(f"found {type(odd).__name__} among the texts; wanted strings")
        room = min(max_length or self.settings.max_length, self.settings.max_length) - 2
        return [self.tokens.single(ids) for ids in self.tokens.ids([prompt + text for text in texts], room)]

    def encode_tokens(
        self,
        sequences: Sequence[Sequence[int]],
        subnet: Subnet | None = None,
        *,
        truncate_dim: int | None = None,
        batch_tokens: int | None = None,
        precision: Precision = "fp32",
        progress: bool = False,
    ) -> NDArray[np.float32]:
        """Encode token sequences, special tokens and prompts included; all else is as in ``encode``."""
        subnet = self.config.resolve(subnet)
        vectors = np.empty((len(sequences), truncate_dim or self.dimension), np.float32)
        suited = BATCH_TOKENS if self.model.device.type == "cpu" else GPU_BATCH_TOKENS
        groups = list(by_token_budget([len(s) for s in sequences], batch_tokens or suited))
        multiple = self.config.length_multiple if len(groups) > 1 else 1
        for rows in track(groups, "encoding", disable=not progress):
            batch = self.tokens.pad([sequences[row] for row in rows], multiple=multiple).to(self.model.device)
            vectors[rows] = self._vectors(batch, subnet, truncate_dim, precision).cpu().numpy()
        return vectors

    def flops(self, subnet: Subnet, tokens: int, length: int) -> float:
        """Floating-point operations that ``subnet`` spends on ``tokens`` tokens in texts of ``length``."""
        return self.config.flops(subnet, tokens, length, self._read)

    @property
    def _read(self) -> int | None:
        """Positions of the last layer that pooling reads; None for all."""
        return 1 if self.settings.pooling == "cls" else None

    def extract(self, subnet: Subnet | None = None) -> Any:
        """A plain ``transformers.BertModel`` of ``subnet``; save it and load it with ``AutoModel.from_pretrained``."""
        return self.model.extract(subnet)

    @torch.inference_mode()
    def _vectors(self, batch: TokenBatch, subnet: Subnet, dim: int | None, precision: Precision) -> Tensor:
        with autocast(self.model.device, precision):
            hidden = self.model(batch, subnet, positions=self._read).float()
        pooled = pool(hidden, batch.lengths, self.settings.pooling)
        return F.normalize(pooled[:, :dim], dim=-1)


def pool(hidden: Tensor, lengths: Tensor, pooling: Pooling) -> Tensor:
    """One vector ``[B, H]`` of each text from hidden states ``[B, L, H]`` and token counts ``[B]``."""
    if pooling == "cls":
        return hidden[:, 0]
    mask = torch.arange(hidden.shape[1], device=hidden.device)[None, :] < lengths[:, None]
    return (hidden * mask[..., None]).sum(1) / lengths[:, None]


def check_settings(settings: DenserSettings, config: ElasticConfig, tokens: Tokens) -> None:
    """Refuse lengths that a model of ``config`` cannot read.

    Raises:
        ModelError: if there are too few positions, or a prompt leaves no room.
    """
    longest = settings.max_length
    if longest > config.max_positions:
        raise ModelError(f"max_length {longest} passes the model's {config.max_positions} positions")
    for prompt in (settings.query_prompt, settings.document_prompt):
        if len(tokens.ids([prompt], longest)[0]) >= longest - 2:
            raise ModelError(f"max_length {longest} leaves no room behind the prompt {prompt[:60]!r}")


def denser_settings(checkpoint: Checkpoint, changes: Mapping[str, Any]) -> DenserSettings:
    """The checkpoint's settings with ``changes``.

    Raises:
        ModelError: if there is no such setting, or its value does not hold.
    """
    found = checkpoint.config.denser if checkpoint.native else _sentence_transformers(checkpoint)
    return settings_of(DenserSettings, found, changes, f"denser {checkpoint.name}")


_MODULES = {"Transformer", "Pooling", "Normalize"}


def _sentence_transformers(checkpoint: Checkpoint) -> dict[str, Any]:
    """Settings from the files sentence-transformers leaves beside a model; CLS pooling where there are none.

    Raises:
        ModelError: if the model ends otherwise than in CLS or mean pooling, with or without normalisation.
    """
    listed = _json(checkpoint.folder / "modules.json", list)
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in listed if isinstance(module, dict)]
    if others := sorted({*kinds} - _MODULES):
        raise ModelError(f"{checkpoint.name} ends in a module {others[0]}; wanted {', '.join(sorted(_MODULES))} alone")
    longest = _json(checkpoint.folder / "sentence_bert_config.json").get("max_seq_length")
    lengths = [512, checkpoint.config.max_positions, *([longest] if isinstance(longest, int) and longest > 0 else [])]
    settings: dict[str, Any] = {"max_length": min(lengths)}
    pooling = _json(checkpoint.folder / "1_Pooling" / "config.json")
    modes = {key.removeprefix("pooling_mode_") for key, on in pooling.items() if key.startswith("pooling_mode_") and on}
    if named := pooling.get("pooling_mode"):
        modes.add({"cls": "cls_token", "mean": "mean_tokens"}.get(named, str(named)))
    if modes and modes not in ({"cls_token"}, {"mean_tokens"}):
        found = ", ".join(sorted(modes))
        raise ModelError(f"{checkpoint.name} pools by {found}; wanted cls_token or mean_tokens alone")
    if modes == {"mean_tokens"}:
        settings["pooling"] = "mean"
    prompts = _json(checkpoint.folder / "config_sentence_transformers.json").get("prompts")
    prompts = prompts if isinstance(prompts, dict) else {}
    if modes == {"mean_tokens"} and any(prompts.values()) and pooling.get("include_prompt") is False:
        raise ModelError(f"{checkpoint.name} leaves its prompts out of the mean; wanted `include_prompt: true`")
    query, *documents = (prompts.get(name) for name in ("query", "document", "passage", "corpus"))
    named = {"query_prompt": query, "document_prompt": next(filter(None, documents), None)}
    return settings | {field: prompt for field, prompt in named.items() if prompt}


def _json(path: Path, kind: type = dict) -> Any:
    """What ``path`` holds; an empty ``kind`` where there is no such file, or it holds another kind."""
    if not path.is_file():
        return kind()
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as exc:
        raise ModelError(f"{path} is not JSON: {exc}") from exc
    return found if isinstance(found, kind) else kind()
