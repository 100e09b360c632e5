"""ElasticRanker over the given BM25 top 100 of msmarco-dl19-mini: full, budgets, exits and widths.

python benchmarks/ranker.py [--model elastic-ranker-small] [--rows full ...]
"""

from __future__ import annotations

import argparse
import time

from measured import data_folder, store

from elastic_ir.datasets import load
from elastic_ir.evaluate import evaluate, read_run
from elastic_ir.records import in_run_order
from elastic_ir.rerank import ElasticRanker, Plan, Step
from elastic_ir.subnet import Subnet

CANDIDATES = 100


def rows(ranker: ElasticRanker) -> dict[str, Plan]:
    """Row of the table -> plan for 100 candidates."""
    last = ranker.config.num_layers
    table: dict[str, Plan] = {"full": (Step(CANDIDATES, ranker.config.full),)}
    table |= {f"budget {share:.0%}": ranker.plan(share, CANDIDATES) for share in (0.5, 0.25, 0.1)}
    subnets = {Subnet(1.0, depth) for depth in ranker.config.exits if depth < last}
    subnets |= {Subnet(0.5, depth) for depth in ranker.config.exits}
    return table | {str(subnet): (Step(CANDIDATES, subnet),) for subnet in sorted(subnets, reverse=True)}


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="elastic-ranker-small")
    parser.add_argument("--rows", nargs="*", default=[])
    parser.add_argument("--precision", default="auto")
    arguments = parser.parse_args()
    folder = data_folder() / "collections" / "msmarco-dl19-mini"
    dataset = load(str(folder))
    queries = {query.query_id: query.text for query in dataset.queries()}
    bm25 = read_run(folder / "runs" / "bm25-top100.trec")
    ranker = ElasticRanker.from_pretrained(arguments.model)
    tokens = {d.doc_id: ids for d in dataset.documents() for ids in ranker.tokens.ids([d.contents], 512)}
    runs, seconds = {"BM25": bm25}, {"BM25": 0.0}
    for row, plan in rows(ranker).items():
        if arguments.rows and row not in arguments.rows:
            continue
        started = time.perf_counter()
        runs[row] = {}
        for query_id, text in queries.items():
            doc_ids = [doc_id for doc_id, _ in in_run_order(bm25[query_id])]
            steps = tuple(step._replace(candidates=min(step.candidates, len(doc_ids))) for step in plan)
            scored = ranker.score_candidates(
                text, [tokens[doc_id] for doc_id in doc_ids], steps, precision=arguments.precision
            )
            runs[row][query_id] = dict(zip(doc_ids, scored.final().tolist(), strict=True))
        seconds[row] = time.perf_counter() - started
        print(row, f"{seconds[row]:.0f} s", flush=True)
    means = evaluate(dataset.qrels(), runs, ("ndcg@10",), permutations=100).means
    figures = {
        row: {"ndcg@10": means[row]["ndcg@10"], "ms_per_query": 1000 * seconds[row] / len(queries)} for row in runs
    }
    full = figures.get("full", {"ndcg@10": float("nan")})["ndcg@10"]
    lines = ["| msmarco-dl19-mini, BM25 top 100 | nDCG@10 | of full | ms a query |", "|---|---|---|---|"]
    for row, values in figures.items():
        lines.append(
            f"| {row} | {values['ndcg@10']:.4f} | {values['ndcg@10'] / full:.3f} | {values['ms_per_query']:.0f} |"
        )
    store("ranker", "python benchmarks/ranker.py", {"model": arguments.model, "figures": figures}, "\n".join(lines))


if __name__ == "__main__":
    main()
