"""ElasticRanker over the given BM25 top 100 of msmarco-dl19-mini: full, budgets and sub-networks, with what each costs.

43 queries are few, so beside it: how much of the full ranker's top 10 each row finds in BM25's top 100 of other
collections (the runs of benchmarks/quality.py).

python benchmarks/ranker.py [--model elastic-ranker-small] [--teacher FOLDER_OR_NAME] [--agreement 25] [--rows full ...]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from random import Random

import numpy as np
from measured import COLLECTIONS, data_folder, store

from elastic_ir.datasets import load
from elastic_ir.evaluate import evaluate, read_run
from elastic_ir.records import in_run_order
from elastic_ir.rerank import ElasticRanker, Plan, Step, replay
from elastic_ir.subnet import Subnet

CANDIDATES, TOP = 100, 10
JUDGED = "msmarco-dl19-mini"


def rows(ranker: ElasticRanker, chosen: list[str]) -> dict[str, Plan]:
    """Row of the table -> plan for 100 candidates."""
    table: dict[str, Plan] = {"full": (Step(CANDIDATES, ranker.config.full),)}
    table |= {f"budget {share:.0%}": ranker.plan(share, CANDIDATES) for share in (0.5, 0.25, 0.1)}
    named = {Subnet.parse(text) for text in ranker.config.trained}
    if ranker.config.depth_rule == "prefix":  # every exit of a trained width was trained
        named = {Subnet(width, depth) for width in (1.0, 0.5) for depth in ranker.config.exits}
    smaller = sorted(named - {ranker.config.full}, key=lambda subnet: -subnet.width * subnet.depth)
    table |= {str(subnet): (Step(CANDIDATES, subnet),) for subnet in smaller}
    return {row: plan for row, plan in table.items() if not chosen or row in chosen}


def fitting(plan: Plan, count: int) -> Plan:
    """``plan`` for a list that is shorter than 100."""
    return tuple(step._replace(candidates=min(step.candidates, count)) for step in plan)


def judged(ranker: ElasticRanker, plans: dict[str, Plan], precision: str) -> dict[str, dict[str, float]]:
    """nDCG@10 and milliseconds a query of each row on the judged collection."""
    folder = data_folder() / "collections" / JUDGED
    dataset, bm25 = load(str(folder)), read_run(folder / "runs" / "bm25-top100.trec")
    queries = {query.query_id: query.text for query in dataset.queries()}
    tokens = {d.doc_id: ids for d in dataset.documents() for ids in ranker.tokens.ids([d.contents], 512)}
    runs, seconds = {"BM25": bm25}, {"BM25": 0.0}
    for row, plan in plans.items():
        started = time.perf_counter()
        runs[row] = {}
        for query_id, text in queries.items():
            doc_ids = [doc_id for doc_id, _ in in_run_order(bm25[query_id])]
            documents = [tokens[doc_id] for doc_id in doc_ids]
            scored = ranker.score_candidates(text, documents, fitting(plan, len(doc_ids)), precision=precision)
            runs[row][query_id] = dict(zip(doc_ids, scored.final().tolist(), strict=True))
        seconds[row] = time.perf_counter() - started
        print(row, f"{seconds[row]:.0f} s", flush=True)
    means = evaluate(dataset.qrels(), runs, ("ndcg@10",), permutations=100).means
    return {row: {"ndcg@10": means[row]["ndcg@10"], "ms": 1000 * seconds[row] / len(queries)} for row in runs}


def agreement(
    ranker: ElasticRanker, plans: dict[str, Plan], collection: str, run: Path, count: int, precision: str
) -> dict[str, float]:
    """Share of the full ranker's top 10 that each row finds, mean over ``count`` queries drawn by a fixed seed."""
    dataset, bm25 = load(str(data_folder() / "collections" / collection)), read_run(run)
    queries = sorted(query for query in dataset.queries() if query.query_id in bm25)
    drawn = Random(0).sample(queries, min(count, len(queries)))
    lists = {q.query_id: [doc_id for doc_id, _ in in_run_order(bm25[q.query_id])][:CANDIDATES] for q in drawn}
    wanted = {doc_id for doc_ids in lists.values() for doc_id in doc_ids}
    room = ranker.settings.max_length * ranker.settings.max_passages
    tokens = {d.doc_id: ranker.tokens.ids([d.contents], room)[0] for d in dataset.documents() if d.doc_id in wanted}
    subnets = {step.subnet for plan in plans.values() for step in plan} | {ranker.config.full}
    found: dict[str, list[float]] = {row: [] for row in plans}
    for query in drawn:
        documents = [tokens[doc_id] for doc_id in lists[query.query_id]]
        scores = {
            subnet: ranker.score_candidates(
                query.text, documents, (Step(len(documents), subnet),), precision=precision
            ).scores
            for subnet in subnets
        }
        best = set(np.argsort(-scores[ranker.config.full], kind="stable")[:TOP])
        for row, plan in plans.items():
            order = replay(fitting(plan, len(documents)), scores).order()
            found[row].append(len(best & set(order[:TOP])) / len(best))
    print(collection, {row: round(sum(values) / len(values), 3) for row, values in found.items()}, flush=True)
    return {row: sum(values) / len(values) for row, values in found.items()}


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="elastic-ranker-small")
    parser.add_argument("--teacher", help="cross-encoder that taught; its row is `teacher`")
    parser.add_argument("--rows", nargs="*", default=[])
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--agreement", type=int, default=0, metavar="QUERIES", help="of each other collection; slow")
    parser.add_argument("--runs", type=Path, default=Path("runs/collections"), help="holds NAME.bm25.trec")
    arguments = parser.parse_args()
    ranker = ElasticRanker.from_pretrained(arguments.model)
    plans = rows(ranker, arguments.rows)
    figures = judged(ranker, plans, arguments.precision)
    if arguments.teacher:
        teacher = ElasticRanker.from_pretrained(arguments.teacher)
        whole = {"teacher": (Step(CANDIDATES, teacher.config.full),)}
        figures |= {"teacher": judged(teacher, whole, arguments.precision)["teacher"]}
    others = [name for name in COLLECTIONS if name != JUDGED and arguments.agreement]
    shared = {}
    for name in others:
        run = arguments.runs / f"{name}.bm25.trec"
        shared[name] = agreement(ranker, plans, name, run, arguments.agreement, arguments.precision)
    full = figures.get("full", {"ndcg@10": float("nan")})["ndcg@10"]
    lines = [
        f"| {JUDGED}, BM25 top 100 | nDCG@10 | of full | ms a query |{''.join(f' {name} |' for name in others)}",
        f"|---|---|---|---|{'---|' * len(others)}",
    ]
    for row, values in figures.items():
        cells = "".join(f" {shared[name][row]:.3f} |" if row in shared[name] else " |" for name in others)
        ms = f"{values['ms']:.0f}" if values["ms"] else ""
        lines.append(f"| {row} | {values['ndcg@10']:.4f} | {values['ndcg@10'] / full:.3f} | {ms} |{cells}")
    if others:
        lines.append(f"\nNames of collections: share of full's top {TOP} found, {arguments.agreement} queries each.")
    command = "python benchmarks/ranker.py" + (f" --agreement {arguments.agreement}" if others else "")
    command += f" --model {arguments.model}" if arguments.model != parser.get_default("model") else ""
    command += " --teacher TEACHER" if arguments.teacher else ""
    command += f" --precision {arguments.precision}" if arguments.precision != "auto" else ""
    store("ranker", command, {"model": arguments.model, "figures": figures, "agreement": shared}, "\n".join(lines))


if __name__ == "__main__":
    main()
