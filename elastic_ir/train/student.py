"""What the students of all recipes share: vectors of their own, parameters that are kept, states of every layer."""

from __future__ import annotations

from collections.abc import Container, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from elastic_ir.config import checked
from elastic_ir.elastic import ElasticConfig, ElasticLM, ElasticScorer, TokenBatch
from elastic_ir.elastic.checkpoint import Checkpoint
from elastic_ir.elastic.int8 import int8_products
from elastic_ir.elastic.model import LAYER_NAMES, Own, padding_bias
from elastic_ir.errors import ConfigError
from elastic_ir.subnet import Subnet
from elastic_ir.train.losses import hidden_loss
from elastic_ir.train.recipe import Recipe
from elastic_ir.train.sampling import subnets

States = dict[int, Tensor]
"""Zero-based layer of the full model -> the states ``[B, L, H]`` float32, first to last."""


def changed(config: ElasticConfig, **changes: Any) -> ElasticConfig:
    """``config`` with ``changes``, checked.

    Raises:
        ConfigError: if a model cannot be like that.
    """
    return checked(ElasticConfig, config.model_dump() | changes, "the model that the recipe asks for")


def with_own(config: ElasticConfig, recipe: Recipe) -> ElasticConfig:
    """``config`` with what the recipe gives the smaller subnets for themselves: layers, a last layer, normalisation.

    Those that have their own already keep them.
    """
    any_subnet = config.model_copy(update={"trained": ()})  # warns of none: they will be, or are kept
    for name in (*recipe.own_layers, *recipe.keep):
        any_subnet.resolve(Subnet.parse(name))
    if recipe.own_last:
        config = config.model_copy(update={"own_last": True})
    if recipe.own_layers:
        whole = tuple(dict.fromkeys([*config.own_layers, *recipe.own_layers]))
        config = config.model_copy(update={"own_layers": whole, "own": tuple(n for n in config.own if n not in whole)})
    if not recipe.own_vectors:
        return config
    smaller = [str(subnet) for subnet in subnets(recipe.sampling, config) if subnet != config.full]
    smaller = [name for name in smaller if name not in config.own_layers]
    return config.model_copy(update={"own": tuple(dict.fromkeys([*config.own, *smaller]))})


def check_start(start: Checkpoint, teacher: Checkpoint) -> None:
    """Refuse to go on from a model of another shape or kind than the teacher's.

    Raises:
        ConfigError: naming what differs.
    """
    check_shape(start, teacher)
    if bool(start.config.exits) != bool(teacher.config.exits):
        kinds = [("an encoder", "a reranker")[bool(model.config.exits)] for model in (start, teacher)]
        raise ConfigError(f"start {start.name} is {kinds[0]}, the teacher {kinds[1]}; wanted two of a kind")


def check_shape(start: Checkpoint, teacher: Checkpoint) -> None:
    """Refuse to go on from a model of another shape than the teacher's.

    Raises:
        ConfigError: naming what differs.
    """
    for key in ("vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size", "max_positions"):
        found, wanted = getattr(start.config, key), getattr(teacher.config, key)
        if found != wanted:
            raise ConfigError(f"start {start.name} has {key} {found}; wanted the teacher's, {wanted}")


def full_only(source: Checkpoint, first_layers: int | None = None) -> Checkpoint:
    """The full model of ``source`` alone, or its ``first_layers`` (None: all), without settings.

    Its full head stays, but the config has no exits.

    Raises:
        ConfigError: if it has fewer layers.
    """
    config, count = source.config, first_layers or source.config.num_layers
    if count > config.num_layers or (config.exits and count < config.num_layers):
        wanted = "all of them, for a classifier's head reads the last" if config.exits else "as many at most"
        raise ConfigError(f"first_layers {count}: {source.name} has {config.num_layers} layers; wanted {wanted}")
    plain = config.plain.model_copy(update={"num_layers": count})
    encoder = set(ElasticLM(plain).state_dict())
    before = "encoder." if config.exits else ""
    head = f"heads.{config.num_layers}."
    state = {n: t for n, t in source.state.items() if n.removeprefix(before) in encoder or n.startswith(head)}
    return source._replace(config=plain, state=state)


def load_start(student: nn.Module, start: Checkpoint) -> list[str]:
    """Fill ``student`` with the weights of ``start``; gives the names of what subnets have of their own and it lacks.

    Raises:
        ConfigError: if it lacks others.
    """
    place, last = (f"layers.{start.config.num_layers - 1 + step}." for step in (0, 1))
    expected = student.state_dict()
    state = {_renamed(name, expected, place, last): value for name, value in start.state.items()}
    missing: list[str] = student.load_state_dict(state, strict=False).missing_keys
    odd = [name for name in missing if "own." not in name and last not in name]
    if odd:
        raise ConfigError(f"{start.name} lacks the weights {odd[:3]}; wanted a model like the teacher to start from")
    return missing


def _renamed(name: str, expected: Container[str], place: str, last: str) -> str:
    """Where the student has what was ``name``: in a last layer, or in layers, that are now its own."""
    if name not in expected:
        name = name.replace(place, last)
    stem, _, field = name.rpartition(".")
    return name if name in expected else f"{stem}.{LAYER_NAMES.get(field, field)}"


@torch.no_grad()
def start_own(encoder: ElasticLM, missing: Sequence[str]) -> None:
    """Copy the full model's last layer and what is shared to the subnets whose own are ``missing``."""
    layers, count = encoder.elastic_layers(), encoder.config.num_layers
    if any(f"layers.{count}." in name and "own." not in name for name in missing):
        layers[count].load_state_dict(layers[count - 1].state_dict())
    for name, own in encoder.own.items():
        lacking = {found.partition(f"own.{name}.")[2] for found in missing if f"own.{name}." in found}
        if lacking and isinstance(own, Own):
            own.start_from(encoder, lacking)


def own_names(student: ElasticLM | ElasticScorer) -> set[str]:
    """Names of the parameters that only smaller subnets use."""
    full = student.used_by(student.config.full)
    return {name for name, _ in student.named_parameters() if name not in full}


def hidden_states(model: ElasticLM, batch: TokenBatch, subnet: Subnet, read: int | None) -> States:
    """The states of every layer of ``subnet``; of the last only the leading ``read`` positions (None: all)."""
    own = model.own_part(subnet)
    x, bias = model.embed(batch, own), padding_bias(batch, model.dtype)
    states = {}
    layers = model.config.layers(subnet.depth)
    for layer in layers:
        x = model.run_layers(x, bias, [layer], subnet.width, own, positions=read if layer == layers[-1] else None)
        states[model.config.place(layer)] = x.float()
    return states


@torch.no_grad()
def taught_by(teacher: ElasticScorer, batch: TokenBatch, recipe: Recipe) -> tuple[States, Tensor]:
    """The states of every layer of the whole ``teacher``, and its answers ``[B]`` or ``[B, outputs]`` float32."""
    full = teacher.config.full
    with int8_products() if recipe.teacher_int8 else nullcontext():
        states = hidden_states(teacher.encoder, batch, full, read=1)
    return states, teacher.heads[str(full.depth)](last(states).to(teacher.encoder.dtype)).float()


def last(states: States) -> Tensor:
    """The states of the last layer."""
    return states[max(states)]


def states_loss(found: States, wanted: States, lengths: Tensor) -> Tensor:
    """Mean over the layers of ``found``, on the rows that both have."""
    rows = min(len(last(found)), len(last(wanted)))
    terms = []
    for layer, state in found.items():
        length = min(state.shape[1], wanted[layer].shape[1])
        mask = torch.arange(length, device=lengths.device)[None, :] < lengths[:rows, None]
        terms.append(hidden_loss(state[:rows, :length], wanted[layer][:rows, :length], mask))
    return torch.stack(terms).mean()
