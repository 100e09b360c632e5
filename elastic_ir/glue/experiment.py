"""What is trained and measured of each task: the fine-tuned teacher, the elastic model, and static baselines."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from elastic_ir.classify import ClassifierSettings, ElasticClassifier
from elastic_ir.elastic import load_checkpoint
from elastic_ir.errors import ConfigError, DatasetError
from elastic_ir.glue.tasks import TASKS, Files, Task, files_of
from elastic_ir.subnet import Subnet
from elastic_ir.train import Recipe, train
from elastic_ir.train.classifier import ClassifierObjective
from elastic_ir.train.data import read_examples
from elastic_ir.train.recipe import ExampleSource, Sampling
from elastic_ir.train.trainer import STATE

SUBNETS = ("w1.00-d6", "w0.50-d6", "w1.00-d2", "w0.25-d2")
ALONE = 2
"""Subnets, the largest after the full one, that are also distilled each on its own."""
BATCH, MAX_TOKENS = 32, 128
SCORES, SETTINGS = "scores.jsonl", "settings.json"
_MAY_CHANGE = {"tasks", "data", "seeds", "baselines"}

Progress = Callable[[str, int, int], None]
"""Called after each step with what is trained, the steps done and all."""


class Settings(BaseModel):
    """What an experiment depends on.

    Attributes:
        model: encoder to start from: a bundled name, a folder or a hub id, e.g. ``google-bert/bert-base-uncased``.
        tasks: names in ``TASKS``.
        data: folder with ``TASK/train.jsonl`` and ``TASK/dev.jsonl``; None: the Hugging Face hub.
        seeds: how often all is repeated, with seeds 0, 1, ..
        subnets: of the elastic model, beside the full one.
        strategy: which of them learn in a step, see ``Sampling``.
        baselines: also fine-tune the first layers alone, distil the first two subnets each on its own, and leave layers
            out without training.
        epochs: of fine-tuning as a share of the task's own.
        distil_epochs: of distillation, times those of fine-tuning.
        limit: training examples used; None: all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "elastic-denser-small"
    tasks: tuple[str, ...] = tuple(TASKS)
    data: Path | None = None
    seeds: int = Field(default=1, gt=0)
    subnets: tuple[str, ...] = SUBNETS
    strategy: Literal["fixed", "sandwich"] = "fixed"
    baselines: bool = False
    epochs: float = Field(default=1.0, gt=0)
    distil_epochs: float = Field(default=2.0, gt=0)
    limit: int | None = Field(default=None, gt=0)


class Score(NamedTuple):
    """One model at one size on one task.

    ``model`` is ``teacher``, ``elastic``, ``alone`` (distilled on its own), ``first layers`` (fine-tuned alone) or
    ``untrained`` (the teacher's layers left out); ``flops`` are those of one example of the task's mean length.
    """

    task: str
    seed: int
    model: str
    subnet: str
    measures: dict[str, float]
    flops: float

    @property
    def score(self) -> float:
        """Mean of the measures."""
        return sum(self.measures.values()) / len(self.measures)


class Experiment:
    """Trains and measures what is not yet in ``output/scores.jsonl``.

    Args:
        settings: what is wanted.
        output: folder of runs and scores; a killed run continues.

    Raises:
        ConfigError: if the folder holds runs of other settings.
    """

    def __init__(self, settings: Settings, output: Path) -> None:
        self.settings, self.output = settings, output
        self.skipped: dict[str, str] = {}
        self.scores = _read(output / SCORES)
        mine = settings.model_dump_json(exclude=_MAY_CHANGE)
        kept = output / SETTINGS
        if kept.is_file() and kept.read_text("utf-8") != mine:
            raise ConfigError(
                f"{output} holds runs of other settings ({kept.read_text('utf-8')}); choose another --output"
            )
        output.mkdir(parents=True, exist_ok=True)
        kept.write_text(mine, "utf-8")

    def run(self, progress: Progress | None = None) -> list[Score]:
        """Do it; tasks without data are left out and named in ``skipped``.

        Raises:
            DatasetError: if no task has data. ConfigError, ModelError: if the model cannot be fine-tuned.
        """
        for name in self.settings.tasks:
            try:
                files = files_of(name, self.settings.data, self.output / "data")
            except DatasetError as exc:
                self.skipped[name] = str(exc)
                continue
            for seed in range(self.settings.seeds):
                self._task(name, files, seed, progress)
        if len(self.skipped) == len(self.settings.tasks):
            raise DatasetError(f"no task has data: {next(iter(self.skipped.values()), 'none was named')}")
        return self.scores

    def _task(self, name: str, files: Files, seed: int, progress: Progress | None) -> None:
        folder = self.output / name / f"seed-{seed}"
        made = _Maker(self.settings, TASKS[name], files, seed, folder, name, progress)
        full = load_checkpoint(self.settings.model).config.full
        self._measure(made, "teacher", "teacher", [full])
        subnets = [full, *map(Subnet.parse, self.settings.subnets)]
        self._measure(made, "elastic", "elastic", subnets)
        if not self.settings.baselines:
            return
        self._measure(made, "untrained", "untrained", subnets[1:])
        for subnet in subnets[1 : 1 + ALONE]:
            self._measure(made, "alone", f"alone-{subnet}", [subnet])
        for depth in sorted({subnet.depth for subnet in subnets[1:]}, reverse=True):
            self._measure(made, "first layers", f"first-{depth}", [Subnet(1.0, depth)])

    def _measure(self, made: _Maker, model: str, run: str, subnets: Sequence[Subnet]) -> None:
        done = {(s.task, s.seed, s.model, s.subnet) for s in self.scores}
        missing = [subnet for subnet in subnets if (made.name, made.seed, model, str(subnet)) not in done]
        if not missing:
            return
        classifier = made.classifier(run)
        for subnet in missing:
            score = Score(made.name, made.seed, model, str(subnet), *made.measure(classifier, subnet))
            self.scores.append(score)
            with (self.output / SCORES).open("a", encoding="utf-8") as out:
                out.write(json.dumps(score._asdict()) + "\n")


class _Maker:
    """Trains the models of one task and seed."""

    def __init__(
        self,
        settings: Settings,
        task: Task,
        files: Files,
        seed: int,
        folder: Path,
        name: str,
        progress: Progress | None,
    ) -> None:
        self.settings, self.task, self.files, self.seed = settings, task, files, seed
        self.folder, self.name, self.progress = folder, name, progress

    def classifier(self, run: str) -> ElasticClassifier:
        """The model of ``run``, trained if it is not there."""
        if run == "untrained":
            recipe = self._distilled(run, self.settings.subnets)
            objective = ClassifierObjective(recipe, load_checkpoint(recipe.teacher))
            objective.prepare()
            settings = ClassifierSettings(labels=self.task.labels, max_length=MAX_TOKENS)
            return ElasticClassifier(objective.student, objective.tokens, settings)
        checkpoint = self.folder / run / "checkpoint"
        if not (checkpoint / "config.json").is_file():
            recipe = self._recipe(run)
            train(recipe, lambda step, _: self._report(run, step, recipe.steps))
            (self.folder / run / STATE).unlink(missing_ok=True)
        return ElasticClassifier.from_pretrained(checkpoint)

    def measure(self, classifier: ElasticClassifier, subnet: Subnet) -> tuple[dict[str, float], float]:
        """Measures on the labelled split, the mean where there are two, and the FLOPs of an example."""
        found: list[dict[str, float]] = []
        lengths: list[int] = []
        of_model = subnet if subnet.depth in classifier.config.exits else classifier.config.full
        for path in self.files.measured:
            examples = read_examples([ExampleSource(path=str(path))], self.task.labels)
            firsts, second = [one.first for one in examples], [one.second or "" for one in examples]
            pairs = second if any(second) else None
            outputs = classifier.logits(firsts, pairs, of_model)
            found.append(self.task.score(outputs, np.array([one.label for one in examples])))
            texts = [f"{one} {two}" for one, two in zip(firsts, second, strict=True)]
            lengths += [len(ids) + 2 for ids in classifier.tokens.ids(texts, MAX_TOKENS)]
        measures = {name: sum(one[name] for one in found) / len(found) for name in found[0]}
        mean = round(sum(lengths) / len(lengths))
        return measures, classifier.config.flops(of_model, mean, mean, 1)

    def _recipe(self, run: str) -> Recipe:
        if run == "teacher" or run.startswith("first-"):
            return self._fine_tuned(run, int(run.removeprefix("first-")) if run.startswith("first-") else None)
        if run.startswith("alone-"):
            return self._distilled(run, [run.removeprefix("alone-")], full_every=0)
        return self._distilled(run, self.settings.subnets)

    def _fine_tuned(self, run: str, first_layers: int | None) -> Recipe:
        depth = first_layers or load_checkpoint(self.settings.model).config.num_layers
        sampling = Sampling(strategy="fixed", subnets=(str(Subnet(1.0, depth)),))
        steps = self._steps(self.settings.epochs)
        return self._with(
            run, teacher=self.settings.model, first_layers=first_layers, sampling=sampling, steps=steps,
            learning_rate=1e-4, **_ends(steps),
        )  # fmt: skip

    def _distilled(self, run: str, subnets: Sequence[str], full_every: int = 1) -> Recipe:
        steps = self._steps(self.settings.epochs * self.settings.distil_epochs)
        sampling: dict[str, Any] = {"strategy": "fixed", "subnets": tuple(subnets), "full_every": full_every}
        if self.settings.strategy == "sandwich" and full_every:
            parsed = list(map(Subnet.parse, subnets))
            sampling = {"strategy": "sandwich", "random": 1} | {
                "widths": tuple({1.0, *(subnet.width for subnet in parsed)}),
                "depths": tuple({subnet.depth for subnet in parsed}),
            }
        return self._with(
            run, teacher=str(self.folder / "teacher" / "checkpoint"), sampling=Sampling(**sampling), steps=steps,
            learning_rate=2e-4, own_vectors=True, own_last=True, temperature=2.0, hidden_loss=1.0, label_loss=0.5,
            **_ends(steps),
        )  # fmt: skip

    def _with(self, run: str, **settings: Any) -> Recipe:
        source = ExampleSource(path=str(self.files.train), limit=self.settings.limit)
        return Recipe(
            kind="classifier", name=f"{self.name}-{run}", output=str(self.folder / run), examples=(source,),
            labels=self.task.labels, batch=BATCH, max_tokens=MAX_TOKENS, seed=self.seed, average=0.99,
            save_every=200, **settings,
        )  # fmt: skip

    def _steps(self, epochs: float) -> int:
        source = ExampleSource(path=str(self.files.train), limit=self.settings.limit)
        examples = len(read_examples([source], self.task.labels))
        return max(1, round(self.task.epochs * epochs * examples / BATCH))

    def _report(self, run: str, step: int, steps: int) -> None:
        if self.progress is not None:
            self.progress(f"{self.name} seed {self.seed} {run}", step, steps)


def _ends(steps: int) -> dict[str, int]:
    """A rise over a tenth of the steps, then a fall to 0."""
    return {"warmup": steps // 10, "cooldown": steps - steps // 10}


def _read(path: Path) -> list[Score]:
    """Scores of an earlier run; a last line that a killed one did not finish is cut off."""
    lines = path.read_text("utf-8").splitlines(keepends=True) if path.is_file() else []
    if lines and not lines[-1].endswith("\n"):
        path.write_text("".join(lines[:-1]), "utf-8")
    return [Score(**json.loads(line)) for line in lines if line.endswith("\n")]
