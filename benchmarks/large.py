"""A build of 165,000 passages: time, peak memory, a kill on the way, and what approximate factories find and save.

The passages are arXiv abstracts, their titles the queries. The build runs twice in processes of its own: once in one
go, once killed and called again; every file must come out the same.

python benchmarks/large.py [--subnet w0.25-d2] [--documents 165732] [--factories IVF2048,Flat HNSW32 IVF2048,PQ96]
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from measured import data_folder, store

from elastic_ir import ElasticDenser, Subnet
from elastic_ir.index import open_index
from elastic_ir.index.factory import load_faiss, make_index, one_thread

QUERIES, DEPTH, CHUNK = 500, 100, 1024
FLOAT_BYTES = 4


def write_folder(folder: Path, count: int) -> list[str]:
    """The corpus in the BEIR layout; gives the titles of every n-th passage as queries."""
    folder.mkdir(parents=True, exist_ok=True)
    titles = []
    source = data_folder() / "training" / "pairs-arxiv.jsonl.gz"
    with gzip.open(source, "rt", encoding="utf-8") as lines, (folder / "corpus.jsonl").open("w") as corpus:
        for row, line in enumerate(lines):
            if row == count:
                break
            pair = json.loads(line)
            corpus.write(json.dumps({"_id": f"a{row}", "title": "", "text": pair["passage"]}) + "\n")
            titles.append(pair["query"])
    return titles[:: max(1, len(titles) // QUERIES)][:QUERIES]


def build(folder: Path, output: Path, subnet: Subnet, kill_at: int | None = None) -> tuple[float, float]:
    """Run the command, killed once ``kill_at`` chunks are encoded; gives seconds, and peak resident bytes with its
    child's."""
    command = [
        sys.executable, "-m", "elastic_ir.cli", "index", "--dataset", str(folder), "--output", str(output),
        "--width", str(subnet.width), "--depth", str(subnet.depth),
    ]  # fmt: skip
    begun, peak = time.perf_counter(), 0.0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, _resident(process.pid))
        if kill_at is not None and len([*output.glob("encoding.tmp/chunk-*.npy")]) >= kill_at:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.2)
    if process.returncode != (0 if kill_at is None else -signal.SIGKILL):
        raise SystemExit(f"exit {process.returncode} of {' '.join(command)}")
    return time.perf_counter() - begun, peak


def _resident(pid: int) -> float:
    try:
        children = [int(c) for path in Path(f"/proc/{pid}/task").glob("*/children") for c in path.read_text().split()]
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(map(_resident, children))


def files(output: Path) -> dict[str, str]:
    """Hash of every file but Lucene's, which holds times."""
    with open_index(output) as generation:
        recorded = generation.manifest.files
    return {name: record.sha256 for name, record in recorded.items() if not name.startswith("lucene/")}


def approximate(flat: Any, queries: np.ndarray, factories: list[str]) -> dict[str, dict[str, float]]:
    """Recall@100 against Flat, milliseconds of one query alone, and seconds to build, of each factory."""
    vectors = flat.reconstruct_n(0, flat.ntotal)
    with one_thread():
        exact, flat_ms = _searched(flat, queries)
    found = {"Flat": {"recall": 1.0, "ms": flat_ms, "build_s": 0.0}}
    for factory in factories:
        index = make_index(factory, vectors.shape[1])
        begun = time.perf_counter()
        if not index.is_trained:
            index.train(vectors)
        index.add(vectors)
        seconds = time.perf_counter() - begun
        with one_thread():
            rows, ms = _searched(index, queries)
        shared = [len(set(a) & set(b)) / DEPTH for a, b in zip(rows.tolist(), exact.tolist(), strict=True)]
        found[factory] = {"recall": float(np.mean(shared)), "ms": ms, "build_s": seconds}
        print(factory, found[factory], flush=True)
    return found


def _searched(index: Any, queries: np.ndarray) -> tuple[np.ndarray, float]:
    rows, took = [], []
    for query in queries:
        begun = time.perf_counter()
        rows.append(index.search(query[None], DEPTH)[1][0])
        took.append(1000 * (time.perf_counter() - begun))
    return np.array(rows), float(np.median(took))


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subnet", default="w0.25-d2", help="of the documents")
    parser.add_argument("--documents", type=int, default=165_732)
    parser.add_argument("--factories", nargs="*", default=["IVF2048,Flat", "HNSW32", "IVF2048,PQ96"])
    parser.add_argument("--folder", type=Path, default=Path("work/large"))
    arguments = parser.parse_args()
    subnet = Subnet.parse(arguments.subnet)
    titles = write_folder(arguments.folder / "arxiv", arguments.documents)
    whole, killed = arguments.folder / "whole", arguments.folder / "killed"
    for output in (whole, killed):
        shutil.rmtree(output, ignore_errors=True)
    seconds, peak = build(arguments.folder / "arxiv", whole, subnet)
    build(arguments.folder / "arxiv", killed, subnet, kill_at=arguments.documents // CHUNK // 2)
    build(arguments.folder / "arxiv", killed, subnet)
    same = files(whole) == files(killed)
    denser = ElasticDenser.from_pretrained("elastic-denser-small")
    flat = load_faiss().read_index(str(next(whole.glob("gen-*/faiss.index"))))
    vectors = FLOAT_BYTES * flat.ntotal * flat.d
    factories = approximate(flat, denser.encode_query(titles, precision="auto"), arguments.factories)
    lines = [
        f"{flat.ntotal:,} passages, documents by `{subnet}`: {seconds / 60:.1f} min in one go, peak memory "
        f"{(peak - vectors) / 2**30:.2f} GiB above the {vectors / 2**30:.2f} GiB of the vectors. Killed half-way and "
        f"called again: {'the same bytes' if same else 'OTHER BYTES'}.\n",
        f"| factory | recall@{DEPTH} of Flat | ms a query, one thread | times as fast | s to build, all cores |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {f['recall']:.3f} | {f['ms']:.2f} | {factories['Flat']['ms'] / f['ms']:.1f} | {f['build_s']:.0f} |"
        for name, f in factories.items()
    ]
    figures = {"seconds": seconds, "peak_bytes": peak, "vectors_bytes": vectors, "same": same, "factories": factories}
    store("large", f"python benchmarks/large.py --subnet {subnet}", figures, "\n".join(lines))


if __name__ == "__main__":
    main()
