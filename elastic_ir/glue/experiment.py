"""What is trained and measured of each task: the fine-tuned teacher, the elastic model, and static baselines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from elastic_ir.durable import sha256, whole, writer_lock
from elastic_ir.elastic import load_checkpoint
from elastic_ir.errors import ConfigError, DatasetError
from elastic_ir.glue.maker import Data, Maker, Progress
from elastic_ir.glue.settings import Settings
from elastic_ir.glue.tasks import Files, files_of
from elastic_ir.subnet import Subnet
from elastic_ir.train.recipe import same_recipe

ALONE = 2
"""Subnets, the first named, that are also distilled each on its own."""
SCORES, SETTINGS, DATA = "scores.jsonl", "settings.json", "data.json"
_MAY_CHANGE = {"tasks", "data", "seeds", "baselines"}


class Score(NamedTuple):
    """One model at one size on one task.

    ``model`` is ``teacher``, ``elastic``, ``alone`` (distilled on its own, otherwise as the elastic one), ``first
    layers`` (fine-tuned alone, in as many steps) or ``untrained`` (the teacher's layers left out); ``flops`` are those
    of one example of the task's mean length.
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

    Attributes:
        scores: all that are known, of earlier runs too.
        skipped: task -> why it was left out.
        data: task -> its examples, once ``run`` has read them.

    Raises:
        ConfigError: if the model cannot be fine-tuned or lacks a subnet, or the folder holds runs of other settings.
        ModelError: if the model cannot be read.
    """

    def __init__(self, settings: Settings, output: Path) -> None:
        start = load_checkpoint(settings.model)
        if start.config.exits:
            raise ConfigError(f"{settings.model} has a head already; wanted an encoder to fine-tune")
        self.config, self.full = start.config, start.config.full
        subnets = [start.config.resolve(Subnet.parse(name)) for name in settings.subnets]
        self.subnets = [subnet for subnet in dict.fromkeys(subnets) if subnet != self.full]
        if not self.subnets:
            raise ConfigError("subnets name the full model only, which is always there; wanted a smaller one")
        self.settings = settings.model_copy(update={"subnets": tuple(map(str, self.subnets))})
        self.output, self.skipped, self.data = output, dict[str, str](), dict[str, Data]()
        self.scores = _read(output / SCORES)
        mine = self.settings.model_dump(mode="json", exclude=_MAY_CHANGE) | {"fingerprint": start.fingerprint}
        _keep(output / SETTINGS, mine, "settings")

    def run(self, progress: Progress | None = None) -> list[Score]:
        """Do it; tasks without data are left out and named in ``skipped``. All data are read before any training.

        Raises:
            DatasetError: if no task has data, or data are malformed. ConfigError: if a task's data, or how it is
                trained, are not those of the runs that are there. IndexLockedError: if another process trains the same.
        """
        makers: list[Maker] = []
        for name in self.settings.tasks:
            try:
                files = files_of(name, self.settings.data, self.output / "data")
            except DatasetError as exc:
                self.skipped[name] = str(exc)
                continue
            data = self.data[name] = Data.read(name, files, self.settings.limit)
            for seed in range(self.settings.seeds):
                folder = self.output.resolve() / name / f"seed-{seed}"
                makers.append(Maker(self.settings, self.config, name, data, seed, folder, progress))
            recipes = {run: makers[-1].identity(run) for _, run, _ in self._runs(baselines=True) if run != "untrained"}
            _keep(self.output / name / DATA, _digests(files) | {"recipes": recipes}, "data, or trained otherwise,")
        if not makers:
            raise DatasetError(f"no task has data: {next(iter(self.skipped.values()), 'none was named')}")
        for made in makers:
            with writer_lock(made.folder, "run"):
                for model, run, subnets in self._runs(self.settings.baselines):
                    self._measure(made, model, run, subnets)
        return self.scores

    def _runs(self, baselines: bool) -> list[tuple[str, str, Sequence[Subnet]]]:
        """Model as in ``Score``, name of its run, and the subnets measured of it."""
        found: list[tuple[str, str, Sequence[Subnet]]] = [
            ("teacher", "teacher", [self.full]),
            ("elastic", "elastic", [self.full, *self.subnets]),
        ]
        if baselines:
            depths = sorted({subnet.depth for subnet in self.subnets} - {self.full.depth}, reverse=True)
            found.append(("untrained", "untrained", self.subnets))
            found += [("alone", f"alone-{subnet}", [subnet]) for subnet in self.subnets[:ALONE]]
            found += [("first layers", f"first-{depth}", [Subnet(1.0, depth)]) for depth in depths]
        return found

    def _measure(self, made: Maker, model: str, run: str, subnets: Sequence[Subnet]) -> None:
        done = {(s.task, s.seed, s.model, s.subnet) for s in self.scores}
        missing = [subnet for subnet in subnets if (made.name, made.seed, model, str(subnet)) not in done]
        if not missing:
            return
        classifier = made.classifier(run)
        for subnet in missing:
            score = Score(made.name, made.seed, model, str(subnet), *made.measure(classifier, subnet))
            self.scores.append(score)
            _append(self.output / SCORES, score)


def _keep(path: Path, found: dict[str, Any], what: str) -> None:
    """Write ``found`` beside the runs, or refuse to go on where it was something else."""
    if path.is_file():
        try:
            before = dict(json.loads(path.read_text("utf-8")))
        except (ValueError, TypeError) as exc:
            raise ConfigError(f"{path} is damaged ({exc}); choose another --output, or remove {path.parent}") from exc
        if changed := ", ".join(key for key in {**before, **found} if not _same(before.get(key), found.get(key))):
            raise ConfigError(f"{path.parent} holds runs of other {what} ({changed} changed); choose another --output")
        return
    with whole(path) as part:
        part.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def _same(before: Any, found: Any) -> bool:
    if isinstance(before, dict) and isinstance(found, dict):  # recipes of runs
        return before.keys() == found.keys() and all(same_recipe(before[run], found[run]) for run in found)
    return bool(before == found)


def _digests(files: Files) -> dict[str, Any]:
    return {path.name: sha256(path) for path in (files.train, *files.measured)}


def _read(path: Path) -> list[Score]:
    """Scores of an earlier run; a line that a killed one did not finish, or that is damaged, is passed over."""
    found = []
    for line in path.read_text("utf-8").splitlines() if path.is_file() else []:
        with suppress(ValueError, TypeError):
            found.append(Score(**json.loads(line)))
    return found


def _append(path: Path, score: Score) -> None:
    """Add a line, also behind one that was not finished."""
    torn = path.is_file() and path.stat().st_size and not path.read_bytes().endswith(b"\n")
    with path.open("a", encoding="utf-8") as out:
        out.write(("\n" if torn else "") + json.dumps(score._asdict()) + "\n")
