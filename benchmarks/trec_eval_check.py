"""Both engines against trec_eval: 1,000 random runs full of ties, every measure that trec_eval has.

python benchmarks/trec_eval_check.py
"""

from __future__ import annotations

import argparse
import time
from itertools import islice

import numpy as np
from measured import store

from elastic_ir.evaluate import cross_check, evaluate
from elastic_ir.evaluate.crosscheck import TOLERANCE
from elastic_ir.evaluate.figures import EngineName
from elastic_ir.records import Qrels, Run

MEASURES = (
    *("ndcg@10", "ndcg", "ndcg_burges@10", "map", "map@20", "map-l2", "mrr", "mrr@10", "recall@100", "recall@100-l2"),
    *("precision@5", "hit_rate@3", "r-precision", "hits", "hits@7", "bpref", "bpref-l2", "judged@10"),
)
ENGINES: tuple[EngineName, ...] = ("numpy", "ranx")
QUERIES, DOCUMENTS, BATCH = 8, 150, 50


def random_qrels(random: np.random.Generator) -> Qrels:
    """Grades of -2 to 3 for 1 to 60 documents a query."""
    return {
        f"q{query}": {
            f"d{doc}": int(random.integers(-2, 4))
            for doc in random.choice(DOCUMENTS, random.integers(1, 61), replace=False)
        }
        for query in range(QUERIES)
    }


def random_run(random: np.random.Generator, qrels: Qrels) -> Run:
    """1 to 150 hits a query with few distinct scores, or scores that only float32 makes equal; some queries missing."""
    levels = int(random.integers(1, 6))
    kinds = (
        lambda size: random.integers(0, levels, size) / 1.0,
        lambda size: 1 + random.normal(size=size) * 1e-8,
        lambda size: random.choice([1e39, 1e300, -1e39, 0.0, -0.0], size),
        lambda size: np.round(random.normal(size=size), 1),
    )
    draw = kinds[int(random.integers(len(kinds)))]
    run = {}
    for query_id in qrels:
        if random.random() < 0.95:
            documents = random.permutation(DOCUMENTS)[: random.integers(1, DOCUMENTS + 1)]
            scores = draw(len(documents)).tolist()
            run[query_id] = {f"d{doc}": score for doc, score in zip(documents, scores, strict=True)}
    return run


def main() -> None:
    """Check, store ``results/trec_eval_check.*``, and fail if an engine is off."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=20)
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    figures = {engine: {"figures": 0, "largest": 0.0, "where": "", "seconds": 0.0} for engine in ENGINES}
    between, left = 0.0, arguments.runs
    while left > 0:
        qrels = random_qrels(random)
        runs = {f"run{n}": run for n, run in islice(((n, random_run(random, qrels)) for n in range(left)), BATCH)}
        left -= len(runs)
        found = {}
        for engine in ENGINES:
            total, started = figures[engine], time.process_time()
            parts = [
                evaluate(qrels, {name: run}, MEASURES, permutations=1, resamples=1, engine_name=engine)
                for name, run in runs.items()
            ]
            total["seconds"] += time.process_time() - started
            for part, (name, run) in zip(parts, runs.items(), strict=True):
                checked = cross_check(part, qrels, {name: run})
                total["figures"] += checked.figures
                if checked.largest > total["largest"]:
                    total["largest"], total["where"] = checked.largest, checked.where
            found[engine] = np.array(
                [list(by.values()) for part in parts for one in part.per_query.values() for by in one.values()]
            )
        between = max(between, float(np.abs(found["numpy"] - found["ranx"]).max()))
    rows = [
        f"| {name} | {arguments.runs:,} | {total['figures']:,} | {total['largest']:.2g} | {total['seconds']:.1f} |"
        for name, total in figures.items()
    ]
    head = "| engine | runs | figures | largest difference from trec_eval | CPU s |"
    notes = f"Measures: {', '.join(MEASURES)}. Between the engines: {between:.2g} at most."
    table = "\n".join([head, "|---|---:|---:|---:|---:|", *rows, "", notes])
    figures_stored = {"measures": MEASURES, "engines": figures, "between_engines": between, "tolerance": TOLERANCE}
    store("trec_eval_check", "python benchmarks/trec_eval_check.py", figures_stored, table)
    if max(total["largest"] for total in figures.values()) > TOLERANCE:
        raise SystemExit(f"a figure is more than {TOLERANCE} from trec_eval's")


if __name__ == "__main__":
    main()
