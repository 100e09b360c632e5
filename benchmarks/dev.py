"""Dev figures of a denser, for choosing recipes: scifact's train queries and 2,000 held-out known-item pairs.

Documents, cut at 128 tokens, are encoded once by `--documents`; queries by each subnet of the model.

python benchmarks/dev.py work/denser-small/checkpoint --documents $TEACHER
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from measured import data_folder

from elastic_ir import ElasticDenser, Subnet
from elastic_ir.datasets import load
from elastic_ir.elastic.precision import Precision
from elastic_ir.evaluate import evaluate
from elastic_ir.records import Qrels

HELD_OUT = {"acl": 700, "medquad": 700, "debian": 600}
"""Rows at the end of each pairs file; recipes stop before them."""
SUBNETS = ("w1.00-d12", "w1.00-d6", "w0.50-d6", "w1.00-d2", "w0.25-d2")
DOCUMENT_TOKENS = 128
Figures = dict[str, dict[str, float]]
"""Dev set -> subnet -> nDCG@10."""


class DevSet(NamedTuple):
    """Texts by id, and what is relevant."""

    name: str
    documents: dict[str, str]
    queries: dict[str, str]
    qrels: Qrels


def dev_sets() -> Iterator[DevSet]:
    """scifact/train, then the held-out pairs of each source."""
    scifact = load(str(data_folder() / "collections" / "scifact"), split="train")
    queries = {query.query_id: query.text for query in scifact.queries()}
    yield DevSet("scifact", {d.doc_id: d.contents for d in scifact.documents()}, queries, scifact.qrels())
    for source, count in HELD_OUT.items():
        with gzip.open(data_folder() / "training" / f"pairs-{source}.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines][-count:]
        ids = [f"{source}-{row}" for row in range(count)]
        documents = dict(zip(ids, (row["passage"] for row in rows), strict=True))
        queries = dict(zip(ids, (row["query"] for row in rows), strict=True))
        yield DevSet(source, documents, queries, {doc_id: {doc_id: 1} for doc_id in ids})


def document_vectors(model: str, dev: DevSet, cache: Path) -> np.ndarray:
    """``[N, D]`` vectors of the documents by ``model`` at full size, kept in ``cache``."""
    denser = ElasticDenser.from_pretrained(model)
    path = cache / f"{dev.name}-{denser.fingerprint[:12]}.npy"
    if not path.is_file():
        texts = list(dev.documents.values())
        vectors = denser.encode_document(texts, max_length=DOCUMENT_TOKENS, progress=True)
        cache.mkdir(parents=True, exist_ok=True)
        np.save(path, vectors)
    return np.load(path)


def figures(denser: ElasticDenser, names: Sequence[str], documents: str, cache: Path, precision: Precision) -> Figures:
    """nDCG@10 of the queries of each subnet in ``names`` on the ``documents`` model's vectors, by dev set."""
    found: Figures = {}
    for dev in dev_sets():
        vectors = document_vectors(documents, dev, cache)
        doc_ids = list(dev.documents)
        asked = [query_id for query_id in dev.queries if query_id in dev.qrels]
        texts = [dev.queries[query_id] for query_id in asked]
        runs = {}
        for name in names:
            scores = denser.encode_query(texts, Subnet.parse(name), precision=precision) @ vectors.T
            best = np.argsort(-scores, axis=1)[:, :10]
            runs[name] = {
                query_id: {doc_ids[i]: float(scores[row, i]) for i in best[row]} for row, query_id in enumerate(asked)
            }
        means = evaluate(dev.qrels, runs, ("ndcg@10",), permutations=100).means
        found[dev.name] = {name: means[name]["ndcg@10"] for name in runs}
    return found


def main() -> None:
    """Print nDCG@10 of each subnet on each dev set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--documents", required=True, help="model that encodes the documents")
    parser.add_argument("--subnets", nargs="*", default=list(SUBNETS))
    parser.add_argument("--prompt", help="query prompt in place of the model's (a plain folder names none)")
    parser.add_argument("--precision", default="fp32", help="of queries")
    parser.add_argument("--cache", type=Path, default=Path("work/dev"))
    arguments = parser.parse_args()
    changes = {} if arguments.prompt is None else {"query_prompt": arguments.prompt}
    denser = ElasticDenser.from_pretrained(arguments.model, **changes)
    found = figures(denser, arguments.subnets, arguments.documents, arguments.cache, arguments.precision)
    print(f"{'':12}" + "".join(f"{name:>10}" for name in [*found, "mean"]))
    for name in arguments.subnets:
        values = [found[dev][name] for dev in found]
        print(f"{name:12}" + "".join(f"{value:10.4f}" for value in [*values, sum(values) / len(values)]))


if __name__ == "__main__":
    main()
