"""Checkpoints: bundled names, folders and hub ids; written as safetensors, optionally int8."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import Module

from elastic_ir.durable import whole
from elastic_ir.elastic.config import ElasticConfig
from elastic_ir.elastic.huggingface import from_bert_state
from elastic_ir.elastic.tokens import Tokens
from elastic_ir.errors import ModelError, nearest

BUNDLED = Path(__file__).parent.parent / "models"
WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
_SCALE = ".scale"
_ENCODING = "1_Pooling/config.json", "config_sentence_transformers.json", "sentence_bert_config.json"
"""Where sentence-transformers keeps how texts become vectors."""
_HUB_FILES = ["*.json", "*.safetensors", "vocab.txt", _ENCODING[0]]

Storage = Literal["float32", "int8"]


class Checkpoint(NamedTuple):
    """What a checkpoint holds.

    ``state`` is float32; ``native`` is False when it was mapped from a Hugging Face model, whose
    other JSON files can then be found in ``folder``.
    """

    name: str
    folder: Path
    config: ElasticConfig
    state: dict[str, Tensor]
    tokens: Tokens
    fingerprint: str
    native: bool


def bundled_names() -> list[str]:
    """Checkpoints that come with the package."""
    return sorted(path.parent.name for path in BUNDLED.glob(f"*/{WEIGHTS}"))


def load_checkpoint(name_or_path: str | Path) -> Checkpoint:
    """Read a checkpoint: a bundled name, a folder, or a Hugging Face hub id, tried in this order.

    Raises:
        ModelError: if there is none, it is damaged, or its architecture is not supported.
    """
    folder = _find(str(name_or_path))
    config_path = folder / CONFIG
    if not config_path.is_file():
        raise ModelError(f"no {CONFIG} in {folder}; wanted a saved model folder")
    try:
        raw = json.loads(config_path.read_text("utf-8"))
        native = raw.get("model_type") == "elastic-bert"
        config, state = _load_native(folder, raw) if native else _load_huggingface(folder)
        tokens, fingerprint = _tokens(folder), _fingerprint(folder)
        if tokens.count > config.vocab_size:
            raise ModelError(f"the tokenizer in {folder} has {tokens.count} words, its model {config.vocab_size}")
    except ModelError:
        raise
    except Exception as exc:
        raise ModelError(
            f"cannot read the model in {folder}: {one_line(exc)}; it is damaged or incomplete, fetch it again"
        ) from exc
    return Checkpoint(str(name_or_path), folder, config, state, tokens, fingerprint, native)


def fill(module: Module, checkpoint: Checkpoint) -> Module:
    """``module`` with the checkpoint's tensors, in place.

    Raises:
        ModelError: if a tensor is missing or of another shape.
    """
    try:
        module.load_state_dict(checkpoint.state)
    except RuntimeError as exc:
        raise ModelError(f"the weights in {checkpoint.folder} do not fit its config: {one_line(exc)}") from exc
    return module


def one_line(exc: Exception) -> str:
    """The message of an error of another library, on one line of at most 300 characters."""
    return " ".join(str(exc).split())[:300] or type(exc).__name__


def save_checkpoint(
    folder: str | Path, config: ElasticConfig, state: dict[str, Tensor], tokens: Tokens, storage: Storage = "float32"
) -> None:
    """Write config, weights and tokenizer; each file appears whole or not at all.

    Args:
        folder: made if it does not exist.
        config: shape and settings.
        state: tensors by name.
        tokens: tokenizer.
        storage: ``int8`` keeps matrices as 8-bit integers with one float32 scale a row (a quarter of the size).
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    tensors = {name: tensor.detach().float().contiguous() for name, tensor in state.items()}
    packed = _quantise(tensors) if storage == "int8" else tensors
    with whole(folder / WEIGHTS) as part:
        save_file(packed, part, metadata={"format": "pt"})
        part.chmod(0o644)  # safetensors writes 0600, which other users of an installed package cannot read
    with whole(folder / TOKENIZER) as part:
        tokens.save(part)
    with whole(folder / CONFIG) as part:
        part.write_text(json.dumps(config.model_dump(mode="json"), indent=2) + "\n", "utf-8")


def upload(save: Callable[[str], None], repo_id: str, **options: Any) -> None:
    """``save`` into a temporary folder and upload it to the hub; ``options`` go to ``HfApi.create_repo``."""
    from tempfile import TemporaryDirectory

    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(repo_id, exist_ok=True, **options)
    with TemporaryDirectory() as folder:
        save(folder)
        api.upload_folder(repo_id=repo_id, folder_path=folder)


def _find(name: str) -> Path:
    with suppress(OSError):  # a name too long for a file
        if (BUNDLED / name / WEIGHTS).is_file() and "/" not in name and "\\" not in name:
            return BUNDLED / name
        if Path(name).is_dir():
            return Path(name)
    if Path(name).is_absolute() or name.startswith(".") or name.count("/") > 1:
        raise ModelError(
            f"no model folder at {name}; wanted a folder, a bundled name ({', '.join(bundled_names())}) or a hub id"
        )
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except Exception as exc:
        raise ModelError(
            f"model {name[:100]!r} is no bundled name or folder, and {_refusal(exc)}{nearest(name, bundled_names())}"
        ) from exc


_REFUSALS = {
    "GatedRepoError": "the Hugging Face hub wants its terms accepted first, and a token (`hf auth login`)",
    "RepositoryNotFoundError": "the Hugging Face hub has it not, or only for those with a token (`hf auth login`)",
    "LocalEntryNotFoundError": "the Hugging Face hub cannot be reached from here (or HF_HUB_OFFLINE forbids it)",
    "HFValidationError": "it is no id that the Hugging Face hub could have, such as BAAI/bge-small-en-v1.5",
}


def _refusal(exc: Exception) -> str:
    """Why the hub did not give a model."""
    return _REFUSALS.get(type(exc).__name__, f"the Hugging Face hub did not give it ({type(exc).__name__})")


def _load_native(folder: Path, raw: dict[str, Any]) -> tuple[ElasticConfig, dict[str, Tensor]]:
    from safetensors.torch import load_file

    return ElasticConfig.model_validate(raw), _dequantise(load_file(folder / WEIGHTS))


def _load_huggingface(folder: Path) -> tuple[ElasticConfig, dict[str, Tensor]]:
    from transformers import AutoConfig, BertForSequenceClassification, BertModel

    found = AutoConfig.from_pretrained(folder)
    config = ElasticConfig.from_huggingface(found)
    classifier = any("SequenceClassification" in name for name in found.architectures or [])
    if not classifier:
        return config, from_bert_state(config, _whole(BertModel, folder, add_pooling_layer=False))
    if config.type_vocab_size < 2:
        raise ModelError(f"{folder} has one token type; wanted two, for the first and the second text of a pair")
    if found.problem_type == "multi_label_classification":
        raise ModelError(f"{folder} gives texts several labels each; wanted a model of one label a text")
    state = _whole(BertForSequenceClassification, folder)
    depth = config.num_layers
    config = config.model_copy(update={"depth_rule": "prefix", "exits": (depth,), "outputs": found.num_labels})
    if found.num_labels > 1:
        longest = min(512, config.max_positions)
        labels = [str(found.id2label[number]) for number in range(found.num_labels)]
        config = config.model_copy(
            update={"depth_rule": "spaced", "classifier": {"labels": labels, "max_length": longest}}
        )
    result = {f"encoder.{name}": tensor for name, tensor in from_bert_state(config, state).items()}
    for ours, theirs in (("pooler", "bert.pooler.dense"), ("score", "classifier")):
        for kind in ("weight", "bias"):
            result[f"heads.{depth}.{ours}.{kind}"] = state[f"{theirs}.{kind}"].float()
    return config, result


def _whole(kind: Any, folder: Path, **options: Any) -> dict[str, Tensor]:
    """The weights in ``folder``; what is missing transformers would draw at random."""
    model, found = kind.from_pretrained(folder, use_safetensors=True, output_loading_info=True, **options)
    if missing := sorted(found["missing_keys"]):
        raise ModelError(f"{folder} lacks {len(missing)} tensors, {missing[0]} first; wanted all that its config names")
    state: dict[str, Tensor] = model.state_dict()
    return state


def _tokens(folder: Path) -> Tokens:
    if (folder / TOKENIZER).is_file():
        return Tokens.from_file(folder / TOKENIZER)
    from transformers import AutoTokenizer

    return Tokens(AutoTokenizer.from_pretrained(folder, use_fast=True).backend_tokenizer)


def _fingerprint(folder: Path) -> str:
    digest = sha256()
    words = [TOKENIZER] if (folder / TOKENIZER).is_file() else ["vocab.txt", "tokenizer_config.json"]
    others = [path for name in (*words, *_ENCODING) if (path := folder / name).is_file()]
    for path in sorted([folder / CONFIG, *folder.glob("*.safetensors"), *others]):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _quantise(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weight-only, symmetric, one scale a row; vectors stay as they are."""
    packed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.dim() < 2:
            packed[name] = tensor
            continue
        scale = tensor.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 127
        packed[name] = (tensor / scale).round().to(torch.int8)
        packed[name + _SCALE] = scale
    return packed


def _dequantise(packed: dict[str, Tensor]) -> dict[str, Tensor]:
    for name, tensor in packed.items():
        if tensor.dtype is torch.int8 and name + _SCALE not in packed:
            raise ModelError(f"{name} has lost its scale, {name + _SCALE}; fetch the model again")
    return {
        name: tensor.float() * packed[name + _SCALE] if name + _SCALE in packed else tensor.float()
        for name, tensor in packed.items()
        if not name.endswith(_SCALE)
    }
