"""``evaluate``: qrels and runs in, means, per-query figures and comparisons out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from elastic_ir.errors import InputError
from elastic_ir.evaluate.figures import Judgements
from elastic_ir.evaluate.measures import Measure
from elastic_ir.evaluate.significance import Comparison, compare
from elastic_ir.records import Qrels, Run

if TYPE_CHECKING:
    from rich.table import Table

DEFAULT_MEASURES = ("ndcg@10", "mrr@10", "recall@100", "map")
ALPHA = 0.05
SIGNIFICANCE_NOTE = f"† differs from the first run (paired t-test, Holm-corrected, p < {ALPHA}); best figures in bold"
_LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


class Cell(NamedTuple):
    """One figure of the summary table."""

    value: float
    best: bool
    significant: bool


@dataclass(frozen=True)
class Evaluation:
    """The figures of some runs over the same judged queries.

    Attributes:
        measures: in the order asked for, as ranx spells them.
        queries: how many were judged; every mean is over all of them.
        missing: run -> judged queries it has no hit for; they count 0.
        means: run -> measure -> mean.
        per_query: run -> measure -> query_id -> figure.
        comparisons: each run but the first against the first, on each measure.
    """

    measures: tuple[str, ...]
    queries: int
    missing: dict[str, int]
    means: dict[str, dict[str, float]]
    per_query: dict[str, dict[str, dict[str, float]]]
    comparisons: tuple[Comparison, ...]
    intervals: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    judged_at_10: dict[str, float] = field(default_factory=dict)

    @property
    def baseline(self) -> str:
        """The run that the others are compared with: the first."""
        return next(iter(self.means))

    def comparison(self, run: str, measure: str) -> Comparison | None:
        """``run`` against the first run; None for the first run itself."""
        return next((c for c in self.comparisons if (c.run, c.measure) == (run, measure)), None)

    def row(self, run: str) -> list[Cell]:
        """The run's line of the summary table, a cell for each measure."""
        cells = []
        for measure in self.measures:
            value, versus = self.means[run][measure], self.comparison(run, measure)
            best = len(self.means) > 1 and value == max(means[measure] for means in self.means.values())
            cells.append(Cell(value, best, versus is not None and versus.p_holm < ALPHA))
        return cells

    def to_json(self) -> str:
        """Everything, as one JSON object."""
        fields = asdict(self) | {"comparisons": [comparison._asdict() for comparison in self.comparisons]}
        return json.dumps({"baseline": self.baseline, **fields}, indent=2, ensure_ascii=False, allow_nan=False)

    def to_markdown(self, digits: int = 4) -> str:
        """The summary table in Markdown."""
        lines = [["run", *self.measures], ["---", *("---:" for _ in self.measures)]]
        for run in self.means:
            cells = (f"{'**' * c.best}{c.value:.{digits}f}{'**' * c.best}{'†' * c.significant}" for c in self.row(run))
            lines.append([re.sub(r"([\\|*_`<\[])", r"\\\1", run), *cells])
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

    def to_latex(self, digits: int = 4) -> str:
        """The summary table in LaTeX, for the ``booktabs`` package."""
        lines = [["run", *map(latex, self.measures)]]
        for run in self.means:
            values = ((f"{c.value:.{digits}f}", c) for c in self.row(run))
            cells = ((f"\\textbf{{{v}}}" if c.best else v) + r"$^\dagger$" * c.significant for v, c in values)
            lines.append([latex(run), *cells])
        head, *body = (" & ".join(line) + r" \\" for line in lines)
        columns = "l" + "r" * len(self.measures)
        return "\n".join(
            [
                rf"\begin{{tabular}}{{{columns}}}",
                r"\toprule",
                head,
                r"\midrule",
                *body,
                r"\bottomrule",
                r"\end{tabular}",
                "",
            ]
        )

    def to_table(self, digits: int = 4) -> Table:
        """The summary table for a terminal."""
        from rich.table import Table
        from rich.text import Text

        table = Table(caption=SIGNIFICANCE_NOTE if self.comparisons else None)
        table.add_column("run")
        for measure in self.measures:
            table.add_column(Text(measure), justify="right")
        table.add_column("missing", justify="right")
        for run in self.means:
            cells = [Text(f"{c.value:.{digits}f}{'†' * c.significant}", "bold" * c.best) for c in self.row(run)]
            table.add_row(Text(run), *cells, str(self.missing[run]))
        return table


def evaluate(
    qrels: Qrels,
    runs: Mapping[str, Run],
    measures: Sequence[str] = DEFAULT_MEASURES,
    *,
    permutations: int = 10_000,
    seed: int = 0,
) -> Evaluation:
    """Evaluate ``runs`` (name -> run) with ranx, in trec_eval's order, and compare each with the first.

    Hits are ordered by score as float32, ties by doc_id descending, as trec_eval does. Means are over all
    queries with at least one judgement; a query missing from a run counts 0, a query nobody judged is
    ignored. Grades of 0 and less are not relevant.

    Args:
        measures: names as ranx, trec_eval or ir_measures spell them.
        permutations: sign flips of the randomization test.
        seed: of those flips.

    Raises:
        InputError: on an unknown measure, a NaN score, nothing to evaluate, or a run that shares no query
            with the qrels.
    """
    judged = {query_id: grades for query_id, grades in qrels.items() if grades}
    wanted = list(dict.fromkeys(map(Measure.parse, measures)))
    for what, found in (("judged query", judged), ("run", runs), ("measure", wanted)):
        if not found:
            raise InputError(f"nothing to evaluate: no {what} was given; wanted at least one")
    judgements = Judgements(judged)
    figures = {}
    for name, run in runs.items():
        if run and judged.keys().isdisjoint(run):
            ids = f"it has e.g. {next(iter(run))!r}, the qrels {next(iter(judged))!r}"
            raise InputError(
                f"run {name!r} has none of the {len(judged)} judged queries ({ids}); is it of this dataset?"
            )
        figures[name] = dict(zip(map(str, wanted), judgements.figures(name, run, wanted), strict=True))
    return Evaluation(
        measures=tuple(map(str, wanted)),
        queries=len(judged),
        missing={name: sum(not run.get(query_id) for query_id in judged) for name, run in runs.items()},
        means={name: {m: float(values.mean()) for m, values in by.items()} for name, by in figures.items()},
        per_query={
            name: {m: dict(zip(judged, values.tolist(), strict=True)) for m, values in by.items()}
            for name, by in figures.items()
        },
        comparisons=compare(figures, permutations, seed),
    )


def latex(text: str) -> str:
    """``text`` with every character of LaTeX's own escaped."""
    return "".join(_LATEX.get(character, character) for character in text)
