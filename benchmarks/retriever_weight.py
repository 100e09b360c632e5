"""Chooses `reranker.retriever_weight` on dev data: scifact's train queries and held-out known-item pairs.

With --subnets it chooses the ranker's `retriever_weights` instead, by how much of the full ranker's top 10 among BM25's
first 100 each sub-network finds with the help of BM25's scores.

python benchmarks/retriever_weight.py --queries 100
python benchmarks/retriever_weight.py --queries 60 --subnets
"""

from __future__ import annotations

import argparse
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np
from dev import dev_sets, document_vectors
from measured import store
from numpy.typing import NDArray

from elastic_ir import ElasticDenser, ElasticRanker
from elastic_ir.evaluate import evaluate
from elastic_ir.index.lucene import LuceneIndex, build_lucene
from elastic_ir.rerank import Step
from elastic_ir.subnet import Subnet

WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 1e6)
CANDIDATES = 30
LISTED, TOP = 100, 10
Figures = dict[str, dict[str, float]]
"""Dev set -> weight -> figure."""


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=100, help="of each dev set, at most")
    parser.add_argument("--denser", default="elastic-denser-small")
    parser.add_argument("--documents", help="model that encodes the documents; default: the denser")
    parser.add_argument("--ranker", default="elastic-ranker-small")
    parser.add_argument("--cache", type=Path, default=Path("work/dev"))
    parser.add_argument("--subnets", action="store_true", help="choose the ranker's `retriever_weights`")
    arguments = parser.parse_args()
    if arguments.subnets:
        by_subnet(ElasticRanker.from_pretrained(arguments.ranker, retriever_weights={}), arguments.queries)
        return
    denser = ElasticDenser.from_pretrained(arguments.denser)
    ranker = ElasticRanker.from_pretrained(arguments.ranker)
    plan = ranker.plan(1.0, CANDIDATES)
    figures: Figures = {}
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
            head = [doc_ids[i] for i in best]
            tokens = ranker.tokens.ids([dev.documents[doc_id] for doc_id in head], 510)
            scores = ranker.score_candidates(dev.queries[query_id], tokens, plan, precision="auto").scores
            for weight in WEIGHTS:
                both = scores + ranker.prior(ranker.config.full, found[row, best].tolist(), weight)
                runs[f"{weight:g}"][query_id] = dict(zip(head, both.tolist(), strict=True))
        qrels = {query_id: dev.qrels[query_id] for query_id in asked}
        means = evaluate(qrels, runs, ("ndcg@10",), permutations=100).means
        figures[dev.name] = {name: means[name]["ndcg@10"] for name in runs}
    store("retriever_weight", "python benchmarks/retriever_weight.py", {"figures": figures}, table(figures))


def by_subnet(ranker: ElasticRanker, count: int) -> None:
    """Measure, print and store the weights of small sub-networks."""
    full = ranker.config.full
    smaller = [subnet for subnet in map(Subnet.parse, ranker.config.trained) if subnet != full]
    shares: dict[str, dict[str, dict[str, list[float]]]] = {}
    for dev in dev_sets():
        ids = sorted(query_id for query_id in dev.queries if query_id in dev.qrels)
        asked = Random(0).sample(ids, min(count, len(ids)))
        with TemporaryDirectory() as folder:
            build_lucene(dev.documents.items(), Path(folder) / "bm25")
            lucene = LuceneIndex(Path(folder) / "bm25")
            found = [result.hits for result in lucene.search([dev.queries[query_id] for query_id in asked], LISTED)]
            lucene.close()
        for query_id, hits in zip(asked, found, strict=True):
            tokens = ranker.tokens.ids([dev.documents[doc_id] for doc_id, _ in hits], 510)

            def scores(subnet: Subnet, text: str = dev.queries[query_id], tokens: list[list[int]] = tokens) -> NDArray:
                return ranker.score_candidates(text, tokens, (Step(len(tokens), subnet),), precision="auto").scores

            best = set(np.argsort(-scores(full), kind="stable")[:TOP])
            for subnet in smaller:
                own = scores(subnet)
                for weight in WEIGHTS:
                    both = own + ranker.prior(subnet, [score for _, score in hits], weight)
                    top = set(np.argsort(-both, kind="stable")[:TOP])
                    of_weight = shares.setdefault(str(subnet), {}).setdefault(dev.name, {})
                    of_weight.setdefault(f"{weight:g}", []).append(len(best & top) / max(1, len(best)))
        print(dev.name, flush=True)
    figures = {
        subnet: {name: {weight: sum(v) / len(v) for weight, v in values.items()} for name, values in sets.items()}
        for subnet, sets in shares.items()
    }
    tables = "\n\n".join(f"{subnet}:\n\n{table(found)}" for subnet, found in figures.items())
    command = f"python benchmarks/retriever_weight.py --queries {count} --subnets"
    store("retriever_weights", command, {"figures": figures}, tables)


def table(figures: Figures) -> str:
    """Weights down, dev sets across, and their mean."""
    lines = [f"| weight | {' | '.join(figures)} | mean |", f"|---|{'---|' * (len(figures) + 1)}"]
    for weight in (f"{weight:g}" for weight in WEIGHTS):
        values = [figures[name][weight] for name in figures]
        cells = " | ".join(f"{value:.4f}" for value in [*values, sum(values) / len(values)])
        lines.append(f"| {weight} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
