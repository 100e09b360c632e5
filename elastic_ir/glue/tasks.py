"""The tasks: their labels, measures and files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from elastic_ir.durable import whole
from elastic_ir.elastic.checkpoint import one_line
from elastic_ir.errors import DatasetError

Numbers = NDArray[Any]


def _accuracy(found: Numbers, wanted: Numbers) -> float:
    return float((found == wanted).mean())


def _f1(found: Numbers, wanted: Numbers) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(wanted, found))


def _matthews(found: Numbers, wanted: Numbers) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(wanted, found))


def _pearson(found: Numbers, wanted: Numbers) -> float:
    from scipy.stats import pearsonr

    return float(pearsonr(found, wanted).statistic) if np.ptp(found) else 0.0


def _spearman(found: Numbers, wanted: Numbers) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(found, wanted).statistic) if np.ptp(found) else 0.0


MEASURES: Mapping[str, Callable[[Numbers, Numbers], float]] = {
    "accuracy": _accuracy, "f1": _f1, "matthews": _matthews, "pearson": _pearson, "spearman": _spearman,
}  # fmt: skip
"""Name -> measure of (found, wanted): numbers of labels, or numbers."""


class Task(NamedTuple):
    """One task.

    Attributes:
        labels: in the order of their numbers; empty for a regression.
        measures: the official ones; a task's score is their mean.
        fields: of its rows in the hub's data set ``nyu-mll/glue``: the sentence, or both.
        epochs: of fine-tuning, more where there is little to learn from, or much to learn from short sentences.
        splits: with labels, to be measured on, by preference; accuracy of several is averaged.
    """

    labels: tuple[str, ...]
    measures: tuple[str, ...]
    fields: tuple[str, ...]
    epochs: int = 3
    splits: tuple[str, ...] = ("dev",)

    def score(self, outputs: Numbers, wanted: Numbers) -> dict[str, float]:
        """Measures of raw outputs, ``[N, labels]`` or ``[N]``."""
        found = outputs.argmax(-1) if self.labels else outputs
        return {name: MEASURES[name](found, wanted) for name in self.measures}


PAIR = ("sentence1", "sentence2")
TASKS: Mapping[str, Task] = {
    "cola": Task(("unacceptable", "acceptable"), ("matthews",), ("sentence",), epochs=10),
    "rte": Task(("entailment", "not_entailment"), ("accuracy",), PAIR, epochs=6),
    "mrpc": Task(("not_equivalent", "equivalent"), ("accuracy", "f1"), PAIR, epochs=5),
    "stsb": Task((), ("pearson", "spearman"), PAIR, epochs=4),
    "sst2": Task(("negative", "positive"), ("accuracy",), ("sentence",)),
    "wnli": Task(("not_entailment", "entailment"), ("accuracy",), PAIR, epochs=5),
    "qnli": Task(("entailment", "not_entailment"), ("accuracy",), ("question", "sentence")),
    "qqp": Task(("not_duplicate", "duplicate"), ("accuracy", "f1"), ("question1", "question2")),
    "mnli": Task(
        ("entailment", "neutral", "contradiction"), ("accuracy",), ("premise", "hypothesis"),
        splits=("dev_matched", "dev_mismatched"),
    ),
}  # fmt: skip
HUB = "nyu-mll/glue"


class Files(NamedTuple):
    """JSONL files of a task: ``{"sentence1", "sentence2", "label"}`` a line."""

    train: Path
    measured: tuple[Path, ...]


def files_of(name: str, data: Path | None, kept: Path) -> Files:
    """Files of task ``name`` in ``data/NAME``, or, for None, fetched from the Hugging Face hub into ``kept/NAME``.

    In a folder the labelled split is ``dev.jsonl`` or ``validation.jsonl`` (MNLI: ``dev_matched.jsonl`` and so on), or
    ``test.jsonl`` where there is no other.

    Raises:
        DatasetError: saying what is missing.
    """
    folder = (data or kept) / name
    if data is None and not (folder / "train.jsonl").is_file():
        _fetch(name, folder)
    wanted = [folder / f"{split}.jsonl" for split in TASKS[name].splits]
    choices = [wanted, [folder / path.name.replace("dev", "validation") for path in wanted], [folder / "test.jsonl"]]
    measured = next((found for paths in choices if (found := tuple(p for p in paths if p.is_file()))), ())
    if not (folder / "train.jsonl").is_file() or not measured:
        raise DatasetError(f"{folder} has no train.jsonl and {wanted[0].name}; wanted both, or leave out --data")
    return Files(folder / "train.jsonl", measured)


def _fetch(name: str, folder: Path) -> None:
    """Write the hub's splits of a task as JSONL, whole or not at all."""
    task = TASKS[name]
    try:
        from datasets import load_dataset
    except ImportError as exc:
        raise DatasetError(
            "the package datasets is not installed; run pip install -e '.[glue]' in the checkout of elastic_ir"
        ) from exc
    try:
        splits = {"train": "train"} | {split: split.replace("dev", "validation") for split in task.splits}
        found = {ours: load_dataset(HUB, name, split=theirs) for ours, theirs in splits.items()}
    except Exception as exc:
        raise DatasetError(f"task {name}: the hub did not give {HUB} ({one_line(exc)}); wanted --data FOLDER") from exc
    for split in sorted(found, key=lambda split: split == "train"):  # the training file last: it says all is there
        with whole(folder / f"{split}.jsonl") as part, part.open("w", encoding="utf-8") as out:
            for row in found[split]:
                texts = zip(PAIR, (row[field] for field in task.fields), strict=False)
                out.write(json.dumps(dict(texts) | {"label": row["label"]}, ensure_ascii=False) + "\n")
