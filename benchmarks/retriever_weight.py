"""Chooses `reranker.retriever_weight` on dev data: scifact's train queries and held-out known-item pairs.

python benchmarks/retriever_weight.py --queries 100
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from dev import dev_sets, document_vectors
from measured import store

from elastic_ir import ElasticDenser, ElasticRanker
from elastic_ir.evaluate import evaluate
from elastic_ir.records import Hit
from elastic_ir.rerank.stage import prior

WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 1e6)
CANDIDATES = 30


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=100, help="of each dev set, at most")
    parser.add_argument("--denser", default="elastic-denser-small")
    parser.add_argument("--documents", help="model that encodes the documents; default: the denser")
    parser.add_argument("--ranker", default="elastic-ranker-small")
    parser.add_argument("--cache", type=Path, default=Path("work/dev"))
    arguments = parser.parse_args()
    denser = ElasticDenser.from_pretrained(arguments.denser)
    ranker = ElasticRanker.from_pretrained(arguments.ranker)
    plan = ranker.plan(1.0, CANDIDATES)
    figures: dict[str, dict[str, float]] = {}
    for dev in dev_sets():
        vectors, doc_ids = (
            document_vectors(arguments.documents or arguments.denser, dev, arguments.cache),
            list(dev.documents),
        )
        asked = [query_id for query_id in dev.queries if query_id in dev.qrels][: arguments.queries]
        found = denser.encode_query([dev.queries[query_id] for query_id in asked]) @ vectors.T
        runs: dict[str, dict[str, dict[str, float]]] = {f"{weight:g}": {} for weight in WEIGHTS}
        for row, query_id in enumerate(asked):
            best = np.argsort(-found[row])[:CANDIDATES]
            head = [Hit(doc_ids[i], float(found[row, i])) for i in best]
            tokens = ranker.tokens.ids([dev.documents[hit.doc_id] for hit in head], 510)
            scores = ranker.score_candidates(dev.queries[query_id], tokens, plan, precision="auto").scores
            for weight in WEIGHTS:
                both = scores + np.array(prior(head, weight) or 0.0)
                runs[f"{weight:g}"][query_id] = {hit.doc_id: float(s) for hit, s in zip(head, both, strict=True)}
        qrels = {query_id: dev.qrels[query_id] for query_id in asked}
        means = evaluate(qrels, runs, ("ndcg@10",), permutations=100).means
        figures[dev.name] = {name: means[name]["ndcg@10"] for name in runs}
    lines = [f"| weight | {' | '.join(figures)} | mean |", f"|---|{'---|' * (len(figures) + 1)}"]
    for weight in (f"{weight:g}" for weight in WEIGHTS):
        values = [figures[name][weight] for name in figures]
        cells = " | ".join(f"{value:.4f}" for value in [*values, sum(values) / len(values)])
        lines.append(f"| {weight} | {cells} |")
    store("retriever_weight", "python benchmarks/retriever_weight.py", {"figures": figures}, "\n".join(lines))


if __name__ == "__main__":
    main()
