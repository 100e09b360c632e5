"""One HTML file that needs nothing else: figures, wins and losses, what produced each run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from elastic_ir.evaluate.evaluation import SIGNIFICANCE_NOTE, Evaluation
from elastic_ir.evaluate.files import replacing

QUERIES_SHOWN = 10
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --line: #8884; --bar: #3b82f655; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; margin: 1rem 0; width: 100%; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: left; overflow-wrap: anywhere; }}
td.n, th.n {{ text-align: right; white-space: nowrap; }}
td.bar {{ background: linear-gradient(to right, var(--bar) calc(var(--share) * 100%), transparent 0); }}
pre {{ overflow: auto; padding: .8rem; border: 1px solid var(--line); border-radius: .4rem; }}
.note {{ opacity: .7; font-size: .9rem; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


class Section(NamedTuple):
    """One dataset of a report.

    Attributes:
        queries: query_id -> text; None shows ids alone.
        metadata: run -> its sidecar; None leaves out how runs were made.
    """

    title: str
    evaluation: Evaluation
    queries: Mapping[str, str] | None = None
    metadata: Mapping[str, Mapping[str, Any]] | None = None


def write_report(sections: Sequence[Section], path: Path) -> None:
    """Write the report to ``path``; whole or not at all.

    Raises:
        RunFileError: if ``path`` cannot be written.
    """
    body = "\n".join(part for section in sections for part in _section(section))
    page = _PAGE.format(title=escape(", ".join(section.title for section in sections)), body=body)
    with replacing(path) as file:
        file.write(page.encode(errors="replace").decode())  # lone surrogates become "?"


def _section(section: Section) -> list[str]:
    evaluation, metadata = section.evaluation, section.metadata
    parts = [f"<h1>{escape(section.title)}</h1>", f"<p>{evaluation.queries} judged queries.</p>", _summary(evaluation)]
    if evaluation.comparisons:
        parts += [f'<p class="note">{escape(SIGNIFICANCE_NOTE)}.</p>', _comparisons(evaluation)]
        parts += [_queries(evaluation, run, section.queries or {}) for run in list(evaluation.means)[1:]]
    if metadata:
        parts += ["<h2>What produced each run</h2>", *(_provenance(run, about) for run, about in metadata.items())]
    return parts


def _summary(evaluation: Evaluation) -> str:
    rows = []
    for run in evaluation.means:
        cells = [f"<td>{escape(run)}</td>"]
        for value, best, significant in evaluation.row(run):
            text = f"<b>{value:.4f}</b>" if best else f"{value:.4f}"
            cells.append(f'<td class="n bar" style="--share:{value:.4f}">{text}{"†" * significant}</td>')
        rows.append([*cells, _number(evaluation.missing[run])])
    return _table(["run", *evaluation.measures, "missing"], rows)


def _comparisons(evaluation: Evaluation) -> str:
    head = [
        "against the first run",
        "measure",
        "difference",
        "wins / ties / losses",
        "t-test p",
        "randomization p",
        "Holm p",
    ]
    rows = [
        [
            f"<td>{escape(c.run)}</td><td>{escape(c.measure)}</td>",
            _number(f"{c.difference:+.4f}"),
            _number(f"{c.wins} / {c.ties} / {c.losses}"),
            *(_number(f"{p:.2g}") for p in (c.p_ttest, c.p_randomization, c.p_holm)),
        ]
        for c in evaluation.comparisons
    ]
    return _table(head, rows, texts=2)


def _queries(evaluation: Evaluation, run: str, texts: Mapping[str, str]) -> str:
    """The queries on which ``run`` gains and loses most against the first run, by the first measure."""
    measure = evaluation.measures[0]
    before, after = (evaluation.per_query[name][measure] for name in (evaluation.baseline, run))
    gains = sorted(((after[query_id] - before[query_id], query_id) for query_id in before), reverse=True)
    parts = [f"<h2>{escape(run)} against {escape(evaluation.baseline)}, {escape(measure)}</h2>"]
    for name, chosen in (
        ("Largest wins", [gain for gain in gains if gain[0] > 0][:QUERIES_SHOWN]),
        ("Largest losses", [gain for gain in reversed(gains) if gain[0] < 0][:QUERIES_SHOWN]),
    ):
        rows = [
            [
                f"<td>{escape(query_id)}</td><td>{escape(texts.get(query_id, ''))}</td>",
                *(_number(f"{value:.4f}") for value in (before[query_id], after[query_id])),
                _number(f"{gain:+.4f}"),
            ]
            for gain, query_id in chosen
        ]
        table = _table(["query_id", "query", evaluation.baseline, run, "difference"], rows, texts=2)
        parts.append(f"<h3>{name}</h3>\n{table if rows else '<p>None.</p>'}")
    return "\n".join(parts)


def _provenance(run: str, about: Mapping[str, Any]) -> str:
    text = json.dumps(dict(about), indent=2, sort_keys=True, ensure_ascii=False, default=str)
    return f"<details><summary>{escape(run)}</summary><pre>{escape(text)}</pre></details>"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]], texts: int = 1) -> str:
    """``rows`` are finished cells; the first ``texts`` columns hold words, the others numbers."""
    cells = "".join(f"<th{'' if i < texts else ' class=n'}>{escape(name)}</th>" for i, name in enumerate(head))
    lines = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f"<table>\n<thead><tr>{cells}</tr></thead>\n<tbody>\n{lines}\n</tbody>\n</table>"


def _number(value: object) -> str:
    return f'<td class="n">{escape(str(value))}</td>'
