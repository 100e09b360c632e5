"""BM25, dense (full and smaller query subnets), hybrid and elastic on every collection.

python benchmarks/quality.py                 # all five, with reranking
python benchmarks/quality.py --only scifact  # one
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from measured import COLLECTIONS, RESULTS, data_folder, is_current, store

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


def measure(collection: str, chosen: list[str], output: Path, ready: bool) -> dict[str, Any]:
    """Figures of every row on one collection; ``ready`` leaves out rows without a finished run."""
    folder = str(data_folder() / "collections" / collection)
    dataset = load(folder)
    index = None if ready else index_of(folder)
    runs, latency = {}, {}
    for row, (pipeline, level) in rows(chosen).items():
        path = output / f"{collection}.{row.replace(' ', '-')}.trec"
        if not is_current(path):
            if index is None:
                continue
            with Pipeline.from_config(PIPELINES / f"{pipeline}.yaml", index=index) as opened:
                write(opened, dataset.queries(), path, tag=row.replace(" ", "-"), k=HITS, level=level)
        runs[row], latency[row] = read_run(path), read_metadata(path)["latency_ms"]["mean"]
    result = evaluate(dataset.qrels(), runs, MEASURES, permutations=100)
    return {row: {**result.means[row], "latency_ms": latency[row]} for row in runs}


def index_of(folder: str) -> Path:
    """Path of the index of a collection that pipelines/dense.yaml builds, built if it is not there."""
    dense = read_config(PIPELINES / "dense.yaml").model_dump(mode="json") | {"dataset": folder}
    with Pipeline.from_config(dense) as opened:
        return opened.index_path


def _line(row: str, figures: dict[str, Any], measure: str) -> str:
    """One line of a table; the mean only where every collection has the row."""
    values = [figures[name][row][measure] for name in figures if row in figures[name]]
    cells = [f"{figures[name][row][measure]:.4f}" if row in figures[name] else "-" for name in figures]
    mean = f"{sum(values) / len(values):.4f}" if len(values) == len(figures) else "-"
    return f"| {row} | {' | '.join(cells)} | {mean} |"


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(COLLECTIONS), help="collections")
    parser.add_argument("--rows", nargs="*", default=[], help="rows of the table")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/collections"), help="folder of the runs; ready ones are kept"
    )
    parser.add_argument("--ready", action="store_true", help="tabulate finished runs only")
    arguments = parser.parse_args()
    figures = {name: measure(name, arguments.rows, arguments.runs, arguments.ready) for name in arguments.only}
    lines = []
    for title, key in (("nDCG@10", "ndcg@10"), ("Recall@100", "recall@100")):
        lines += [f"| {title} | {' | '.join(figures)} | mean |", f"|---|{'---|' * (len(figures) + 1)}"]
        lines += [_line(row, figures, key) for row in rows(arguments.rows) if any(row in f for f in figures.values())]
        lines.append("")
    RESULTS.mkdir(exist_ok=True)
    store("quality", "python benchmarks/quality.py", {"figures": figures}, "\n".join(lines).rstrip())


if __name__ == "__main__":
    main()
