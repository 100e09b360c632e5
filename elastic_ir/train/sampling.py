"""Which subnets learn in a step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

from elastic_ir.elastic.config import ElasticConfig
from elastic_ir.errors import ConfigError
from elastic_ir.subnet import Subnet
from elastic_ir.train.recipe import Sampling

Strategy = Callable[[int], list[Subnet]]
"""Step -> subnets that learn in it, largest first."""


def subnets(sampling: Sampling, config: ElasticConfig) -> list[Subnet]:
    """The subnets a recipe names, and the full one, largest first.

    Raises:
        ConfigError: if it names none.
    """
    full = config.full
    config = config.model_copy(update={"trained": ()})  # those named will be
    if sampling.strategy == "fixed":
        grid = [config.resolve(Subnet.parse(name)) for name in sampling.subnets] or usual(config)
    else:
        depths = sampling.depths or config.exits or tuple(range(1, config.num_layers + 1))
        grid = [config.resolve(Subnet(width, depth)) for width in sampling.widths for depth in depths]
    if not grid:
        raise ConfigError("sampling names no subnet; wanted `widths:` of at least one")
    return sorted({*grid, full}, key=lambda subnet: (-config.flops(subnet, 1, 1), subnet))


def usual(config: ElasticConfig) -> list[Subnet]:
    """Half of the layers at full and half width, a sixth at full and quarter width; the nearest exits of a ranker."""
    depths = config.exits or tuple(range(1, config.num_layers + 1))
    half, sixth = (min(depths, key=lambda depth: abs(depth - config.num_layers / share)) for share in (2, 6))
    return [Subnet(1.0, half), Subnet(0.5, half), Subnet(1.0, sixth), Subnet(0.25, sixth)]


def nearest_larger(subnet: Subnet, done: Iterable[Subnet], config: ElasticConfig) -> Subnet | None:
    """The cheapest of ``done`` that is as wide as ``subnet`` and runs all of its layers; None if there is none."""

    def places(depth: int) -> set[int]:
        return {config.place(layer) for layer in config.layers(depth)}

    wanted = places(subnet.depth)
    larger = [other for other in done if other.width >= subnet.width and wanted <= places(other.depth)]
    return min(larger, key=lambda other: config.flops(other, 1, 1), default=None)


def strategy(sampling: Sampling, config: ElasticConfig, seed: int) -> Strategy:
    """The strategy a recipe names.

    Raises:
        ConfigError: if it names no subnet.

    Source: sandwich rule, US-Nets (arXiv:1903.05134).
    """
    full, grid = config.full, subnets(sampling, config)
    others, smallest = grid[1:], grid[-1]

    def sample(step: int) -> list[Subnet]:
        first = [full] if sampling.full_every and step % sampling.full_every == 0 else []
        if sampling.strategy != "sandwich":
            return first + others
        middle = others[:-1]
        random = Random(f"{seed}:subnets:{step}")
        chosen = random.sample(middle, min(sampling.random, len(middle)))
        return first + sorted(chosen, key=grid.index) + ([smallest] if others else [])

    return sample
