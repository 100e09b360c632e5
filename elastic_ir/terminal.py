"""Answers shown to people in a terminal."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from rich.table import Table

    from elastic_ir.answer import Hits
    from elastic_ir.evaluate import Evaluations

SHOWN_CHARACTERS = 100
TABLE_CHARACTERS = 1_000


def console() -> Console:
    """Standard output; long lines are left to the terminal."""
    return Console(soft_wrap=True, highlight=False)


def print_table(table: Table) -> None:
    """Print a table as wide as its figures: none is cut to fit the terminal."""
    Console(soft_wrap=True, highlight=False, width=TABLE_CHARACTERS).print(table)


def show(hits: Hits) -> None:
    """Print ranks, scores, ids and the beginning of each text (or "no hits"), then level, latency, any degradation."""
    out = console()
    for rank, hit in enumerate(hits, 1):
        text = shown(hit.text)[:SHOWN_CHARACTERS]
        out.print(f"{rank:>3}  {hit.score:8.3f}  [bold]{escape(shown(hit.doc_id))}[/bold]  {escape(text)}")
    if not hits:
        out.print("no hits")
    stages = ", ".join(f"{name} {ms:.0f}" for name, ms in hits.stage_ms.items())
    out.print(f"[dim]level {hits.level}, {hits.latency_ms:.0f} ms ({escape(stages)})[/dim]")
    if hits.degraded:
        out.print(
            f"[yellow]degraded ({', '.join(hits.degraded.reasons)}): {escape(shown(hits.degraded.detail))}[/yellow]"
        )


def show_evaluations(evaluations: Evaluations) -> None:
    """Print tables and coverage of each dataset, then the means over datasets where there are several."""
    out = console()
    several = len(evaluations.by_dataset) > 1
    for label, evaluation in evaluations.by_dataset.items():
        if several:
            out.print(f"\n[bold]{escape(shown(label))}[/bold]")
        print_table(evaluation.to_table(intervals=True))
        if evaluation.comparisons:
            print_table(evaluation.to_comparison_table())
        out.print(f"{escape(shown(evaluation.coverage))}; figures by {evaluation.engine}")
    if several:
        out.print(f"\n[bold]{evaluations.title}[/bold]")
        print_table(evaluations.to_table())


def shown(text: str) -> str:
    """``text`` on one line, without control characters (ESC steers terminals) and halves of surrogate pairs."""
    return "".join(c for c in " ".join(text.split()) if unicodedata.category(c) not in ("Cc", "Cs"))
