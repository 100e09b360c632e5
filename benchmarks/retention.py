"""How much of the full model's quality each sub-network keeps, over the five collections (none seen in training).

Takes the runs of benchmarks/quality.py, makes those that are missing, and adds both sides at w0.50-d6 and, with
--teacher, the model that taught.

python benchmarks/retention.py [--teacher FOLDER_OR_NAME]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from measured import COLLECTIONS, data_folder, store
from quality import HITS, PIPELINES, SUBNETS, measure

from elastic_ir.config import read_config
from elastic_ir.datasets import load
from elastic_ir.evaluate import evaluate, read_run
from elastic_ir.pipeline import Pipeline
from elastic_ir.runs import write

BOTH = "w0.50-d6"
MEASURES = ("ndcg@10", "recall@100")


def other_sides(collection: str, teacher: str | None, output: Path) -> dict[str, dict[str, float]]:
    """Figures of runs that need an index of their own."""
    wanted: dict[str, dict[str, str]] = {f"both sides {BOTH}": {"subnet": BOTH, "document_subnet": BOTH}}
    if teacher:
        wanted["teacher"] = {"model": teacher}
    dataset, figures = load(str(data_folder() / "collections" / collection)), {}
    for row, denser in wanted.items():
        path = output / f"{collection}.{row.replace(' ', '-')}.trec"
        if not path.is_file():
            config = read_config(PIPELINES / "dense.yaml").model_dump(mode="json")
            config |= {"dataset": dataset.name, "denser": config["denser"] | denser}
            with Pipeline.from_config(config) as pipeline:
                write(pipeline, dataset.queries(), path, tag=row.replace(" ", "-"), k=HITS)
        figures[row] = evaluate(dataset.qrels(), {row: read_run(path)}, MEASURES).means[row]
    return figures


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher")
    parser.add_argument("--only", nargs="*", default=list(COLLECTIONS), help="collections")
    parser.add_argument("--runs", type=Path, default=Path("runs/collections"))
    arguments = parser.parse_args()
    rows = ["bm25", "dense", *(f"dense {subnet}" for subnet in SUBNETS), "hybrid", "hybrid w0.25-d2"]
    figures: dict[str, dict[str, Any]] = {
        name: measure(name, rows, arguments.runs, ready=False) | other_sides(name, arguments.teacher, arguments.runs)
        for name in arguments.only
    }

    def mean(row: str, measure: str) -> float:
        return sum(figures[name][row][measure] for name in figures) / len(figures)

    pairs = [("dense", "teacher")] if arguments.teacher else []
    pairs += [(f"dense {subnet}", "dense") for subnet in SUBNETS]
    pairs += [(f"both sides {BOTH}", "dense"), ("hybrid w0.25-d2", "hybrid")]
    lines = [
        f"Mean over {', '.join(figures)}; BM25 itself: nDCG@10 {mean('bm25', 'ndcg@10'):.4f}.\n",
        "| row | relative to | nDCG@10 | kept | Recall@100 kept | above BM25 |",
        "|---|---|---|---|---|---|",
    ]
    for row, base in pairs:
        kept = [mean(row, m) / mean(base, m) for m in MEASURES]
        above = "yes" if mean(row, "ndcg@10") > mean("bm25", "ndcg@10") else "no"
        lines.append(f"| {row} | {base} | {mean(row, 'ndcg@10'):.4f} | {kept[0]:.3f} | {kept[1]:.3f} | {above} |")
    store("retention", "python benchmarks/retention.py", {"figures": figures}, "\n".join(lines))


if __name__ == "__main__":
    main()
