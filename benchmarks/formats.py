"""What int8 costs and gains: weights as stored, matrix products as computed; full model, both sides.

python benchmarks/formats.py [--exact work/denser-small/checkpoint]   # the float32 weights before they were packed
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from measured import data_folder, store

from elastic_ir import ElasticDenser
from elastic_ir.datasets import load
from elastic_ir.elastic.precision import Precision, bf16_is_native
from elastic_ir.evaluate import evaluate

COLLECTIONS = ("cranfield", "cacm")


def measure(denser: ElasticDenser, collection: str, precision: Precision) -> tuple[float, float]:
    """nDCG@10, and tokens of documents encoded in a second."""
    dataset = load(str(data_folder() / "collections" / collection))
    documents, queries = list(dataset.documents()), list(dataset.queries())
    texts = [document.contents for document in documents]
    tokens = sum(map(len, denser.tokens.ids(texts, denser.settings.max_length)))
    started = time.perf_counter()
    vectors = denser.encode_document(texts, precision=precision)
    seconds = time.perf_counter() - started
    found = denser.encode_query([query.text for query in queries], precision=precision) @ vectors.T
    best = np.argsort(-found, axis=1)[:, :10]
    run = {
        query.query_id: {documents[i].doc_id: float(found[row, i]) for i in best[row]}
        for row, query in enumerate(queries)
    }
    means = evaluate(dataset.qrels(), {"run": run}, ("ndcg@10",), permutations=100).means
    return means["run"]["ndcg@10"], tokens / seconds


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="elastic-denser-small")
    parser.add_argument("--exact", help="checkpoint with float32 weights")
    arguments = parser.parse_args()
    bundled = ElasticDenser.from_pretrained(arguments.model)
    rows: list[tuple[str, ElasticDenser, Precision]] = []
    if arguments.exact:
        rows.append(("float32 weights, fp32 products", ElasticDenser.from_pretrained(arguments.exact), "fp32"))
    formats: tuple[Precision, ...] = ("fp32", "int8", "bf16") if bf16_is_native() else ("fp32", "int8")
    rows += [(f"int8 weights, {name} products", bundled, name) for name in formats]
    figures = {
        label: dict(zip(COLLECTIONS, (measure(denser, name, precision) for name in COLLECTIONS), strict=True))
        for label, denser, precision in rows
    }
    head = " | ".join(f"{name} nDCG@10 | tokens/s" for name in COLLECTIONS)
    lines = [f"| weights, products | {head} |", f"|---|{'---|---|' * len(COLLECTIONS)}"]
    for label, values in figures.items():
        cells = " | ".join(f"{quality:.4f} | {speed:.0f}" for quality, speed in values.values())
        lines.append(f"| {label} | {cells} |")
    store("formats", "python benchmarks/formats.py --exact CHECKPOINT", {"figures": figures}, "\n".join(lines))


if __name__ == "__main__":
    main()
