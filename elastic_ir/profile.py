"""Latency of a pipeline's levels on this machine, measured: the table T(level, batch, tokens)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.optimize import isotonic_regression

from elastic_ir.answer import as_asked
from elastic_ir.config import checked
from elastic_ir.durable import whole
from elastic_ir.errors import ConfigError, InputError
from elastic_ir.level import Level
from elastic_ir.machine import cores, machine
from elastic_ir.pipeline import Pipeline
from elastic_ir.progress import track
from elastic_ir.records import Query

BATCHES = (1, 2, 4, 8)
BUCKETS = (8, 16, 32, 64)
"""Upper ends of the buckets of query length, in tokens; longer queries count as the last."""
LEAST_RUNS = 5
HITS = 10
SHARES = (0.5, 0.25, 0.1)
"""Of the idle level's depth budget."""
UNMEASURED = "nothing was measured"


class Cell(BaseModel):
    """Milliseconds that a batch takes at a level, its queries of up to ``tokens`` tokens, as ``share`` of them are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: str
    batch: int = Field(gt=0)
    tokens: int = Field(gt=0)
    share: float = Field(gt=0, le=1)
    p50_ms: float = Field(gt=0)
    p95_ms: float = Field(gt=0)
    runs: int = Field(gt=0)


class Profile(BaseModel):
    """Measured times, and the machine, models and documents they hold for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    machine: dict[str, Any]
    models: dict[str, str]
    pipeline: dict[str, Any]
    corpus_sha256: str
    threads: int = Field(gt=0)
    cells: tuple[Cell, ...] = Field(min_length=1)

    def check(self, pipeline: Pipeline) -> None:
        """Refuse another machine, thread count, model, pipeline or collection.

        Raises:
            ConfigError: naming what differs.
        """
        here: dict[str, Any] = {
            "machine": machine(),
            "models": pipeline.models,
            "corpus_sha256": pipeline.corpus_sha256,
        }
        here |= {"threads": torch.get_num_threads(), "pipeline": settings_of(pipeline)}
        for key, found in here.items():
            if getattr(self, key) != found:
                raise ConfigError(
                    f"the profile is of another {key}: {getattr(self, key)}, here {found}; measure anew with --refresh"
                )

    def times(self, level: Level | str) -> tuple[list[float], list[float]]:
        """(median, p95) milliseconds of batches of 1, 2, .. queries: the mean over the lengths measured, each by its
        share of the queries, never falling with the batch.

        Raises:
            ConfigError: if the level was not measured.
        """
        cells = [cell for cell in self.cells if cell.level == str(level)]
        if not cells:
            raise ConfigError(f"level {level} was not measured; profile it first")
        batches = sorted({cell.batch for cell in cells})
        every = np.arange(1, batches[-1] + 1)
        found = []
        for key in ("p50_ms", "p95_ms"):
            means = [_mean([cell for cell in cells if cell.batch == batch], key) for batch in batches]
            rising = isotonic_regression(means).x
            found.append(np.interp(every, batches, rising).tolist())
        return found[0], [max(pair) for pair in zip(*found, strict=True)]


def _mean(cells: Sequence[Cell], key: str) -> float:
    return float(np.average([getattr(cell, key) for cell in cells], weights=[cell.share for cell in cells]))


def default_levels(idle: Level) -> list[Level]:
    """The idle level, shares of its depth budget, the same without reranking."""
    levels = [idle]
    if idle.rerank is not None:
        shares = (round(idle.rerank.budget * share, 4) for share in SHARES)
        levels += [idle._replace(rerank=idle.rerank._replace(budget=share)) for share in shares]
        levels.append(idle._replace(rerank=None))
    return levels


def micro_batch(times: Iterable[Sequence[float]]) -> int:
    """The smallest batch, by each level's milliseconds of batches of 1, 2, .., that serves nearly the most queries a
    second (98%), in the mean over the levels: a larger one only makes its queries wait for each other.
    """
    tables = [np.asarray(row) for row in times]
    shares = [np.arange(1, len(row) + 1) / row * row[0] for row in tables]
    rates = np.mean(shares, axis=0)
    return 1 + int(np.argmax(rates >= 0.98 * rates.max()))


def measure(
    pipeline: Pipeline,
    levels: Sequence[Level],
    queries: Sequence[Query],
    *,
    batches: Sequence[int] = BATCHES,
    seconds: float = 200.0,
    least: int = LEAST_RUNS,
    seed: int = 0,
    progress: bool | None = None,
) -> Profile:
    """Time every level at every batch size, on queries of every length there is.

    All cells take turns, so that a disturbance hits them alike, until ``seconds`` are spent; each is measured at least
    ``least`` times, after one run that does not count.

    Args:
        pipeline: opened on the index to be searched.
        levels: at least one.
        queries: typical ones; a length that none has is not measured.
        batches: queries that share one pass.
        seconds: to spend, more where the least runs take longer.
        least: runs of each that count.
        seed: of the queries drawn.
        progress: show a bar; None on a terminal only.

    Raises:
        InputError: if there are no levels or queries.
    """
    if not levels or not queries:
        raise InputError(f"{len(levels)} levels and {len(queries)} queries; wanted at least one of each")
    random = Random(seed)
    by_length = _buckets(queries)
    keys = [(level, batch, tokens) for level in levels for batch in sorted(batches) for tokens in by_length]
    taken: dict[tuple[Level, int, int], list[float]] = {key: [] for key in keys}
    started, rounds = time.perf_counter(), 0
    bar = track(range(10_000), "measuring rounds", total=None, disable=None if progress is None else not progress)
    for number in bar:
        for level, batch, tokens in keys:
            drawn = random.choices(by_length[tokens], k=batch)
            begun = time.perf_counter()
            asked = [Query(str(i), query.text) for i, query in enumerate(drawn)]
            list(as_asked(pipeline.run(asked, HITS, level, batch=batch), UNMEASURED))
            if number:
                taken[level, batch, tokens].append(1000 * (time.perf_counter() - begun))
        rounds = number
        spent = time.perf_counter() - started
        if rounds >= least and spent * (rounds + 2) / (rounds + 1) > seconds:
            break
    cells = tuple(
        Cell(
            level=str(level), batch=batch, tokens=tokens, share=len(by_length[tokens]) / len(queries),
            p50_ms=float(np.quantile(ms, 0.5)),
            p95_ms=float(np.quantile(ms, 0.95)), runs=len(ms),
        )
        for (level, batch, tokens), ms in taken.items()
    )  # fmt: skip
    return Profile(
        machine=machine(), models=pipeline.models, pipeline=settings_of(pipeline), corpus_sha256=pipeline.corpus_sha256,
        threads=torch.get_num_threads(), cells=cells,
    )  # fmt: skip


def best_threads(pipeline: Pipeline, queries: Sequence[Query], most: int | None = None) -> int:
    """The number of torch threads at which the idle level answers single queries fastest, by the median of a few."""
    most = most or cores()
    before, found = torch.get_num_threads(), dict[int, float]()
    drawn = Random(0).choices(list(queries), k=LEAST_RUNS + 1)
    try:
        for threads in sorted({1, *(2**power for power in range(1, 10) if 2**power <= most), most}):
            torch.set_num_threads(threads)
            took = []
            for query in drawn:
                begun = time.perf_counter()
                list(pipeline.run([query], HITS, batch=1))
                took.append(time.perf_counter() - begun)
            found[threads] = float(np.median(took[1:]))
    finally:
        torch.set_num_threads(before)
    return min(found, key=lambda threads: found[threads])


def read_profile(path: Path) -> Profile:
    """Read a profile.

    Raises:
        ConfigError: if it is missing or does not hold.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise ConfigError(f"cannot read profile {path}: {exc.strerror}; make one with elastic-ir profile") from exc
    except ValueError as exc:
        raise ConfigError(f"profile {path} is not JSON: {exc}") from exc
    return checked(Profile, found, str(path))


def write_profile(profile: Profile, path: Path) -> None:
    """Write it whole or not at all."""
    with whole(path) as part:
        part.write_text(json.dumps(profile.model_dump(mode="json"), indent=1) + "\n", "utf-8")


def monotone(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[levels, batches]`` milliseconds, dearest first, made to fall from level to level by least squares."""
    fitted = [isotonic_regression(column, increasing=False).x for column in costs.T]
    return np.stack(fitted, axis=1)


def settings_of(pipeline: Pipeline) -> dict[str, Any]:
    """What times depend on: the configuration but for where index and queries lie, and how the index is made."""
    manifest = pipeline.parts.generation.manifest
    made = {"factory": manifest.factory, "subnet": manifest.encoder and manifest.encoder.subnet}
    return pipeline.to_config() | {"dataset": None, "split": None, "ladder": None, "index": made}


def _buckets(queries: Sequence[Query]) -> dict[int, list[Query]]:
    """Bucket -> the queries that come to so many tokens, at four tokens for three words and two special ones."""
    found: dict[int, list[Query]] = {}
    for query in queries:
        length = len(query.text.split()) * 4 // 3 + 2
        bucket = next((upper for upper in BUCKETS if length <= upper), BUCKETS[-1])
        found.setdefault(bucket, []).append(query)
    return dict(sorted(found.items()))
