"""What is trained and measured of each task: the fine-tuned teacher, the elastic model, and static baselines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from elastic_ir.elastic import load_checkpoint
from elastic_ir.errors import ConfigError, DatasetError
from elastic_ir.glue.maker import Data, Maker, Progress
from elastic_ir.glue.settings import Settings
from elastic_ir.glue.tasks import Files, files_of
from elastic_ir.subnet import Subnet

ALONE = 2
"""Subnets, the first named, that are also distilled each on its own."""
SCORES, SETTINGS, DATA = "scores.jsonl", "settings.json", "data.json"
_MAY_CHANGE = {"tasks", "data", "seeds", "baselines"}


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
        ConfigError: if the model cannot be fine-tuned or lacks a subnet, or the folder holds runs of other settings.
        ModelError: if the model cannot be read.
    """

    def __init__(self, settings: Settings, output: Path) -> None:
        start = load_checkpoint(settings.model)
        if start.config.exits:
            raise ConfigError(f"{settings.model} has a head already; wanted an encoder to fine-tune")
        self.full = start.config.full
        subnets = [start.config.resolve(Subnet.parse(name)) for name in settings.subnets]
        self.subnets = [subnet for subnet in dict.fromkeys(subnets) if subnet != self.full]
        if not self.subnets:
            raise ConfigError("subnets name the full model only, which is always there; wanted a smaller one")
        self.settings = settings.model_copy(update={"subnets": tuple(map(str, self.subnets))})
        self.output, self.skipped = output, dict[str, str]()
        self.scores = _read(output / SCORES)
        mine = self.settings.model_dump(mode="json", exclude=_MAY_CHANGE) | {"fingerprint": start.fingerprint}
        _keep(output / SETTINGS, mine, "settings")

    def run(self, progress: Progress | None = None) -> list[Score]:
        """Do it; tasks without data are left out and named in ``skipped``.

        Raises:
            DatasetError: if no task has data. ConfigError: if a task's data are not those of the runs that are there.
        """
        for name in self.settings.tasks:
            try:
                files = files_of(name, self.settings.data, self.output / "data")
                data = Data.read(name, files, self.settings.limit)
            except DatasetError as exc:
                self.skipped[name] = str(exc)
                continue
            _keep(self.output / name / DATA, _digests(files), "data")
            for seed in range(self.settings.seeds):
                folder = self.output / name / f"seed-{seed}"
                self._task(Maker(self.settings, name, data, seed, folder, progress))
        if len(self.skipped) == len(self.settings.tasks):
            raise DatasetError(f"no task has data: {next(iter(self.skipped.values()), 'none was named')}")
        return self.scores

    def _task(self, made: Maker) -> None:
        self._measure(made, "teacher", "teacher", [self.full])
        self._measure(made, "elastic", "elastic", [self.full, *self.subnets])
        if not self.settings.baselines:
            return
        self._measure(made, "untrained", "untrained", self.subnets)
        for subnet in self.subnets[:ALONE]:
            self._measure(made, "alone", f"alone-{subnet}", [subnet])
        for depth in sorted({subnet.depth for subnet in self.subnets} - {self.full.depth}, reverse=True):
            self._measure(made, "first layers", f"first-{depth}", [Subnet(1.0, depth)])

    def _measure(self, made: Maker, model: str, run: str, subnets: Sequence[Subnet]) -> None:
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


def _keep(path: Path, found: dict[str, object], what: str) -> None:
    """Write ``found`` beside the runs, or refuse to go on where it was something else."""
    if path.is_file() and (before := json.loads(path.read_text("utf-8"))) != found:
        changed = ", ".join(key for key in {**before, **found} if before.get(key) != found.get(key))
        raise ConfigError(f"{path.parent} holds runs of other {what} ({changed} changed); choose another --output")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    part.replace(path)


def _digests(files: Files) -> dict[str, object]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (files.train, *files.measured)}


def _read(path: Path) -> list[Score]:
    """Scores of an earlier run; a last line that a killed one did not finish is cut off."""
    lines = path.read_text("utf-8").splitlines(keepends=True) if path.is_file() else []
    if lines and not lines[-1].endswith("\n"):
        path.write_text("".join(lines[:-1]), "utf-8")
    return [Score(**json.loads(line)) for line in lines if line.endswith("\n")]
