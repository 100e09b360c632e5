"""Model cards of the bundled checkpoints, with the figures that the benchmarks stored.

python benchmarks/cards.py
"""

from __future__ import annotations

import json
from pathlib import Path

from measured import RESULTS

from elastic_ir.elastic.checkpoint import BUNDLED, load_checkpoint
from elastic_ir.subnet import Subnet

ROOT = Path(__file__).parents[1]
SOURCES = {
    "elastic-denser-small": (
        "BAAI/bge-small-en-v1.5", "MIT",
        "`benchmarks/recipes/denser-small.yaml`, then `denser-small-half.yaml`", "quality",
        "Texts: titles and random spans of arXiv (CC0), ACL anthology, Debian packages, MedQuAD and film articles, "
        "and the questions of query-wellformedness. No query or judgment of any collection below.",
    ),
    "elastic-ranker-small": (
        "cross-encoder/ms-marco-MiniLM-L12-v2", "Apache-2.0", "`benchmarks/recipes/ranker-small.yaml`", "ranker",
        "Lists: titles and the questions of query-wellformedness, each with hard negatives, by TF-IDF and by dense "
        "retrieval, and a random passage "
        "of arXiv, MedQuAD, film articles, Debian packages and the ACL anthology, scored by the teacher.",
    ),
}  # fmt: skip


def card(name: str) -> str:
    """Markdown of one card."""
    teacher, licence, recipe, results, data = SOURCES[name]
    config = load_checkpoint(name).config
    rows = ["| subnet | FLOPs of full (128 tokens) |", "|---|---|"]
    full = config.flops(config.full, 128, 128, 1)
    for text in sorted(config.trained, key=lambda text: -config.flops(Subnet.parse(text), 128, 128, 1)):
        rows.append(f"| `{text}` | {config.flops(Subnet.parse(text), 128, 128, 1) / full:.3f} |")
    table = (RESULTS / f"{results}.md").read_text("utf-8")
    command = json.loads((RESULTS / f"{results}.json").read_text("utf-8"))["command"]
    exits = f"Exits with a score head: {', '.join(map(str, config.exits))}.\n\n" if config.exits else ""
    return (
        f"# {name}\n\n"
        f"Elastic encoder of elastic_ir: {config.num_layers} layers, {config.hidden_size} wide, weights as int8 with "
        f"one scale a row. Started from and taught by [{teacher}](https://huggingface.co/{teacher}) ({licence}; see "
        "NOTICE).\n\n"
        f"Recipe: {recipe}. {data}\n\n{exits}Sub-networks trained:\n\n" + "\n".join(rows) + "\n\n"
        f"## Measured\n\n`{command}`:\n\n{table}"
    )


def main() -> None:
    """Write README.md beside each checkpoint."""
    for name in SOURCES:
        (BUNDLED / name / "README.md").write_text(card(name), "utf-8")
        print(BUNDLED / name / "README.md")


if __name__ == "__main__":
    main()
