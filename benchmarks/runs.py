"""Run files at size: lint and read_run over a million lines, and a run killed at random points.

python benchmarks/runs.py
"""

from __future__ import annotations

import json
import multiprocessing
import random
import resource
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measured import store

from elastic_ir.datasets import load
from elastic_ir.dense import ElasticDenser
from elastic_ir.evaluate import read_run
from elastic_ir.evaluate.lint import lint
from elastic_ir.library import build
from elastic_ir.pipeline import Pipeline
from elastic_ir.records import Query
from elastic_ir.runs import use_threads, write

SIZES = (100_000, 1_000_000)
HITS = 1_000
DOCUMENTS, QUERIES, KILLS, SEED = 200, 10_000, 20, 6
WORDS = ["read", "write", "file", "data", "csv", "json", "date", "string", "list", "sort", "lock", "path", "tree"]
LEVEL = "dense:w0.25-d1"
FORK = multiprocessing.get_context("fork")


def main() -> None:
    """Measure, print and store."""
    with tempfile.TemporaryDirectory() as folder:
        figures: dict[str, Any] = {"lines": {}}
        for lines in SIZES:
            path = Path(folder) / f"{lines}.trec"
            _write_lines(path, lines)
            figures["lines"][str(lines)] = {job.__name__: _measured(job, path) for job in (lint, read_run)}
        figures["killed"] = _killed(Path(folder))
    rows = ["| job | lines | peak memory added (MB) | lines/s |", "|---|---:|---:|---:|"]
    for lines, jobs in figures["lines"].items():
        for job, found in jobs.items():
            rows.append(f"| {job} | {int(lines):,} | {found['added_mb']:.1f} | {found['lines_per_s']:,.0f} |")
    killed = figures["killed"]
    rows += [
        "",
        f"{QUERIES:,} queries killed (SIGKILL) {KILLS} times, after {', '.join(map(str, killed['batches']))} batches: "
        f"the run is {'byte-identical to' if killed['identical'] else 'NOT the same as'} the unkilled one.",
    ]
    store("runs", "python benchmarks/runs.py", figures, "\n".join(rows))
    if not killed["identical"]:
        raise SystemExit(1)


def _write_lines(path: Path, lines: int) -> None:
    dice = random.Random(SEED)
    with path.open("w") as file:
        for query in range(lines // HITS):
            for rank, document in enumerate(dice.sample(range(100_000), HITS), start=1):
                file.write(f"q{query} Q0 doc{document} {rank} {30 - rank / 64:.6f} bench\n")


def _measured(job: Callable[[Path], Any], path: Path) -> dict[str, float]:
    """Peak resident memory that ``job`` adds to its process, and its speed; in a process of its own."""
    reading, writing = FORK.Pipe(duplex=False)
    child = FORK.Process(target=_child, args=(job, path, writing))
    child.start()
    found: dict[str, float] = reading.recv()
    child.join()
    return found


def _child(job: Callable[[Path], Any], path: Path, result: Any) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, started = _peak_kb(), time.process_time()
    kept = job(path)
    seconds = time.process_time() - started
    lines = int(path.stem)
    result.send({"added_mb": (_peak_kb() - before) / 1024, "lines_per_s": lines / seconds, "kept": len(kept)})


def _peak_kb() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _killed(folder: Path) -> dict[str, Any]:
    """Whether a run killed at random points equals the one that was left alone."""
    dice = random.Random(SEED)
    (folder / "corpus.jsonl").write_text(
        "".join(
            json.dumps({"_id": f"d{i}", "text": " ".join(dice.choices(WORDS, k=6))}) + "\n" for i in range(DOCUMENTS)
        )
    )
    queries = [Query(f"q{i}", " ".join(dice.choices(WORDS, k=3))) for i in range(QUERIES)]
    whole, killed = folder / "whole.trec", folder / "killed.trec"
    notes = folder / "killed.trec.part.jsonl"
    index = FORK.Process(target=_index, args=(folder,))
    index.start()
    index.join()
    _search(folder, queries, whole)
    batches: list[int] = []
    total = -(-QUERIES // 64)
    for kill in range(KILLS):
        child = FORK.Process(target=_run, args=(folder, queries, killed))
        child.start()
        before, most = _lines(notes), max(1, 2 * (total - _lines(notes)) // (KILLS - kill) - 1)
        wanted = min(before + dice.randint(1, most), total - 1)
        while child.is_alive() and _lines(notes) < wanted:
            time.sleep(0.0005)
        time.sleep(dice.random() / 100)
        child.kill()
        child.join()
        if child.exitcode != -signal.SIGKILL:
            raise SystemExit(f"the run ended by itself ({child.exitcode}) before it was killed")
        batches.append(_lines(notes) - 1)
    appeared = killed.exists()
    _search(folder, queries, killed)
    identical = whole.read_bytes() == killed.read_bytes()
    return {
        "identical": identical,
        "appeared_early": appeared,
        "batches": batches,
        "of": total,
        "bytes": whole.stat().st_size,
    }


def _index(folder: Path) -> None:
    use_threads(1)
    denser = ElasticDenser.from_pretrained("elastic-denser-small")
    build(load(str(folder)), folder / "index", denser, precision="fp32").close()


def _search(folder: Path, queries: list[Query], output: Path) -> None:
    child = FORK.Process(target=_run, args=(folder, queries, output))
    child.start()
    child.join()


def _run(folder: Path, queries: list[Query], output: Path) -> None:
    use_threads(1)
    config = {"retriever": "dense", "precision": "fp32", "fallback": False, "index": str(folder / "index")}
    with Pipeline.from_config(config | {"candidates": 20}) as pipeline:
        write(pipeline, queries, output, tag="bench", k=20, level=LEVEL, batch=64, progress=False)


def _lines(notes: Path) -> int:
    return notes.read_bytes().count(b"\n") if notes.exists() else 0


if __name__ == "__main__":
    main()
