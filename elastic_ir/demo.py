"""``elastic-ir demo``: the main job, end to end, on text that every machine has."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from elastic_ir.answer import Hits
from elastic_ir.config import read_config
from elastic_ir.datasets import Dataset, load
from elastic_ir.evaluate import evaluate, read_run
from elastic_ir.pipeline import DEFAULT, Pipeline
from elastic_ir.runs import write
from elastic_ir.terminal import console, print_table, show

QUESTIONS = ("read a csv file", "run another program and get its output", "how do I round a number to two digits?")
QUERY_SETS = ("pydocs/questions", "pydocs/known-items")
CONCURRENT = 32
WAVES = (1, 4, 16, 32)


class Served(NamedTuple):
    """One search of the load test: searches in flight when it began, what it spent and how long it took."""

    wave: int
    budget: float
    latency_ms: float


def run_demo(output: Path) -> None:
    """Index, search, evaluate, and search under load; files go to ``output``."""
    out = console()
    output.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    out.rule("[bold]1. Index and search this Python's docstrings")
    with Pipeline.from_config() as pipeline:
        out.print(f"index ready after {time.perf_counter() - started:.0f} s")
        for question in QUESTIONS:
            out.print(f"\n[bold cyan]{question}")
            show(pipeline.search(question, k=3))
        out.print()
        out.rule("[bold]2. TREC runs and their evaluation")
        for name in QUERY_SETS:
            print_table(_evaluated(name, output))
        out.rule(f"[bold]3. Load: up to {CONCURRENT} searches at once")
        served = _under_load(pipeline, [query.text for query in load("pydocs/questions").queries()])
    print_table(_load_table(served))
    picture = output / "load.png"
    _plot(served, picture)
    out.print(f"runs, metadata and picture: {output} ({picture.name})")


def variants() -> dict[str, dict[str, Any]]:
    """The default pipeline and three it is compared with, over the same index."""
    base = read_config(DEFAULT).model_dump(mode="json") | {"dataset": None}
    plain = base | {"reranker": None, "candidates": 100}
    return {
        "bm25": plain | {"retriever": "bm25"},
        "dense": plain | {"retriever": "dense"},
        "hybrid": plain | {"retriever": "hybrid"},
        "elastic": base,
    }


def _evaluated(name: str, output: Path) -> Any:
    dataset = load(name)
    queries, runs = dataset.queries(), {}
    index = _index_of(dataset)
    for variant, config in variants().items():
        path = output / f"{name.replace('/', '-')}.{variant}.trec"
        with Pipeline.from_config(config, index=index) as pipeline:
            write(pipeline, queries, path, tag=variant, k=100)
        runs[variant] = read_run(path)
    table = evaluate(dataset.qrels(), runs).to_table()
    table.title = f"{name}: {len(queries)} queries"
    return table


def _index_of(dataset: Dataset) -> Path:
    with Pipeline.from_config(variants()["dense"] | {"dataset": dataset.name}) as pipeline:
        return pipeline.index_path


def _under_load(pipeline: Pipeline, texts: Sequence[str]) -> list[Served]:
    served: list[Served] = []
    with ThreadPoolExecutor(CONCURRENT) as pool:
        for wave in WAVES:
            answers = pool.map(pipeline.search, [texts[i % len(texts)] for i in range(wave)])
            served += [Served(wave, _budget(hits), hits.latency_ms) for hits in answers]
    return served


def _budget(hits: Hits) -> float:
    return hits.level.rerank.budget if hits.level.rerank else 0.0


def _load_table(served: Sequence[Served]) -> Any:
    import numpy as np
    from rich.table import Table

    table = Table(title="the depth budget shrinks with the load")
    for column in ("searches at once", "budget, mean", "least", "latency p50, ms", "p95, ms"):
        table.add_column(column, justify="right")
    for wave, rows in _by_wave(served).items():
        budgets, latencies = [row.budget for row in rows], [row.latency_ms for row in rows]
        p50, p95 = np.percentile(latencies, [50, 95])
        table.add_row(str(wave), f"{np.mean(budgets):.2f}", f"{min(budgets):.2f}", f"{p50:.0f}", f"{p95:.0f}")
    return table


def _by_wave(served: Sequence[Served]) -> Mapping[int, list[Served]]:
    return {wave: [row for row in served if row.wave == wave] for wave in sorted({row.wave for row in served})}


def _plot(served: Sequence[Served], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axes, label, values in (
        (left, "depth budget spent (share of full)", [row.budget for row in served]),
        (right, "latency (ms)", [row.latency_ms for row in served]),
    ):
        axes.scatter([row.wave for row in served], values, s=18, alpha=0.6)
        axes.set(xlabel="searches at once", ylabel=label, ylim=(0, None), xticks=WAVES)
        axes.grid(alpha=0.3)
    figure.suptitle("One pipeline under load: compute gives way, nobody is refused")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
