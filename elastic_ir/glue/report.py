"""Table and picture of an experiment: score against FLOPs and latency for every model and size."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from elastic_ir.classify import ElasticClassifier
from elastic_ir.durable import whole
from elastic_ir.glue.experiment import Experiment, Score
from elastic_ir.machine import machine, threads
from elastic_ir.subnet import Subnet

MODELS = ("teacher", "elastic", "alone", "first layers", "untrained")
TIMED = 30


class Figure(NamedTuple):
    """A mean, and its deviation between seeds; None of one."""

    mean: float
    deviation: float | None

    def __str__(self) -> str:
        return f"{self.mean:.1f}" if self.deviation is None else f"{self.mean:.1f} ± {self.deviation:.1f}"


class Row(NamedTuple):
    """One model at one size: points (0 to 100) by task and seed.

    ``ms`` are milliseconds of one example alone in fp32, as the scores are; None where it was not timed.
    """

    model: str
    subnet: str
    points: Mapping[str, Mapping[int, float]]
    flops: float
    ms: float | None = None

    @property
    def seeds(self) -> int:
        """How often the task that was repeated most was."""
        return max(map(len, self.points.values()), default=0)

    def mean(self, tasks: Sequence[str]) -> Figure | None:
        """Of the points over ``tasks``; None where one is missing.

        The deviation is that of the mean of all between the seeds that have all; None of fewer than two.
        """
        found = [self.points.get(task, {}) for task in tasks]
        if not found or not all(found):
            return None
        whole = set(found[0]).intersection(*found[1:])
        means = [statistics.fmean(one[seed] for one in found) for seed in sorted(whole)]
        deviation = statistics.stdev(means) if len(means) > 1 else None
        return Figure(statistics.fmean(statistics.fmean(one.values()) for one in found), deviation)

    def share(self, full: Row | None, tasks: Sequence[str]) -> float | None:
        """Of the mean of ``full`` over the same tasks and seeds; None where either lacks some."""
        if full is None:
            return None
        same = {
            task: {seed: value for seed, value in seeds.items() if seed in self.points.get(task, {})}
            for task, seeds in full.points.items()
        }
        mine, whole = self.mean(tasks), full._replace(points=same).mean(tasks)
        return mine.mean / whole.mean if mine is not None and whole is not None and whole.mean else None


def rows(scores: Sequence[Score], ms: Mapping[str, float]) -> list[Row]:
    """Rows of the table, dearest first within each model; ``ms`` by subnet."""
    found: dict[tuple[str, str], dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    flops: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for score in scores:
        found[score.model, score.subnet][score.task][score.seed] = 100 * score.score
        flops[score.model, score.subnet][score.task] = score.flops
    table = [
        Row(model, subnet, tasks, statistics.fmean(flops[model, subnet].values()), ms.get(subnet))
        for (model, subnet), tasks in found.items()
    ]
    return sorted(table, key=lambda row: (MODELS.index(row.model), -row.flops, row.subnet))


def time_subnets(folder: Path, subnets: Sequence[str]) -> dict[str, float]:
    """Milliseconds of one sentence of middling length by each subnet of the classifier in ``folder``: the median."""
    classifier, found = ElasticClassifier.from_pretrained(folder), {}
    text = "The figures of the second quarter were better than most people had thought in the spring."
    for subnet in map(Subnet.parse, subnets):
        took = []
        for _ in range(TIMED):
            begun = time.perf_counter()
            classifier.logits([text], None, subnet)
            took.append(1000 * (time.perf_counter() - begun))
        found[str(subnet)] = statistics.median(took[5:])
    return found


def write_report(experiment: Experiment, folder: Path) -> Path:
    """Write ``glue.md`` and ``glue.png`` into ``folder``; gives the path of the table."""
    named, seeds = experiment.settings.tasks, experiment.settings.seeds
    scores = [score for score in experiment.scores if score.task in named and score.seed < seeds]
    tasks = [task for task in experiment.settings.tasks if any(score.task == task for score in scores)]
    trained = sorted({score.subnet for score in scores if score.model == "elastic"})
    ready = experiment.output / tasks[0] / "seed-0" / "elastic" / "checkpoint" if tasks else None
    ms = time_subnets(ready, trained) if ready is not None and ready.is_dir() else {}
    table = rows(scores, ms)
    path = folder / "glue.md"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(_markdown(table, tasks, experiment), "utf-8")
    _draw(table, tasks, folder / "glue.png")
    return path


def _markdown(table: Sequence[Row], tasks: Sequence[str], experiment: Experiment) -> str:
    full = next((row for row in table if (row.model, row.subnet) == ("elastic", str(experiment.full))), None)
    settings = experiment.settings
    lines = [
        f"Started from `{settings.model}`, strategy {settings.strategy}, {settings.epochs:g} of each task's epochs for "
        f"the teacher and {settings.epochs * settings.distil_epochs:g} for all others. Points are the mean of a task's "
        "official measures, times 100; ± is the deviation between seeds; `of full` compares the same seeds. Scores and "
        f"times (one sentence alone; {machine()['processor']}, {threads()} threads) in fp32.\n",
        f"| model | subnet | seeds | {' | '.join(tasks)} | mean | of full | MFLOPs | ms |",
        f"|---|---|---|{'---|' * len(tasks)}---|---|---|---|",
    ]
    for row in table:
        share = row.share(full, tasks)
        cells = [str(row.seeds), *(_shown(row.mean([task])) for task in tasks), _shown(row.mean(tasks))]
        cells += ["-" if share is None else f"{share:.3f}", f"{row.flops / 1e6:.0f}"]
        cells.append("-" if row.ms is None else f"{row.ms:.1f}")
        lines.append(f"| {row.model} | {row.subnet} | {' | '.join(cells)} |")
    lines += ["", "| task | trained on | measured on |", "|---|---|---|"]
    for task, data in experiment.data.items():
        measured = zip(data.files.measured, data.measured, strict=True)
        shown = ", ".join(f"{len(examples):,} of {path.name}" for path, examples in measured)
        lines.append(f"| {task} | {data.training:,} of {data.files.train.name} | {shown} |")
    lines += [f"| {task} | skipped: {reason} | |" for task, reason in experiment.skipped.items()]
    return "\n".join(lines) + "\n"


def _shown(found: Figure | None) -> str:
    return "-" if found is None else str(found)


def _draw(table: Sequence[Row], tasks: Sequence[str], picture: Path) -> None:
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    prices: list[tuple[str, Callable[[Row], float | None]]] = [
        ("MFLOPs of an example", lambda row: row.flops / 1e6),
        ("milliseconds of an example alone", lambda row: row.ms),
    ]
    for axis, (name, price) in zip(axes, prices, strict=True):
        for model in MODELS:
            mine = [row for row in table if row.model == model]
            seeds = max((row.seeds for row in mine), default=0)
            found = [(price(row), row.mean(tasks)) for row in mine]
            points = sorted((x, y.mean) for x, y in found if x is not None and y is not None)
            if points:
                axis.plot(*zip(*points, strict=True), marker="o", label=f"{model}, {seeds} seed{'s' * (seeds > 1)}")
        axis.set(xlabel=name, xscale="log")
        axis.grid(alpha=0.3)
    axes[0].set(ylabel=f"points, mean of {', '.join(tasks)}")
    axes[0].legend()
    with whole(picture) as part:
        figure.savefig(part, format="png", dpi=110)
