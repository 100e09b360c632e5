"""A report as Markdown, LaTeX or JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence

from elastic_ir.evaluate.evaluation import SIGNIFICANCE_NOTE
from elastic_ir.evaluate.operating import by_level, front, latency, points
from elastic_ir.evaluate.sections import Section, changes, made_by, wins_and_losses
from elastic_ir.evaluate.tables import latex_text

_LATEX_NOTE = SIGNIFICANCE_NOTE.replace("†", r"$^\dagger$").replace("<", "$<$")


def to_markdown(sections: Sequence[Section], title: str) -> str:
    """Everything but the drawings."""
    parts = [f"# {_escaped(title)}\n"]
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
    yield f"## {_escaped(section.title)}\n"
    yield f"{evaluation.queries} judged queries.\n"
    yield evaluation.to_markdown()
    if evaluation.comparisons:
        yield f"{SIGNIFICANCE_NOTE}.\n"
    if evaluation.intervals:
        rows = [
            [_escaped(run), *(f"{low:.4f} to {high:.4f}" for low, high in map(by.__getitem__, evaluation.measures))]
            for run, by in evaluation.intervals.items()
        ]
        yield _table("95% bootstrap intervals", ["run", *evaluation.measures], rows)
    if evaluation.comparisons:
        rows = [
            [
                _escaped(c.run),
                c.measure,
                f"{c.difference:+.4f}",
                f"{c.effect_size:+.2f}",
                f"{c.wins} / {c.ties} / {c.losses}",
            ]
            + [f"{p:.2g}" for p in (c.p_ttest, c.p_randomization, c.p_tukey, c.p_holm, c.p_noninferior)]
            for c in evaluation.comparisons
        ]
        columns = [
            "run",
            "measure",
            "difference",
            "effect size d",
            "wins / ties / losses",
            "t-test p",
            "randomization p",
        ]
        margin = f"no worse by {evaluation.comparisons[0].margin:g} p"
        yield _table(f"Against {evaluation.baseline}", [*columns, "Tukey p", "Holm p", margin], rows)
    found = points(evaluation, sidecars, measure)
    if any(point.latency_ms is not None for point in found):
        best = front(found, lambda point: point.latency_ms)
        rows = [
            [
                _escaped(p.run),
                str(p.level or ""),
                f"{p.quality:.4f}",
                _amount(p.latency_ms),
                _amount(p.flops and p.flops / 1e9),
                "yes" if p in best else "",
            ]
            for p in found
        ]
        columns = ["run", "level", measure, "ms a query", "GFLOPs a query", "on the Pareto front of latency"]
        yield _table("Quality against cost", columns, rows)
    parts = [(run, part) for run in evaluation.means for part in by_level(evaluation, run, sidecars.get(run, {}))]
    if parts:
        rows = [
            [_escaped(run), part.level, str(part.queries), *(f"{part.means[m]:.4f}" for m in evaluation.measures)]
            for run, part in parts
        ]
        yield _table("By level", ["run", "level", "queries", *evaluation.measures], rows)
    for run in list(evaluation.means)[1:]:
        for title, chosen in wins_and_losses(changes(section, run, measure)).items():
            rows = [
                [_escaped(c.query_id), _escaped(c.text), f"{c.before:.4f}", f"{c.after:.4f}", f"{c.difference:+.4f}"]
                for c in chosen
            ]
            columns = ["query_id", "query", _escaped(evaluation.baseline), _escaped(run), "difference"]
            yield _table(f"{title} of {run}, {measure}", columns, rows) if rows else ""
    facts = {run: made_by(about) for run, about in sidecars.items()}
    columns = list(dict.fromkeys(name for known in facts.values() for name in known))
    if columns:
        rows = [[_escaped(run), *(_escaped(known.get(name, "")) for name in columns)] for run, known in facts.items()]
        yield _table("What produced each run", ["run", *columns], rows)


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return f"### {_escaped(title)}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _escaped(value: str) -> str:
    return re.sub(r"([\\|*_`<\[])", r"\\\1", " ".join(value.split()))


def _amount(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
