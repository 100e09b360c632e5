"""BM25, dense (full and smaller query subnets), hybrid and elastic on every collection.

python benchmarks/quality.py                 # all five, with reranking
python benchmarks/quality.py --only scifact  # one
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from measured import COLLECTIONS, RESULTS, data_folder, store

from elastic_ir.config import read_config
from elastic_ir.datasets import load
from elastic_ir.evaluate import evaluate, read_metadata, read_run
from elastic_ir.pipeline import Pipeline
from elastic_ir.runs import write

PIPELINES = Path(__file__).parents[1] / "pipelines"
SUBNETS = ("w1.00-d6", "w0.50-d6", "w1.00-d2", "w0.25-d2")
MEASURES = ("ndcg@10", "recall@100", "map", "mrr@10")
HITS = 1000


def rows(names: list[str]) -> dict[str, tuple[str, str | None]]:
    """Row of the table -> (pipeline file, level)."""
    table: dict[str, tuple[str, str | None]] = {"bm25": ("bm25", None), "dense": ("dense", None)}
    table |= {f"dense {subnet}": ("dense", f"dense:{subnet}") for subnet in SUBNETS}
    table |= {
        "hybrid": ("hybrid", None),
        "hybrid w0.25-d2": ("hybrid", "hybrid:w0.25-d2"),
        "elastic": ("elastic", None),
    }
    return {row: value for row, value in table.items() if not names or row in names}


def measure(collection: str, chosen: list[str], output: Path) -> dict[str, Any]:
    """Figures of every row on one collection."""
    folder = str(data_folder() / "collections" / collection)
    dataset = load(folder)
    dense = read_config(PIPELINES / "dense.yaml").model_dump(mode="json") | {"dataset": folder}
    with Pipeline.from_config(dense) as opened:
        index = opened.index_path
    runs, latency = {}, {}
    for row, (pipeline, level) in rows(chosen).items():
        path = output / f"{collection}.{row.replace(' ', '-')}.trec"
        if not path.is_file():
            with Pipeline.from_config(PIPELINES / f"{pipeline}.yaml", index=index) as opened:
                write(opened, dataset.queries(), path, tag=row.replace(" ", "-"), k=HITS, level=level)
        runs[row], latency[row] = read_run(path), read_metadata(path)["latency_ms"]["mean"]
    result = evaluate(dataset.qrels(), runs, MEASURES, permutations=100)
    return {row: {**result.means[row], "latency_ms": latency[row]} for row in runs}


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(COLLECTIONS), help="collections")
    parser.add_argument("--rows", nargs="*", default=[], help="rows of the table")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/collections"), help="folder of the runs; ready ones are kept"
    )
    arguments = parser.parse_args()
    figures = {name: measure(name, arguments.rows, arguments.runs) for name in arguments.only}
    names = list(next(iter(figures.values())))
    lines = [f"| nDCG@10 | {' | '.join(figures)} | mean |", f"|---|{'---|' * (len(figures) + 1)}"]
    for row in names:
        values = [figures[name][row]["ndcg@10"] for name in figures]
        lines.append(f"| {row} | {' | '.join(f'{v:.4f}' for v in values)} | {sum(values) / len(values):.4f} |")
    lines += ["", f"| Recall@100 | {' | '.join(figures)} |", f"|---|{'---|' * len(figures)}"]
    for row in names:
        values = [figures[name][row]["recall@100"] for name in figures]
        lines.append(f"| {row} | {' | '.join(f'{v:.4f}' for v in values)} |")
    RESULTS.mkdir(exist_ok=True)
    store("quality", "python benchmarks/quality.py", {"figures": figures}, "\n".join(lines))


if __name__ == "__main__":
    main()
