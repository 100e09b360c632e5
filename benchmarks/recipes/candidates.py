"""Candidate lists for the ranker's recipe: hard negatives by TF-IDF over training passages, and random ones.

python benchmarks/recipes/candidates.py ../shared/data/training work/candidates.jsonl
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import scipy.sparse as sp

PASSAGES = {"arxiv": 25_000, "medquad": 16_000, "movies": 20_000, "debian": 8_000, "acl": 6_000}
QUERIES = {"queries": 25_100, "arxiv": 6_000, "medquad": 6_000, "movies": 3_000, "debian": 3_000, "acl": 3_000}
HARD, RANDOM, POOL = 6, 1, 40


def read(folder: Path, name: str, limit: int) -> list[dict[str, str]]:
    """The first ``limit`` rows of one training file."""
    path = folder / f"{'' if name == 'queries' else 'pairs-'}{name}.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line, _ in zip(lines, range(limit), strict=False)]


def main(folder: Path, output: Path, seed: int = 0) -> None:
    """Write one list a query: the known positive if there is one, hard negatives, random ones."""
    random = np.random.default_rng(seed)
    rows = {name: read(folder, name, max(PASSAGES.get(name, 0), QUERIES[name])) for name in QUERIES}
    passages, start = [], {}
    for name, count in PASSAGES.items():
        start[name] = len(passages)
        passages += [row["passage"][:700] for row in rows[name][:count]]
    queries = [
        (row["query"], start[name] + i if name in start else -1)
        for name, count in QUERIES.items()
        for i, row in enumerate(rows[name][:count])
        if name not in start or i < PASSAGES[name]
    ]
    vocabulary: dict[str, int] = {}
    documents = counts(passages, vocabulary, grow=True)
    frequency = np.bincount(documents.indices, minlength=len(vocabulary))
    idf = np.log(len(passages) / (1 + frequency)).clip(0)
    documents.data = documents.data / (documents.data + 1.2)
    documents = (documents @ sp.diags(idf)).tocsr()
    asked = counts([text for text, _ in queries], vocabulary, grow=False)
    with output.open("w", encoding="utf-8") as out:
        for first in range(0, len(queries), 256):
            scores = (asked[first : first + 256] @ documents.T).toarray()
            best = np.argpartition(-scores, POOL, axis=1)[:, :POOL]
            for row, (text, positive) in enumerate(queries[first : first + 256]):
                pool = [int(i) for i in best[row][np.argsort(-scores[row, best[row]])] if i != positive]
                hard = pool[:2] + [pool[i] for i in random.choice(np.arange(2, len(pool)), HARD - 2, replace=False)]
                chosen = ([positive] if positive >= 0 else [pool[2]]) + hard
                chosen += [int(i) for i in random.integers(0, len(passages), RANDOM)]
                chosen = list(dict.fromkeys(chosen))
                while len(chosen) < 1 + HARD + RANDOM:
                    chosen.append(int(random.integers(0, len(passages))))
                out.write(json.dumps({"query": text, "candidates": [passages[i] for i in chosen]}) + "\n")


def counts(texts: list[str], vocabulary: dict[str, int], grow: bool) -> sp.csr_matrix:
    """Term counts ``[texts, vocabulary]``."""
    indptr, indices, data = [0], [], []
    for text in texts:
        for term, count in Counter(re.findall(r"[a-z0-9]+", text.lower())).items():
            if grow:
                vocabulary.setdefault(term, len(vocabulary))
            if term in vocabulary:
                indices.append(vocabulary[term])
                data.append(float(count))
        indptr.append(len(indices))
    return sp.csr_matrix((data, indices, indptr), shape=(len(texts), len(vocabulary)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
