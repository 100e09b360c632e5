"""From a Hugging Face BERT to an elastic model, and from a subnet back to a plain BERT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from elastic_ir.elastic.config import ElasticConfig
from elastic_ir.elastic.model import ElasticLM
from elastic_ir.elastic.scorer import ElasticScorer
from elastic_ir.errors import ModelError
from elastic_ir.subnet import Subnet

_TOP = {
    "words.weight": "embeddings.word_embeddings.weight",
    "positions.weight": "embeddings.position_embeddings.weight",
    "types.weight": "embeddings.token_type_embeddings.weight",
    "embedding_norm.weight": "embeddings.LayerNorm.weight",
    "embedding_norm.bias": "embeddings.LayerNorm.bias",
}
_LAYER = {
    "out_bias": "attention.output.dense.bias",
    "attention_norm.weight": "attention.output.LayerNorm.weight",
    "attention_norm.bias": "attention.output.LayerNorm.bias",
    "up": "intermediate.dense.weight",
    "up_bias": "intermediate.dense.bias",
    "down_bias": "output.dense.bias",
    "ffn_norm.weight": "output.LayerNorm.weight",
    "ffn_norm.bias": "output.LayerNorm.bias",
}
_TRANSPOSED = {"out": "attention.output.dense.weight", "down": "output.dense.weight"}
_QKV = tuple(f"attention.self.{part}" for part in ("query", "key", "value"))


def from_bert_state(config: ElasticConfig, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """State dict of an ``ElasticLM`` from that of a ``BertModel`` (names with or without the ``bert.`` prefix).

    Raises:
        ModelError: if a tensor is missing.
    """
    state = {name.removeprefix("bert."): tensor.float() for name, tensor in state.items()}
    heads, size = config.num_heads, config.head_size
    try:
        result = {ours: state[theirs] for ours, theirs in _TOP.items()}
        for i in range(config.num_layers):
            theirs = f"encoder.layer.{i}."
            ours = f"layers.{i}."
            result |= {ours + a: state[theirs + b] for a, b in _LAYER.items()}
            result |= {ours + a: state[theirs + b].t().contiguous() for a, b in _TRANSPOSED.items()}
            for name, kind in (("qkv", "weight"), ("qkv_bias", "bias")):
                parts = [state[f"{theirs}{part}.{kind}"] for part in _QKV]
                blocks = torch.stack([part.view(heads, size, *part.shape[1:]) for part in parts], dim=1)
                result[ours + name] = blocks.reshape(3 * heads * size, *parts[0].shape[1:])
    except KeyError as exc:
        raise ModelError(f"checkpoint has no tensor {exc}; wanted the weights of a BERT encoder") from exc
    return result


def to_bert_state(model: ElasticLM, subnet: Subnet) -> dict[str, Tensor]:
    """State dict of a ``BertModel`` that computes ``subnet``; dropped heads are zero, dropped neurons gone."""
    config = model.config
    heads, size, hidden = config.num_heads, config.head_size, config.hidden_size
    kept, neurons = subnet.heads(heads), subnet.neurons(config.intermediate_size)
    source = _state_of(model, subnet)
    result = {theirs: source[ours].clone() for ours, theirs in _TOP.items()}
    for position, index in enumerate(config.layers(subnet.depth)):
        ours, theirs = f"layers.{index}.", f"encoder.layer.{position}."
        for name, target in (_LAYER | _TRANSPOSED).items():
            tensor = source[ours + name]
            if name in ("up", "up_bias", "down"):
                tensor = tensor[:neurons]
            if name == "out":
                tensor = torch.cat([tensor[: kept * size], tensor.new_zeros((heads - kept) * size, hidden)])
            result[theirs + target] = (tensor.t() if name in _TRANSPOSED else tensor).clone(
                memory_format=torch.contiguous_format
            )
        for name, kind in (("qkv", "weight"), ("qkv_bias", "bias")):
            tensor = source[ours + name]
            blocks = tensor.view(heads, 3, size, *tensor.shape[1:]).clone()
            blocks[kept:] = 0
            for part, target in enumerate(_QKV):
                result[f"{theirs}{target}.{kind}"] = blocks[:, part].reshape(hidden, *tensor.shape[1:]).clone()
    return result


def _state_of(model: ElasticLM, subnet: Subnet) -> dict[str, Tensor]:
    """The model's tensors in float32, with those that ``subnet`` has to itself in their places."""
    source = {name: tensor.detach().float() for name, tensor in model.state_dict().items()}
    own = model.own_part(subnet)
    if own is None:
        return source
    source["embedding_norm.weight"] = own.embedding_scale.detach()
    source["embedding_norm.bias"] = own.embedding_shift.detach()
    for index in model.config.layers(subnet.depth):
        for name, tensor in own.of_layer(index).items():
            shared = source[f"layers.{index}.{name}"].clone()
            shared[: len(tensor)] = tensor.detach()
            source[f"layers.{index}.{name}"] = shared
    return source


def bert_config(config: ElasticConfig, subnet: Subnet) -> Any:
    """Hugging Face configuration of the plain model for ``subnet``."""
    from transformers import BertConfig

    return BertConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=subnet.depth,
        num_attention_heads=config.num_heads,
        intermediate_size=subnet.neurons(config.intermediate_size),
        max_position_embeddings=config.max_positions,
        type_vocab_size=config.type_vocab_size,
        layer_norm_eps=config.layer_norm_eps,
    )


def extract(model: ElasticLM, subnet: Subnet | None = None) -> Any:
    """A plain ``transformers.BertModel`` that computes ``subnet`` (None: full); it shares no memory with ``model``.

    Raises:
        SubnetError: if the model does not have this subnet.
    """
    from transformers import BertModel

    subnet = model.config.resolve(subnet)
    plain = BertModel(bert_config(model.config, subnet), add_pooling_layer=False)
    plain.load_state_dict(to_bert_state(model, subnet), strict=False)
    return plain.eval()


def extract_classifier(model: ElasticScorer, subnet: Subnet | None, labels: Sequence[str] = ()) -> Any:
    """A plain ``transformers.BertForSequenceClassification`` that computes ``subnet`` (None: full) of ``model``.

    Raises:
        SubnetError: if there is no exit at this depth.
    """
    from transformers import BertForSequenceClassification

    subnet = model.config.resolve(subnet)
    config = bert_config(model.config, subnet)
    config.num_labels = model.config.outputs
    config.problem_type = "regression" if model.config.outputs == 1 else "single_label_classification"
    if len(labels) == model.config.outputs:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: number for number, label in enumerate(labels)}
    plain = BertForSequenceClassification(config)
    state = {f"bert.{name}": tensor for name, tensor in to_bert_state(model.encoder, subnet).items()}
    head = model.heads[str(subnet.depth)].state_dict()
    for kind in ("weight", "bias"):
        state[f"bert.pooler.dense.{kind}"] = head[f"pooler.{kind}"].float().clone()
        state[f"classifier.{kind}"] = head[f"score.{kind}"].float().clone()
    plain.load_state_dict(state, strict=False)
    return plain.eval()
