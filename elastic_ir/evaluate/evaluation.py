"""``evaluate``: qrels and runs in, means, per-query figures and comparisons out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from elastic_ir.errors import InputError
from elastic_ir.evaluate.figures import EngineName, Judgements, engine, in_blocks
from elastic_ir.evaluate.intervals import bootstrap_intervals
from elastic_ir.evaluate.measures import Measure
from elastic_ir.evaluate.significance import DEFAULT_MARGIN, Comparison, compare
from elastic_ir.evaluate.tables import Cell, escaped, latex, markdown, markdown_rows
from elastic_ir.records import Qrels, Run

if TYPE_CHECKING:
    from rich.table import Table

DEFAULT_MEASURES = ("ndcg@10", "mrr@10", "recall@100", "map")
ALPHA = 0.05
SIGNIFICANCE_NOTE = f"† differs from the first run (paired t-test, Holm-corrected, p < {ALPHA}); best figures in bold"
FORMULA_HITS = 1_000_000
"""Up to so many hits numpy's formulas are the default: ranx alone takes longer to load than they take to answer."""
LARGEST_EXPONENT = 1000
"""Largest grade of which a measure may count 2 to its power: the sum of many stays a float."""
_JUDGED = Measure("judged", 10)
JUDGED_TITLE = "top 10 judged"


@dataclass(frozen=True)
class Evaluation:
    """The figures of some runs over the same judged queries.

    Attributes:
        measures: in the order asked for, as ranx spells them.
        queries: how many were judged; every mean is over all of them.
        missing: run -> judged queries it has no hit for; they count 0.
        judged_at_10: run -> share of its top 10 hits that somebody judged, the mean over the judged queries that it has
            hits for; 0 where there are none.
        means: run -> measure -> mean.
        intervals: run -> measure -> 95% bootstrap interval of the mean.
        per_query: run -> measure -> query_id -> figure.
        comparisons: each run but the first against the first, on each measure.
        engine: what computed the figures.
    """

    measures: tuple[str, ...]
    queries: int
    missing: dict[str, int]
    judged_at_10: dict[str, float]
    means: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, tuple[float, float]]]
    per_query: dict[str, dict[str, dict[str, float]]]
    comparisons: tuple[Comparison, ...]
    engine: EngineName

    @property
    def baseline(self) -> str:
        """The run that the others are compared with: the first."""
        return next(iter(self.means))

    @property
    def coverage(self) -> str:
        """How many queries count, and which runs miss some, in one line."""
        missing = ", ".join(f"{run} {count}" for run, count in self.missing.items() if count)
        return f"{self.queries:,} judged queries" + (
            f"; without a hit, counted as 0: {missing}" if missing else ", all with hits in every run"
        )

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

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can say it: an infinite effect size is None."""
        comparisons = [
            c._asdict() | {"effect_size": c.effect_size if math.isfinite(c.effect_size) else None}
            for c in self.comparisons
        ]
        return {"baseline": self.baseline, **asdict(self), "comparisons": comparisons}

    def to_json(self) -> str:
        """Everything, as one JSON object."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)

    def to_markdown(self, digits: int = 4) -> str:
        """The summary table in Markdown, what it is over, and the comparisons."""
        parts = [markdown(self.measures, {run: self.row(run) for run in self.means}, digits)]
        judged = ", ".join(f"{escaped(run)} {share:.3f}" for run, share in self.judged_at_10.items())
        parts.append(f"{self.coverage}. {JUDGED_TITLE.capitalize()}: {judged}.\n")
        if self.comparisons:
            head, lines = self._compared(digits)
            parts += [f"{SIGNIFICANCE_NOTE}.\n", markdown_rows(head, lines, texts=2)]
        return "\n".join(parts)

    def to_latex(self, digits: int = 4) -> str:
        """The summary table in LaTeX, for the ``booktabs`` package."""
        return latex(self.measures, {run: self.row(run) for run in self.means}, digits)

    def to_table(self, digits: int = 4, intervals: bool = False) -> Table:
        """The summary table for a terminal; ``intervals`` adds a line of them below each run's means."""
        from rich.table import Table
        from rich.text import Text

        table = Table(caption=SIGNIFICANCE_NOTE if self.comparisons else None)
        table.add_column("run")
        for column in (*self.measures, JUDGED_TITLE, "missing"):
            table.add_column(Text(column), justify="right")
        for run in self.means:
            cells = [Text(f"{c.value:.{digits}f}{'†' * c.significant}", "bold" * c.best) for c in self.row(run)]
            table.add_row(Text(run), *cells, f"{self.judged_at_10[run]:.3f}", str(self.missing[run]))
            if intervals:
                bounds = (self.intervals[run][measure] for measure in self.measures)
                spans = [Text(f"{low:.{digits - 1}f}–{high:.{digits - 1}f}", "dim") for low, high in bounds]
                table.add_row(Text("  95% interval", "dim"), *spans)
        return table

    def to_comparison_table(self, digits: int = 4) -> Table:
        """Every comparison with its tests, for a terminal."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        head, lines = self._compared(digits)
        table = Table(title=Text(f"against {self.baseline}"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        for column, name in enumerate(head):
            table.add_column(Text(name), justify="right" if column > 1 else "left")
        for line in lines:
            table.add_row(*map(Text, line))
        return table

    def _compared(self, digits: int) -> tuple[list[str], list[list[str]]]:
        """Head and lines of the table of comparisons."""
        margin = f"no worse by {self.comparisons[0].margin:g}" if self.comparisons else ""
        tests = ["p: t", "random", "Holm", "Tukey", margin]
        head = ["run", "measure", "difference", "wins/ties/losses", "d_z", *tests]
        lines = []
        for c in self.comparisons:
            values = (c.p_ttest, c.p_randomization, c.p_holm, c.p_tukey, c.p_noninferior)
            counts = f"{c.wins}/{c.ties}/{c.losses}"
            numbers = [f"{c.difference:+.{digits}f}", counts, f"{c.effect_size:+.2f}"]
            lines.append([c.run, c.measure, *numbers, *map(_probability, values)])
        return head, lines


def evaluate(
    qrels: Qrels,
    runs: Mapping[str, Run],
    measures: Sequence[str] = DEFAULT_MEASURES,
    *,
    permutations: int = 10_000,
    resamples: int = 2_000,
    margin: float = DEFAULT_MARGIN,
    seed: int = 0,
    engine_name: EngineName | None = None,
) -> Evaluation:
    """Evaluate ``runs`` (name -> run) in trec_eval's order, and compare each with the first.

    Hits are ordered by score as float32, ties by doc_id descending, as trec_eval does. Means are over all
    queries with at least one judgement; a query missing from a run counts 0, a query nobody judged is
    ignored. Grades of 0 and less are not relevant.

    Args:
        measures: names as ranx, trec_eval or ir_measures spell them.
        permutations: sign flips of the randomization test.
        resamples: bootstrap draws for the intervals.
        margin: the loss that still counts as no worse in the test of non-inferiority.
        seed: of flips and draws.
        engine_name: ``numpy`` or ``ranx``, which agree to 1e-12; None takes ranx above ``FORMULA_HITS`` hits.

    Raises:
        InputError: on an unknown measure, a NaN score, nothing to evaluate, a run that shares no query with the
            qrels, grades too large for the measure, or fewer than one permutation or resample.
    """
    judged = {query_id: grades for query_id, grades in qrels.items() if grades}
    wanted = list(dict.fromkeys(map(Measure.parse, measures)))
    for what, found in (("judged query", judged), ("run", runs), ("measure", wanted)):
        if not found:
            raise InputError(f"nothing to evaluate: no {what} was given; wanted at least one")
    for name, run in runs.items():
        if run and judged.keys().isdisjoint(run):
            ids = f"it has e.g. {next(iter(run))!r}, the qrels {next(iter(judged))!r}"
            raise InputError(
                f"run {name!r} has none of the {len(judged)} judged queries ({ids}); is it of this dataset?"
            )
    _check_numbers(judged, wanted, permutations, resamples)
    chosen = engine_name or ("numpy" if _hits(judged, runs) <= FORMULA_HITS else "ranx")
    compute, judgements = engine(chosen), list(map(Judgements, in_blocks(judged, runs.values())))
    figures, judged_at_10 = {}, {}
    for name, run in runs.items():
        blocks = [compute(block.tables(name, run), [*wanted, _JUDGED]) for block in judgements]
        *columns, shares = map(np.concatenate, zip(*blocks, strict=True))
        figures[name] = dict(zip(map(str, wanted), columns, strict=True))
        with_hits = np.array([bool(run.get(query_id)) for query_id in judged])
        judged_at_10[name] = float(shares[with_hits].mean()) if with_hits.any() else 0.0
    return Evaluation(
        measures=tuple(map(str, wanted)),
        queries=len(judged),
        missing={name: sum(not run.get(query_id) for query_id in judged) for name, run in runs.items()},
        judged_at_10=judged_at_10,
        means={name: {m: float(values.mean()) for m, values in by.items()} for name, by in figures.items()},
        intervals=bootstrap_intervals(figures, resamples, seed),
        per_query={
            name: {m: dict(zip(judged, values.tolist(), strict=True)) for m, values in by.items()}
            for name, by in figures.items()
        },
        comparisons=compare(figures, permutations, seed, margin),
        engine=chosen,
    )


def _check_numbers(judged: Qrels, measures: Sequence[Measure], permutations: int, resamples: int) -> None:
    for name, count in (("permutations", permutations), ("resamples", resamples)):
        if count < 1:
            raise InputError(f"{name} is {count}; wanted 1 or more")
    exponential = next((str(measure) for measure in measures if measure.name.endswith("burges")), None)
    largest = max(grade for grades in judged.values() for grade in grades.values())
    if exponential is not None and largest > LARGEST_EXPONENT:
        raise InputError(
            f"{exponential} counts 2^grade, and a grade is {largest}; wanted {LARGEST_EXPONENT} at most, or ndcg"
        )


def _probability(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "<0.001"


def _hits(judged: Qrels, runs: Mapping[str, Run]) -> int:
    return sum(len(run.get(query_id, ())) for run in runs.values() for query_id in judged)
