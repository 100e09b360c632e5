"""``ElasticConfig``: the shape of an elastic model and the rule that names its layers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from elastic_ir.errors import ModelError, SubnetError
from elastic_ir.subnet import Subnet

logger = logging.getLogger(__name__)


@lru_cache
def _warn_untrained(subnet: str, trained: tuple[str, ...]) -> None:
    """Once for each subnet, not for each query."""
    logger.warning("subnet %s was never trained and may be far worse than a smaller one; trained: %s", subnet, trained)


_LENGTHS = 8


class ElasticConfig(BaseModel):
    """Shape and depth rule, checked when built.

    Attributes:
        depth_rule: ``spaced`` takes layers ceil(i N / depth), i = 1..depth; ``prefix`` the first ``depth``.
        exits: depths that have a head, ascending; empty for an encoder without one.
        outputs: numbers that a head gives: 1 for a ranker, or a regression; one a label for a classifier.
        own: subnets with normalisation and biases of their own, an encoder's only.
        own_layers: subnets whose layers are their own, as narrow as they are: what little weights the smallest has
            then serve no other.
        own_last: sub-networks of fewer layers end in a layer of their own, stored after the full model's: what the
            last layer must do differs most between them, and the full one's then need not give way (spaced only).
        trained: subnets that training optimised; others are legal but may be poor.
        denser: pooling, prompts and the like, when the checkpoint is a denser.
        ranker: its settings, when the checkpoint is a ranker.
        classifier: its settings, when the checkpoint is a classifier.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_type: Literal["elastic-bert"] = "elastic-bert"
    vocab_size: int = Field(gt=0)
    hidden_size: int = Field(gt=0)
    num_layers: int = Field(gt=0, le=200)
    num_heads: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    max_positions: int = Field(gt=0)
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    depth_rule: Literal["spaced", "prefix"] = "spaced"
    exits: tuple[int, ...] = ()
    outputs: int = Field(default=1, gt=0)
    own: tuple[str, ...] = ()
    own_layers: tuple[str, ...] = ()
    own_last: bool = False
    trained: tuple[str, ...] = ()
    denser: dict[str, Any] | None = None
    ranker: dict[str, Any] | None = None
    classifier: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _whole_heads(self) -> ElasticConfig:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}")
        if any(not 1 <= depth <= self.num_layers for depth in self.exits):
            raise ValueError(f"exits {self.exits} must lie in 1..{self.num_layers}")
        if self.own_last and self.depth_rule != "spaced":
            raise ValueError("own_last needs depth_rule spaced")
        return self

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def length_multiple(self) -> int:
        """What batches of a long pass are padded to: kernels keep memory, and take time at first, for each length."""
        return _LENGTHS if self.max_positions % _LENGTHS == 0 else 1

    @property
    def stored_layers(self) -> int:
        """Layers whose weights are stored."""
        return self.num_layers + self.own_last

    @property
    def full(self) -> Subnet:
        """The whole model."""
        return Subnet(1.0, self.num_layers)

    @property
    def smallest(self) -> Subnet:
        """The sub-network trained that takes the fewest FLOPs."""
        return min([self.full, *map(Subnet.parse, self.trained)], key=lambda subnet: self.flops(subnet, 1, 1))

    def deepest(self, width: float) -> Subnet:
        """The deepest sub-network of ``width`` that was trained, or the one of all layers if none is named."""
        named = [subnet for subnet in map(Subnet.parse, self.trained) if subnet.width == width]
        return max(named, key=lambda subnet: subnet.depth, default=Subnet(width, self.num_layers))

    def resolve(self, subnet: Subnet | None) -> Subnet:
        """``subnet``, or the full model for None. One that was never trained is warned of once.

        Raises:
            SubnetError: if this model does not have it.
        """
        if subnet is None:
            return self.full
        subnet.checked()
        if subnet.depth > self.num_layers:
            raise SubnetError(f"subnet {subnet} asks for {subnet.depth} layers; this model has {self.num_layers}")
        if self.exits and subnet.depth not in self.exits:
            known = ", ".join(map(str, self.exits))
            raise SubnetError(f"subnet {subnet} stops after layer {subnet.depth}; this model has exits after {known}")
        if self.depth_rule == "spaced" and self.trained and str(subnet) not in self.trained:
            _warn_untrained(str(subnet), self.trained)
        return subnet

    def check_cascade(self, names: Sequence[str]) -> None:
        """Refuse steps of a ranker's plans that are not in the order in which a plan may take them.

        Raises:
            SubnetError: if this model lacks one, or the cheapest is not the first.
        """
        costs = [found.width * found.depth for found in map(self.resolve, map(Subnet.parse, names))]
        if costs != sorted(set(costs)):
            raise SubnetError(f"cascade {', '.join(names)}: wanted sub-networks, the cheapest first")

    @property
    def plain(self) -> ElasticConfig:
        """The shape of the full model alone, as an encoder: no heads, nothing that other subnets have to themselves."""
        bare = {"exits": (), "outputs": 1, "own": (), "own_layers": (), "own_last": False, "trained": ()}
        return self.model_copy(
            update={**bare, "depth_rule": "spaced", "denser": None, "ranker": None, "classifier": None}
        )

    def layers(self, depth: int) -> list[int]:
        """Zero-based stored layers that a sub-network of ``depth`` layers runs."""
        if self.depth_rule == "prefix":
            return list(range(depth))
        spaced = [-(-i * self.num_layers // depth) - 1 for i in range(1, depth + 1)]
        return [*spaced[:-1], self.num_layers] if self.own_last and depth < self.num_layers else spaced

    def place(self, layer: int) -> int:
        """The layer of the full model whose work the stored ``layer`` does."""
        return min(layer, self.num_layers - 1)

    def flops(self, subnet: Subnet, tokens: int, length: int, positions: int | None = None) -> float:
        """Floating-point operations of one pass over ``tokens`` tokens in sequences of ``length``.

        Multiply-adds count two; embeddings, normalisation and score heads are left out. Of each sequence the last
        layer gives the leading ``positions``: 1 where only the first token is read; None means all.
        """
        attention = subnet.heads(self.num_heads) * self.head_size
        neurons = subnet.neurons(self.intermediate_size)
        projected = 6 * self.hidden_size * attention
        rest = 2 * self.hidden_size * (attention + 2 * neurons) + 4 * length * attention
        share = 1.0 if positions is None else min(1.0, positions / length)
        return tokens * (subnet.depth * projected + (subnet.depth - 1 + share) * rest)

    @classmethod
    def from_huggingface(cls, config: Any) -> ElasticConfig:
        """Shape of a Hugging Face BERT configuration.

        Raises:
            ModelError: if the architecture is not one this module maps.
        """
        if config.model_type != "bert":
            raise ModelError(
                f"model type {config.model_type!r} is not supported; wanted a BERT-family checkpoint (bert)"
            )
        wanted = {"hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False}
        for key, value in wanted.items():
            found = getattr(config, key, value)
            if found != value:
                raise ModelError(f"{key} {found!r} is not supported; wanted {value!r}")
        return cls(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            num_layers=config.num_hidden_layers,
            num_heads=config.num_attention_heads,
            intermediate_size=config.intermediate_size,
            max_positions=config.max_position_embeddings,
            type_vocab_size=config.type_vocab_size,
            layer_norm_eps=config.layer_norm_eps,
        )
