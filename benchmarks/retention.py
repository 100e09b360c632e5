"""How much of the full model's quality each sub-network keeps, over the five collections (none seen in training).

Takes the runs of benchmarks/quality.py, makes those that are missing, and adds both sides at w0.50-d6, a table of
static token vectors (no layers at all) and, with --teacher, the model that taught.

python benchmarks/retention.py [--teacher FOLDER_OR_NAME]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measured import COLLECTIONS, data_folder, is_current, store
from quality import HITS, PIPELINES, SUBNETS, index_of, measure

from elastic_ir import ElasticDenser
from elastic_ir.config import read_config
from elastic_ir.datasets import load
from elastic_ir.evaluate import evaluate, read_run
from elastic_ir.index import open_index
from elastic_ir.pipeline import Pipeline
from elastic_ir.runs import write

BOTH = "both sides w0.50-d6"
STATIC = "token table"
MEASURES = ("ndcg@10", "recall@100")
WANTED = {
    "dense": (0.99, 1.00),
    "dense w1.00-d6": (0.95, 0.98),
    "dense w0.50-d6": (0.92, 0.96),
    "dense w1.00-d2": (0.88, 0.93),
    "dense w0.25-d2": (0.75, 0.85),
    BOTH: (0.88, 0.94),
    "hybrid w0.25-d2": (0.95, 0.98),
}
"""Row -> share of nDCG@10 to keep at least, and to reach for."""
TOLERANCE = 0.005


def other_models(collection: str, teacher: str | None, output: Path) -> dict[str, dict[str, float]]:
    """Figures of runs that need an index of their own."""
    wanted: dict[str, dict[str, str]] = {BOTH: {"subnet": "w0.50-d6", "document_subnet": "w0.50-d6"}}
    if teacher:
        wanted["teacher"] = {"model": teacher}
    dataset, figures = load(str(data_folder() / "collections" / collection)), {}
    for row, denser in wanted.items():
        path = output / f"{collection}.{row.replace(' ', '-')}.trec"
        if not is_current(path):
            config = read_config(PIPELINES / "dense.yaml").model_dump(mode="json")
            config |= {"dataset": dataset.name, "denser": config["denser"] | denser}
            with Pipeline.from_config(config) as pipeline:
                write(pipeline, dataset.queries(), path, tag=row.replace(" ", "-"), k=HITS)
        figures[row] = evaluate(dataset.qrels(), {row: read_run(path)}, MEASURES).means[row]
    return figures


def token_table(collection: str, denser: ElasticDenser, table: np.ndarray) -> dict[str, float]:
    """Figures of queries encoded without a model: their tokens' vectors, weighted by idf in the collection."""
    folder = str(data_folder() / "collections" / collection)
    dataset, run = load(folder), {}
    with open_index(index_of(folder)) as index:
        assert index.dense is not None
        ids = denser.tokens.ids([document.contents for document in index.documents], denser.settings.max_length)
        frequency = np.bincount(
            np.concatenate([np.unique(np.array(row, np.int64)) for row in ids]), minlength=len(table)
        )
        idf = np.log(len(ids) / np.maximum(1, frequency))
        queries = list(dataset.queries())
        for query, tokens in zip(queries, denser.tokens.ids([query.text for query in queries], 512), strict=True):
            vector = (idf[tokens, None] * table[tokens]).sum(0)
            vector /= max(float(np.linalg.norm(vector)), 1e-9)
            run[query.query_id] = dict(index.dense.search(vector[None].astype(np.float32), HITS)[0])
    return evaluate(dataset.qrels(), {STATIC: run}, MEASURES).means[STATIC]


def table_lines(figures: dict[str, dict[str, Any]], teacher: bool) -> Iterator[str]:
    """Markdown: every row relative to its base, and whether a larger subnet is ever worse than a smaller one."""

    def mean(row: str, measure: str) -> float:
        return sum(figures[name][row][measure] for name in figures) / len(figures)

    small = [f"dense {subnet}" for subnet in SUBNETS]
    pairs = [("dense", "teacher")] if teacher else []
    pairs += [*((row, "dense") for row in (*small, BOTH, STATIC)), ("hybrid w0.25-d2", "hybrid")]
    yield f"Mean over {', '.join(figures)}; BM25 itself: nDCG@10 {mean('bm25', 'ndcg@10'):.4f}.\n"
    yield "| row | relative to | nDCG@10 | kept | at least | reach for | Recall@100 kept | above BM25 |"
    yield "|---|---|---|---|---|---|---|---|"
    for row, base in pairs:
        kept = [mean(row, m) / mean(base, m) for m in MEASURES]
        above = "yes" if mean(row, "ndcg@10") > mean("bm25", "ndcg@10") else "no"
        least, reach = (f"{share:.2f}" for share in WANTED[row]) if row in WANTED else ("", "")
        miss = " (missed)" if row in WANTED and kept[0] < WANTED[row][0] else ""
        yield (
            f"| {row} | {base} | {mean(row, 'ndcg@10'):.4f} | {kept[0]:.3f}{miss} | {least} | {reach} "
            f"| {kept[1]:.3f} | {above} |"
        )
    order = ["dense", *small]
    worst = max(mean(b, "ndcg@10") - mean(a, "ndcg@10") for i, a in enumerate(order) for b in order[i + 1 :])
    holds = "holds" if worst <= TOLERANCE else "missed"
    yield f"\nLarger never worse than smaller by more than {TOLERANCE} in the mean: {holds} ({worst:+.4f} at worst)."


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher")
    parser.add_argument("--only", nargs="*", default=list(COLLECTIONS), help="collections")
    parser.add_argument("--runs", type=Path, default=Path("runs/collections"))
    arguments = parser.parse_args()
    rows = ["bm25", "dense", *(f"dense {subnet}" for subnet in SUBNETS), "hybrid", "hybrid w0.25-d2"]
    denser = ElasticDenser.from_pretrained("elastic-denser-small")
    table = denser.encode_tokens([denser.tokens.single([token]) for token in range(denser.config.vocab_size)])
    figures: dict[str, dict[str, Any]] = {}
    for name in arguments.only:
        figures[name] = measure(name, rows, arguments.runs, ready=False)
        figures[name] |= other_models(name, arguments.teacher, arguments.runs)
        figures[name][STATIC] = token_table(name, denser, table)
    lines = "\n".join(table_lines(figures, bool(arguments.teacher)))
    command = "python benchmarks/retention.py" + (" --teacher TEACHER" if arguments.teacher else "")
    command += f" --only {' '.join(arguments.only)}" if arguments.only != list(COLLECTIONS) else ""
    store("retention", command, {"figures": figures}, lines)


if __name__ == "__main__":
    main()
