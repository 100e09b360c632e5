"""A report as Markdown, LaTeX or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from elastic_ir.evaluate.evaluation import SIGNIFICANCE_NOTE
from elastic_ir.evaluate.operating import by_level, front, latency, points
from elastic_ir.evaluate.sections import Section, amount, changes, made_by, wins_and_losses
from elastic_ir.evaluate.tables import escaped, latex_text, markdown_rows

_LATEX_NOTE = SIGNIFICANCE_NOTE.replace("†", r"$^\dagger$").replace("<", "$<$")


def to_markdown(sections: Sequence[Section], title: str) -> str:
    """Everything but the drawings."""
    parts = [f"# {escaped(title)}\n"]
    for section in sections:
        parts += _markdown(section)
    return "\n".join(parts)


def to_latex(sections: Sequence[Section], title: str) -> str:
    """The summary table of each section as a ``table`` float, for the ``booktabs`` package."""
    parts = [f"% {' '.join(title.split())}; needs the package booktabs"]
    for section in sections:
        evaluation = section.evaluation
        caption = f"{latex_text(section.title)}: {evaluation.queries} judged queries"
        caption += f"; {_LATEX_NOTE}" if evaluation.comparisons else ""
        parts += [r"\begin{table}", r"\centering", f"\\caption{{{caption}.}}"]
        parts += [evaluation.to_latex().rstrip(), r"\end{table}", ""]
    return "\n".join(parts)


def to_json(sections: Sequence[Section], title: str) -> str:
    """Everything, as one JSON object; a section's ``evaluation`` is what ``Evaluation.to_json`` gives."""
    return (
        json.dumps(
            {"title": title, "sections": [_plain(section) for section in sections]}, indent=2, ensure_ascii=False
        )
        + "\n"
    )


def _plain(section: Section) -> dict[str, object]:
    evaluation, sidecars = section.evaluation, section.sidecars
    measure = evaluation.measures[0]
    found = points(evaluation, sidecars, measure)
    best = {point.run for point in front(found, lambda point: point.latency_ms)}
    return {
        "title": section.title,
        "evaluation": json.loads(evaluation.to_json()),
        "points": [
            {**point._asdict(), "level": point.level and str(point.level), "on_latency_front": point.run in best}
            for point in found
        ],
        "by_level": {
            run: [part._asdict() for part in by_level(evaluation, run, sidecars.get(run, {}))]
            for run in evaluation.means
        },
        "latency_ms": {run: at._asdict() for run, about in sidecars.items() if (at := latency(about)) is not None},
        "made_by": {run: made_by(about) for run, about in sidecars.items()},
        "queries": dict(section.queries or {}),
    }


def _markdown(section: Section) -> Iterator[str]:
    evaluation, sidecars = section.evaluation, section.sidecars
    measure = evaluation.measures[0]
    yield f"## {escaped(section.title)}\n"
    yield f"{evaluation.queries} judged queries.\n"
    yield evaluation.to_markdown()
    if evaluation.intervals:
        rows = [
            [run, *(f"{low:.4f} to {high:.4f}" for low, high in map(by.__getitem__, evaluation.measures))]
            for run, by in evaluation.intervals.items()
        ]
        yield _table("95% bootstrap intervals", ["run", *evaluation.measures], rows)
    found = points(evaluation, sidecars, measure)
    if any(point.latency_ms is not None for point in found):
        best = front(found, lambda point: point.latency_ms)
        rows = [
            [
                p.run,
                str(p.level or ""),
                f"{p.quality:.4f}",
                amount(p.latency_ms),
                amount(p.flops and p.flops / 1e9),
                "yes" if p in best else "",
            ]
            for p in found
        ]
        columns = ["run", "level", measure, "ms a query", "GFLOPs a query", "on the Pareto front of latency"]
        yield _table("Quality against cost", columns, rows, texts=2)
    parts = [(run, part) for run in evaluation.means for part in by_level(evaluation, run, sidecars.get(run, {}))]
    if parts:
        rows = [
            [run, part.level, str(part.queries), *(f"{part.means[m]:.4f}" for m in evaluation.measures)]
            for run, part in parts
        ]
        yield _table("By level", ["run", "level", "queries", *evaluation.measures], rows, texts=2)
    for run in list(evaluation.means)[1:]:
        for title, chosen in wins_and_losses(changes(section, run, measure)).items():
            rows = [[c.query_id, c.text, f"{c.before:.4f}", f"{c.after:.4f}", f"{c.difference:+.4f}"] for c in chosen]
            columns = ["query_id", "query", evaluation.baseline, run, "difference"]
            yield _table(f"{title} of {run}, {measure}", columns, rows, texts=2) if rows else ""
    facts = {run: made_by(about) for run, about in sidecars.items()}
    columns = list(dict.fromkeys(name for known in facts.values() for name in known))
    if columns:
        rows = [[run, *(known.get(name, "") for name in columns)] for run, known in facts.items()]
        yield _table("What produced each run", ["run", *columns], rows, texts=1 + len(columns))


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    return f"### {escaped(title)}\n\n{markdown_rows(columns, rows, texts)}"
