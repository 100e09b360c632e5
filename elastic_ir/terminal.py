"""Answers shown to people in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from elastic_ir.pipeline import Hits

SHOWN_CHARACTERS = 100


def console() -> Console:
    """Standard output; long lines are left to the terminal."""
    return Console(soft_wrap=True, highlight=False)


def show(hits: Hits) -> None:
    """Print ranks, scores, ids and the beginning of each text, then level, latency and any degradation."""
    out = console()
    for rank, hit in enumerate(hits, 1):
        text = " ".join(hit.text.split())
        out.print(f"{rank:>3}  {hit.score:8.3f}  [bold]{escape(hit.doc_id)}[/bold]  {escape(text[:SHOWN_CHARACTERS])}")
    stages = ", ".join(f"{name} {ms:.0f}" for name, ms in hits.stage_ms.items())
    out.print(f"[dim]level {hits.level}, {hits.latency_ms:.0f} ms ({escape(stages)})[/dim]")
    if hits.degraded:
        out.print(f"[yellow]degraded ({', '.join(hits.degraded.reasons)}): {escape(hits.degraded.detail)}[/yellow]")
