"""Pack a finished training run's checkpoint as a bundled one, in int8.

python benchmarks/recipes/bundle.py work/denser-small/checkpoint elastic_ir/models/elastic-denser-small
"""

from __future__ import annotations

import argparse
from pathlib import Path

from elastic_ir.elastic import load_checkpoint, save_checkpoint


def main() -> None:
    """Write the checkpoint, without the exits of a ranker that are too shallow to be of use."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--shallowest", type=int, default=1, help="first exit of a ranker that is kept")
    arguments = parser.parse_args()
    found = load_checkpoint(arguments.checkpoint)
    dropped = [f"heads.{depth}." for depth in found.config.exits if depth < arguments.shallowest]
    state = {name: tensor for name, tensor in found.state.items() if not name.startswith(tuple(dropped))}
    exits = tuple(depth for depth in found.config.exits if depth >= arguments.shallowest)
    config = found.config.model_copy(update={"exits": exits})
    save_checkpoint(arguments.target, config, state, found.tokens, "int8")
    print(arguments.target, f"{(arguments.target / 'model.safetensors').stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
