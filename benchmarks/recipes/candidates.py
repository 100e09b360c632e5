"""Candidate lists for the ranker's recipe: hard negatives by TF-IDF and by dense retrieval over training passages.

Lists are in random order, so that a recipe's `limit` leaves a fair sample to choose by.

python benchmarks/recipes/candidates.py ../shared/data/training work/candidates.jsonl
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from elastic_ir import ElasticDenser, Subnet
from elastic_ir.progress import track

PASSAGES = {"arxiv": 30_000, "medquad": 15_500, "movies": 30_000, "debian": 15_000, "acl": 10_000}
QUERIES = {"queries": 25_100, "arxiv": 12_000, "medquad": 15_000, "movies": 5_000, "debian": 8_000, "acl": 6_000}
CHARACTERS = (250, 800)
"""Least and most kept of a passage, drawn for each: passages to search are of all lengths."""
HARD, POOL = 4, 40
"""Hard negatives of each kind: the two best, and others of the best ``POOL``."""
DENSE, DENSE_TOKENS = Subnet(1.0, 2), 64
CHUNK = 256


def read(folder: Path, name: str, limit: int) -> list[dict[str, str]]:
    """The first ``limit`` rows of one training file."""
    path = folder / f"{'' if name == 'queries' else 'pairs-'}{name}.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line, _ in zip(lines, range(limit), strict=False)]


def main() -> None:
    """Write one list a query: the known positive if there is one, hard negatives of both kinds, a random one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    rows = {name: read(arguments.folder, name, max(PASSAGES.get(name, 0), QUERIES[name])) for name in QUERIES}
    passages: list[str] = []
    start = {}
    for name, count in PASSAGES.items():
        start[name] = len(passages)
        lengths = random.integers(*CHARACTERS, size=count)
        passages += [row["passage"][:length] for row, length in zip(rows[name], lengths, strict=False)]
    queries = [
        (row["query"], start[name] + i if name in start else -1)
        for name, count in QUERIES.items()
        for i, row in enumerate(rows[name][:count])
    ]
    random.shuffle(queries)
    texts, positives = [text for text, _ in queries], [positive for _, positive in queries]
    vocabulary: dict[str, int] = {}
    documents = counts(passages, vocabulary, grow=True)
    frequency = np.bincount(documents.indices, minlength=len(vocabulary))
    documents.data = documents.data / (documents.data + 1.2)
    documents = (documents @ sp.diags(np.log(len(passages) / (1 + frequency)).clip(0))).T.tocsc()
    asked = counts(texts, vocabulary, grow=False)
    denser = ElasticDenser.from_pretrained("elastic-denser-small")
    index = denser.encode_document(passages, DENSE, max_length=DENSE_TOKENS, progress=True, precision="auto").T
    vectors = denser.encode_query(texts, DENSE)
    part = arguments.output.with_suffix(".part")
    with part.open("w", encoding="utf-8") as out:
        for first in track(range(0, len(queries), CHUNK), "lists"):
            chunk = slice(first, first + CHUNK)
            pools = [best((asked[chunk] @ documents).toarray()), best(vectors[chunk] @ index)]
            for row, (text, positive) in enumerate(zip(texts[chunk], positives[chunk], strict=True)):
                chosen = [positive if positive >= 0 else int(pools[row % 2][row][0])]
                for pool in pools:
                    others = [int(i) for i in pool[row] if i not in chosen]
                    chosen += others[:2] + random.choice(others[2:], HARD - 2, replace=False).tolist()
                chosen.append(int(random.integers(len(passages))))
                candidates = [passages[i] for i in random.permutation(chosen)]
                out.write(json.dumps({"query": text, "candidates": candidates}, ensure_ascii=False) + "\n")
    part.replace(arguments.output)


def best(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """The ``POOL`` best columns of each row, best first."""
    found = np.argpartition(-scores, POOL, axis=1)[:, :POOL]
    order = np.argsort(-np.take_along_axis(scores, found, 1), axis=1, kind="stable")
    return np.take_along_axis(found, order, 1)


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
    return sp.csr_matrix((np.array(data, np.float32), indices, indptr), shape=(len(texts), len(vocabulary)))


if __name__ == "__main__":
    main()
