"""Runs over several datasets: which file belongs to which, their figures side by side, and the means over them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from elastic_ir.datasets.base import key_of
from elastic_ir.errors import InputError
from elastic_ir.evaluate.evaluation import Evaluation
from elastic_ir.evaluate.tables import Cell, latex, markdown, terminal

if TYPE_CHECKING:
    from rich.table import Table

PLACEHOLDER = "{dataset}"


def label_of(dataset: str) -> str:
    """What stands for a dataset in run paths and tables: ``beir-scifact-test`` for an id, a folder's own name."""
    return key_of(Path(dataset).name if Path(dataset).exists() else dataset)


def runs_of(templates: Sequence[Path], labels: Sequence[str]) -> dict[str, dict[str, Path]]:
    """The run files of each dataset: label -> run -> path.

    A run is called by its file without placeholder and ending (``bm25`` for ``runs/bm25-{dataset}.trec``), or by
    its folder where that leaves nothing; all by their whole path where two would be called alike.

    Args:
        templates: paths, in which ``{dataset}`` stands for the label.
        labels: of the datasets.

    Raises:
        InputError: if a path is there twice, two datasets have one label, or several datasets would read one file.
    """
    for what, found in (("run", list(map(str, templates))), ("dataset", list(labels))):
        if twice := next((one for one in found if found.count(one) > 1), None):
            raise InputError(f"{what} {twice!r} is given twice; wanted each once")
    fixed = next((path for path in templates if PLACEHOLDER not in str(path)), None)
    if len(labels) > 1 and fixed is not None:
        example = fixed.with_name(f"{fixed.stem}-{PLACEHOLDER}{fixed.suffix}")
        raise InputError(
            f"run {str(fixed)!r} is one file for {len(labels)} datasets ({', '.join(labels)}); "
            f"wanted {PLACEHOLDER} in its path, e.g. '{example}'"
        )
    names = _names(templates)
    return {
        label: {name: Path(str(path).replace(PLACEHOLDER, label)) for name, path in zip(names, templates, strict=True)}
        for label in labels
    }


def _names(templates: Sequence[Path]) -> list[str]:
    stems = [
        _name(path.name.removesuffix(".gz").removesuffix(".trec")) or _name(path.parent.name) for path in templates
    ]
    return stems if all(stems) and len(set(stems)) == len(stems) else [str(path) for path in templates]


def _name(text: str) -> str:
    """``text`` without the placeholder and the mark that joined it."""
    if PLACEHOLDER not in text:
        return text
    parts = (part.strip("-_.") for part in text.split(PLACEHOLDER))
    return "-".join(part for part in parts if part)


@dataclass(frozen=True)
class Evaluations:
    """The same runs, by the same measures, on one or more datasets.

    Raises:
        InputError: if there is none, or their runs or measures differ.
    """

    by_dataset: Mapping[str, Evaluation]

    def __post_init__(self) -> None:
        shapes = {(tuple(one.means), one.measures) for one in self.by_dataset.values()}
        if len(shapes) != 1:
            raise InputError(f"found evaluations of {len(shapes)} kinds; wanted the same runs and measures throughout")

    @property
    def measures(self) -> tuple[str, ...]:
        """In the order asked for."""
        return next(iter(self.by_dataset.values())).measures

    @property
    def means(self) -> dict[str, dict[str, float]]:
        """Run -> measure -> mean over datasets, each counting the same however many queries it has."""
        several = list(self.by_dataset.values())
        return {
            run: {m: sum(one.means[run][m] for one in several) / len(several) for m in self.measures}
            for run in several[0].means
        }

    def rows(self) -> dict[str, list[Cell]]:
        """The table of means over datasets: run -> a cell for each measure; nothing in it is tested."""
        means = self.means
        best = {m: max(by[m] for by in means.values()) for m in self.measures}
        several = len(means) > 1
        return {
            run: [Cell(by[m], several and by[m] == best[m], False) for m in self.measures] for run, by in means.items()
        }

    def to_json(self) -> str:
        """One dataset: its evaluation. Several: ``means`` over them and each evaluation under ``datasets``."""
        if len(self.by_dataset) == 1:
            return next(iter(self.by_dataset.values())).to_json()
        datasets = {label: one.to_dict() for label, one in self.by_dataset.items()}
        everything = {"measures": self.measures, "means": self.means, "datasets": datasets}
        return json.dumps(everything, indent=2, ensure_ascii=False, allow_nan=False)

    def to_markdown(self, digits: int = 4) -> str:
        """A section for each dataset, then the means over them."""
        if len(self.by_dataset) == 1:
            return next(iter(self.by_dataset.values())).to_markdown(digits)
        parts = [f"## {label}\n\n{one.to_markdown(digits)}" for label, one in self.by_dataset.items()]
        means = markdown(self.measures, self.rows(), digits)
        return "\n".join([*parts, f"## {self.title}\n\n{means}"])

    def to_latex(self, digits: int = 4) -> str:
        """A table for each dataset, then the means over them, for the ``booktabs`` package."""
        if len(self.by_dataset) == 1:
            return next(iter(self.by_dataset.values())).to_latex(digits)
        parts = [f"% {label}\n{one.to_latex(digits)}" for label, one in self.by_dataset.items()]
        return "\n".join([*parts, f"% {self.title}\n{latex(self.measures, self.rows(), digits)}"])

    def to_table(self, digits: int = 4) -> Table:
        """The means over datasets, for a terminal."""
        return terminal(self.measures, self.rows(), digits)

    @property
    def title(self) -> str:
        """Of the table of means."""
        return f"mean of {len(self.by_dataset)} datasets"
