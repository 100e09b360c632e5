"""The summary table in three forms: Markdown, LaTeX and for a terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.table import Table

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


Rows = Mapping[str, Sequence[Cell]]
"""Run -> its cells, one for each measure."""


def markdown_rows(head: Sequence[str], lines: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A Markdown table; the first ``texts`` columns hold words, which are escaped, the others numbers."""
    ruler = [*["---"] * texts, *["---:"] * (len(head) - texts)]
    rows = [[*map(escaped, line[:texts]), *line[texts:]] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in [[*map(escaped, head)], ruler, *rows])


def markdown(measures: Sequence[str], rows: Rows, digits: int) -> str:
    """The summary: best figures in bold, significant ones marked."""
    lines = [
        [run, *(f"{'**' * c.best}{c.value:.{digits}f}{'**' * c.best}{'†' * c.significant}" for c in cells)]
        for run, cells in rows.items()
    ]
    return markdown_rows(["run", *measures], lines)


def latex(measures: Sequence[str], rows: Rows, digits: int) -> str:
    """The summary for the ``booktabs`` package."""
    lines = [["run", *map(latex_text, measures)]]
    for run, cells in rows.items():
        values = ((f"{c.value:.{digits}f}", c) for c in cells)
        marked = ((f"\\textbf{{{v}}}" if c.best else v) + r"$^\dagger$" * c.significant for v, c in values)
        lines.append([latex_text(run), *marked])
    head, *body = (" & ".join(line) + r" \\" for line in lines)
    begin = rf"\begin{{tabular}}{{l{'r' * len(measures)}}}"
    return "\n".join([begin, r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}", ""])


def terminal(measures: Sequence[str], rows: Rows, digits: int) -> Table:
    """The summary for a terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("run")
    for measure in measures:
        table.add_column(Text(measure), justify="right")
    for run, cells in rows.items():
        table.add_row(Text(run), *(Text(f"{c.value:.{digits}f}{'†' * c.significant}", "bold" * c.best) for c in cells))
    return table


def latex_text(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def escaped(text: str) -> str:
    """``text`` as Markdown that reads the same, on one line."""
    return re.sub(r"([\\|*_`<\[])", r"\\\1", " ".join(text.split()))
