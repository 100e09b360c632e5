"""Pack a finished (or interrupted) training run as a bundled int8 checkpoint.

python benchmarks/recipes/bundle.py benchmarks/recipes/denser-small.yaml elastic_ir/models/elastic-denser-small
"""

from __future__ import annotations

import sys
from pathlib import Path

from safetensors.torch import load_file

from elastic_ir.elastic import save_checkpoint
from elastic_ir.elastic.checkpoint import load_checkpoint
from elastic_ir.train.recipe import read_recipe
from elastic_ir.train.sampling import strategy
from elastic_ir.train.trainer import OBJECTIVES


def main(recipe_path: Path, target: Path, shallowest: int) -> None:
    """Write the averaged weights of the run's last saved state."""
    recipe = read_recipe(recipe_path)
    objective = OBJECTIVES[recipe.kind](recipe, load_checkpoint(recipe.teacher))
    state = load_file(Path(recipe.output) / "state.safetensors")
    average = {name.removeprefix("average."): t for name, t in state.items() if name.startswith("average.")}
    sample = strategy(recipe.sampling, objective.config, recipe.seed)
    trained = sorted({str(subnet) for step in range(100) for subnet in sample(step)}, reverse=True)
    exits = tuple(depth for depth in objective.config.exits if depth >= shallowest)
    dropped = [f"heads.{depth}." for depth in objective.config.exits if depth < shallowest]
    average = {name: t for name, t in average.items() if not name.startswith(tuple(dropped))}
    config = objective.config.model_copy(update={"trained": tuple(trained), "exits": exits})
    save_checkpoint(target, config, average, objective.tokenizer, "int8")
    print(target, f"{(target / 'model.safetensors').stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1)
