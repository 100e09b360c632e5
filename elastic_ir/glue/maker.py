"""Trains and measures the models of one task and seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from elastic_ir.classify import ClassifierSettings, ElasticClassifier
from elastic_ir.elastic import ElasticConfig, load_checkpoint
from elastic_ir.errors import DatasetError
from elastic_ir.glue.settings import Settings
from elastic_ir.glue.tasks import TASKS, Files
from elastic_ir.subnet import Subnet
from elastic_ir.train import Recipe, train
from elastic_ir.train.classifier import ClassifierObjective
from elastic_ir.train.data import Example, read_examples, sentences
from elastic_ir.train.recipe import ExampleSource, Sampling, identity
from elastic_ir.train.trainer import STATE

BATCH, MAX_TOKENS = 32, 128

Progress = Callable[[str, int, int], None]
"""Called after each step with what is trained, the steps done and all."""


class Data(NamedTuple):
    """A task's files, how many examples there are to learn from, and those to be measured on, by file."""

    files: Files
    training: int
    measured: tuple[list[Example], ...]

    @classmethod
    def read(cls, name: str, files: Files, limit: int | None) -> Data:
        """Read and check all before anything is trained.

        Raises:
            DatasetError: naming file and line, or if what should be measured on has no labels.
        """
        labels = TASKS[name].labels
        training = read_examples([ExampleSource(path=str(files.train), limit=limit)], labels)
        if len({one.label for one in training}) < 2:
            raise DatasetError(f"{files.train} has one label only{f' in its first {limit} lines' if limit else ''}")
        measured = tuple(read_examples([ExampleSource(path=str(path))], labels) for path in files.measured)
        for path, examples in zip(files.measured, measured, strict=True):
            if len({one.label for one in examples}) < 2:
                raise DatasetError(f"{path} has one label only; wanted the labelled split, e.g. dev.jsonl")
        return cls(files, len(training), measured)


class Maker:
    """Trains and measures the models of one task and seed.

    Args:
        settings: of the experiment; ``subnets`` are those of the elastic model, without the full one.
        config: of the encoder that all starts from.
        name: of the task.
        data: its examples.
        seed: of training.
        folder: of its runs.
        progress: called after each step.
    """

    def __init__(
        self,
        settings: Settings,
        config: ElasticConfig,
        name: str,
        data: Data,
        seed: int,
        folder: Path,
        progress: Progress | None,
    ) -> None:
        self.settings, self.config, self.task, self.name, self.data = settings, config, TASKS[name], name, data
        self.seed, self.folder, self.progress = seed, folder, progress

    def classifier(self, run: str) -> ElasticClassifier:
        """The model of ``run``, trained if it is not there."""
        if run == "untrained":
            recipe = self._distilled(run, self.settings.subnets).model_copy(update={"start": None})
            objective = ClassifierObjective(recipe, load_checkpoint(recipe.teacher))
            objective.prepare()
            settings = ClassifierSettings(labels=self.task.labels, max_length=MAX_TOKENS)
            return ElasticClassifier(objective.student, objective.tokens, settings)
        checkpoint = self.folder / run / "checkpoint"
        if not (checkpoint / "config.json").is_file():
            recipe = self._recipe(run)
            train(recipe, lambda step, _: self._report(run, step, recipe.steps))
            (self.folder / run / STATE).unlink(missing_ok=True)
        return ElasticClassifier.from_pretrained(checkpoint, device="cuda" if torch.cuda.is_available() else "cpu")

    def measure(self, classifier: ElasticClassifier, subnet: Subnet) -> tuple[dict[str, float], float]:
        """Measures on the labelled split, the mean where there are two, and the FLOPs of an example."""
        found: list[dict[str, float]] = []
        lengths: list[int] = []
        for examples in self.data.measured:
            outputs = classifier.logits(*sentences(examples), subnet)
            found.append(self.task.score(outputs, np.array([one.label for one in examples])))
            texts = [f"{one.first} {one.second or ''}" for one in examples]
            lengths += [len(ids) + 2 for ids in classifier.tokens.ids(texts, MAX_TOKENS)]
        measures = {name: sum(one[name] for one in found) / len(found) for name in found[0]}
        mean = round(sum(lengths) / len(lengths))
        return measures, classifier.config.flops(subnet, mean, mean, 1)

    def identity(self, run: str) -> dict[str, Any]:
        """How ``run`` is trained, whatever the seed and wherever files are."""
        return identity(self._recipe(run), {"name", "output", "teacher", "examples", "seed", "save_every"})

    def _recipe(self, run: str) -> Recipe:
        if run == "teacher" or run.startswith("first-"):
            return self._fine_tuned(run, int(run.removeprefix("first-")) if run.startswith("first-") else None)
        if run.startswith("alone-"):
            return self._distilled(run, [run.removeprefix("alone-")], full_every=0)
        return self._distilled(run, self.settings.subnets)

    def _fine_tuned(self, run: str, first_layers: int | None) -> Recipe:
        depth = first_layers or self.config.num_layers
        sampling = Sampling(strategy="fixed", subnets=(str(Subnet(1.0, depth)),))
        steps = self._steps(self.settings.epochs * (self.settings.distil_epochs if first_layers else 1))
        return self._with(
            run, teacher=self.settings.model, first_layers=first_layers, sampling=sampling, steps=steps,
            learning_rate=self.settings.learning_rate, **_ends(steps),
        )  # fmt: skip

    def _distilled(self, run: str, subnets: Sequence[str], full_every: int = 2) -> Recipe:
        steps = self._steps(self.settings.epochs * self.settings.distil_epochs)
        sampling: dict[str, Any] = {"strategy": "fixed", "subnets": tuple(subnets), "full_every": full_every}
        if self.settings.strategy == "sandwich" and full_every:
            parsed = list(map(Subnet.parse, subnets))
            sampling = {"strategy": "sandwich", "random": 1, "full_every": full_every} | {
                "widths": tuple({1.0, *(subnet.width for subnet in parsed)}),
                "depths": tuple({subnet.depth for subnet in parsed}),
            }
        elastic = len(self.config.trained) > 1
        return self._with(
            run, teacher=str(self.folder / "teacher" / "checkpoint"), start=self.settings.model if elastic else None,
            sampling=Sampling(**sampling), steps=steps, learning_rate=2 * self.settings.learning_rate,
            own_learning_rate=3 * self.settings.learning_rate, own_vectors=True, own_last=True, learn_words=False,
            temperature=2.0, hidden_loss=1.0, label_loss=0.5, changed=0.5, **_ends(steps),
        )  # fmt: skip

    def _with(self, run: str, **settings: Any) -> Recipe:
        source = ExampleSource(path=str(self.data.files.train.resolve()), limit=self.settings.limit)
        return Recipe(
            kind="classifier", name=f"{self.name}-{run}", output=str(self.folder / run), examples=(source,),
            labels=self.task.labels, batch=BATCH, max_tokens=MAX_TOKENS, seed=self.seed, average=0.99,
            save_every=50, **settings,
        )  # fmt: skip

    def _steps(self, epochs: float) -> int:
        return max(1, round(self.task.epochs * epochs * self.data.training / BATCH))

    def _report(self, run: str, step: int, steps: int) -> None:
        if self.progress is not None:
            self.progress(f"{self.name} seed {self.seed} {run}", step, steps)


def _ends(steps: int) -> dict[str, int]:
    """A rise over a tenth of the steps, then a fall to 0."""
    return {"warmup": steps // 10, "cooldown": steps - steps // 10}
