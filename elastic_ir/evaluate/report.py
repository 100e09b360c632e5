"""The report of an evaluation: one HTML file that needs nothing else, or Markdown, LaTeX or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from elastic_ir.errors import InputError
from elastic_ir.evaluate import charts, html
from elastic_ir.evaluate.documents import to_json, to_latex, to_markdown
from elastic_ir.evaluate.evaluation import JUDGED_TITLE, SIGNIFICANCE_NOTE, Evaluation
from elastic_ir.evaluate.files import replacing
from elastic_ir.evaluate.operating import Point, by_level, front, latency, mean_latency_ms, points
from elastic_ir.evaluate.sections import Section, amount, changes, made_by, wins_and_losses


def write_report(sections: Sequence[Section], path: Path | str, title: str = "Evaluation") -> None:
    """Write the report to ``path``; whole or not at all.

    Args:
        sections: one a dataset, at least one.
        path: its ending chooses the form: ``.html``, ``.md``, ``.tex`` (tables only) or ``.json``.
        title: of the whole.

    Raises:
        InputError: if there is no section, or the ending is of no known form.
        RunFileError: if ``path`` cannot be written.
    """
    path = Path(path)
    if not sections:
        raise InputError("nothing to report: no section was given; wanted one for each dataset")
    check_report(path)
    with replacing(path) as file:
        file.write(FORMS[path.suffix](sections, title).encode(errors="replace").decode())  # lone surrogates: "?"


def check_report(path: Path) -> None:
    """Refuse, before any work, a report whose ending is of no known form.

    Raises:
        InputError: naming those there are.
    """
    if path.suffix not in FORMS:
        raise InputError(f"report {path} ends in {path.suffix!r}; wanted one of {', '.join(FORMS)}")


def to_html(sections: Sequence[Section], title: str) -> str:
    """The whole page."""
    parts = []
    if len(sections) > 1:
        links = "".join(f'<li><a href="#s{i}">{html.text(s.title)}</a></li>' for i, s in enumerate(sections))
        parts.append(f'<nav aria-label="Datasets"><ul>{links}</ul></nav>')
    for number, section in enumerate(sections):
        parts += [f'<section aria-labelledby="s{number}">', *_section(section, f"s{number}"), "</section>"]
    return html.page(title, "\n".join(parts))


FORMS: dict[str, Callable[[Sequence[Section], str], str]] = {
    ".html": to_html,
    ".md": to_markdown,
    ".tex": to_latex,
    ".json": to_json,
}
"""Ending of the file -> what makes its text of (sections, title)."""


def _section(section: Section, key: str) -> Iterator[str]:
    evaluation = section.evaluation
    yield f'<h2 id="{key}">{html.text(section.title)}</h2>'
    runs = f"{len(evaluation.means)} runs" if len(evaluation.means) > 1 else "one run"
    yield f"<p>{evaluation.queries:,} judged queries, {runs}; every mean is over all judged queries.</p>"
    yield "<h3>Figures</h3>"
    yield _summary(evaluation)
    if evaluation.comparisons:
        yield _comparisons(evaluation)
    yield from trade_offs(section, key)
    yield from _levels(section)
    yield from _latencies(section, key)
    yield from _queries(section, key)
    yield from _provenance(section)


def _summary(evaluation: Evaluation) -> str:
    rows = []
    for run in evaluation.means:
        cells = [html.head(run)]
        for measure, (value, best, significant) in zip(evaluation.measures, evaluation.row(run), strict=True):
            shown = f"<b>{value:.4f}</b>" if best else f"{value:.4f}"
            interval = evaluation.intervals.get(run, {}).get(measure)
            between = f'<span class="range">{interval[0]:.4f} to {interval[1]:.4f}</span>' if interval else ""
            cells.append(html.share(f"{shown}{'†' * significant}{between}", value))
        judged = evaluation.judged_at_10.get(run)
        cells += [html.number(f"{judged:.1%}")] if judged is not None else []
        rows.append([*cells, html.number(evaluation.missing[run])])
    notes = ["Means over all judged queries"]
    notes += ["below each its 95% bootstrap interval"] if evaluation.intervals else []
    notes += [SIGNIFICANCE_NOTE] if evaluation.comparisons else []
    columns = [
        "run",
        *evaluation.measures,
        *([JUDGED_TITLE] if evaluation.judged_at_10 else []),
        "queries without hits",
    ]
    return html.table("; ".join(notes) + ".", columns, rows)


def _comparisons(evaluation: Evaluation) -> str:
    names = ["run", "measure", "difference", "effect size d", "wins / ties / losses"]
    names += ["t-test", "randomization", "Tukey", "Holm", "no worse"]
    rows = [
        [
            html.head(c.run),
            html.cell(c.measure),
            *(html.number(f"{value:+.{digits}f}") for value, digits in ((c.difference, 4), (c.effect_size, 2))),
            html.number(f"{c.wins} / {c.ties} / {c.losses}"),
            *(html.number(_p(p)) for p in (c.p_ttest, c.p_randomization, c.p_tukey, c.p_holm, c.p_noninferior)),
        ]
        for c in evaluation.comparisons
    ]
    margin = evaluation.comparisons[0].margin
    caption = (
        f"Against {evaluation.baseline}: difference of the means, effect size (Cohen's d of the paired differences), "
        f"and p of each test. “No worse” is small where the run loses less than {margin:g} (one-sided, TOST)."
    )
    return html.table(caption, names, rows, words=2)


def trade_offs(section: Section, key: str) -> Iterator[str]:
    """Quality against latency and against FLOPs, drawn and in numbers; nothing where fewer than two runs have either.

    ``key`` makes the ids of the drawings unlike others on the page.
    """
    measure = section.evaluation.measures[0]
    found = points(section.evaluation, section.sidecars, measure)
    costs: list[tuple[str, str, Callable[[Point], float | None]]] = [
        ("latency", "ms a query", lambda point: point.latency_ms),
        ("computation", "GFLOPs a query", lambda point: None if point.flops is None else point.flops / 1e9),
    ]
    known = [cost for cost in costs if sum(cost[2](point) is not None for point in found) > 1]
    if not known:
        return
    yield "<h3>Quality against cost</h3>"
    for name, unit, cost in known:
        caption = (
            f"{measure} against {name}. On the dashed line, the Pareto front, no other run gives as much for less."
        )
        if any(point.level and point.level.rerank for point in found):
            caption += " A thin line joins plans that differ in their budget alone."
        if name == "computation":
            caption += " Counted for the models on a query and passages of typical length; an index search counts 0."
        yield html.figure(charts.trade_off(found, cost, measure, unit, f"{key}-{name}"), caption)
    fronts = [front(found, cost) for _, _, cost in known]
    rows = [
        [
            html.head(point.run),
            html.cell(point.level or ""),
            html.cell(", ".join(name for (name, _, _), best in zip(known, fronts, strict=True) if point in best)),
            html.number(f"{point.quality:.4f}"),
            *(html.number(amount(cost(point))) for _, _, cost in known),
        ]
        for point in sorted(found, key=lambda point: -point.quality)
    ]
    columns = ["run", "level", "on the front of", measure, *(unit for _, unit, _ in known)]
    yield html.table("The same in numbers, best quality first.", columns, rows, words=3)


def _levels(section: Section) -> Iterator[str]:
    evaluation = section.evaluation
    found = [
        (run, part) for run in evaluation.means for part in by_level(evaluation, run, section.sidecars.get(run, {}))
    ]
    if not found:
        return
    timed = any(part.latency_ms is not None for _, part in found)
    rows = [
        [
            html.head(run),
            html.cell(part.level),
            html.share(f"{part.queries:,}", part.queries / evaluation.queries),
            *(html.number(f"{part.means[measure]:.4f}") for measure in evaluation.measures),
            *([html.number(amount(part.latency_ms))] if timed else []),
        ]
        for run, part in found
    ]
    yield "<h3>By level</h3>"
    columns = ["run", "level", "queries", *evaluation.measures, *(["ms a query"] if timed else [])]
    yield html.table(
        "The level that answered, and the means over the judged queries it answered.", columns, rows, words=2
    )


def _latencies(section: Section, key: str) -> Iterator[str]:
    runs = [run for run in section.evaluation.means if mean_latency_ms(section.sidecars.get(run, {})) is not None]
    if not runs:
        return
    spread = {run: found for run in runs if (found := latency(section.sidecars[run])) is not None}
    yield "<h3>Latency</h3>"
    if spread:
        caption = "Each run: box from p25 to p75 with the median in it, line from p5 to p95, dot at p99."
        yield html.figure(charts.boxes(spread, f"{key}-spread"), caption)
    rows = [
        [
            html.head(run),
            html.number(amount(mean_latency_ms(section.sidecars[run]))),
            *(
                html.number(amount(getattr(spread[run], name)) if run in spread else "")
                for name in ("p50", "p95", "p99", "max")
            ),
        ]
        for run in runs
    ]
    caption = (
        "Milliseconds of one query, as the run recorded them; a query searched in a batch has its share of the batch."
    )
    yield html.table(caption, ["run", "mean", "p50", "p95", "p99", "slowest"], rows)


def _queries(section: Section, key: str) -> Iterator[str]:
    """Where each run gains and loses most against the first run, by the first measure."""
    evaluation = section.evaluation
    measure, others = evaluation.measures[0], list(evaluation.means)[1:]
    if others:
        yield "<h3>Queries won and lost</h3>"
    for number, run in enumerate(others):
        name, found = f"{run} against {evaluation.baseline}, {measure}", changes(section, run, measure)
        yield f"<h4>{html.text(name)}</h4>"
        drawing = charts.differences([change.difference for change in found], name, f"{key}-diff{number}")
        yield html.figure(drawing, f"{measure} of each query: difference between {run} and {evaluation.baseline}.")
        for title, chosen in wins_and_losses(found).items():
            rows = [
                [
                    html.head(change.query_id),
                    html.words(change.text),
                    *(html.number(f"{value:.4f}") for value in (change.before, change.after)),
                    html.number(f"{change.difference:+.4f}"),
                ]
                for change in chosen
            ]
            columns = ["query_id", "query", evaluation.baseline, run, "difference"]
            yield html.table(f"{title}: {name}", columns, rows, words=2) if rows else f"<p>{title}: none.</p>"


def _provenance(section: Section) -> Iterator[str]:
    if not section.sidecars:
        return
    facts = {run: made_by(about) for run, about in section.sidecars.items()}
    columns = list(dict.fromkeys(name for found in facts.values() for name in found))
    yield "<h3>What produced each run</h3>"
    if columns:
        rows = [
            [html.head(run), *(html.words(found.get(name, "")) for name in columns)] for run, found in facts.items()
        ]
        yield html.table("From the sidecar of each run.", ["run", *columns], rows, words=len(columns) + 1)
    for run, about in section.sidecars.items():
        kept = {name: value for name, value in about.items() if name not in ("levels", "queries_ms")}
        shown = json.dumps(kept, indent=2, sort_keys=True, ensure_ascii=False, default=str)
        yield (
            f"<details><summary>Sidecar of {html.text(run)}</summary>"
            f'<pre tabindex="0">{html.text(shown)}</pre></details>'
        )


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1g}"
