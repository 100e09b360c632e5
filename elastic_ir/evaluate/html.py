"""One HTML page that needs nothing else: its style, and the few elements that reports are made of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")  # what no HTML page may hold

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --text: #1b1f24; --muted: #57606a; --line: #d0d7de; --soft: #f3f5f8;
  --bar: #dbe8fb; --accent: #1a5fb4; --better: #1a7f4b; --worse: #b3261e;
  --c0: #1a5fb4; --c1: #b35900; --c2: #7b3fb5; --c3: #1a7f4b; --c4: #b3261e; --c5: #5c5f62; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171c; --text: #e4e8ee; --muted: #a3adb9; --line: #39414c;
  --soft: #1d222a; --bar: #24405f; --accent: #82b4ff; --better: #5ecb91; --worse: #ff8f86;
  --c0: #82b4ff; --c1: #ffb067; --c2: #cfa3ff; --c3: #5ecb91; --c4: #ff8f86; --c5: #b8bec6; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; max-width: 68rem; margin: 2rem auto;
  padding: 0 1.25rem; color: var(--text); background: var(--ground); }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.45rem; margin: 2.5rem 0 .5rem; padding-top: .6rem; border-top: 2px solid var(--line); }
h3 { font-size: 1.12rem; margin: 2rem 0 .25rem; }
h4 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
h1, h2, h3, h4, p, figcaption, summary, caption, tbody th { overflow-wrap: anywhere; }
p { margin: .4rem 0; max-width: 48rem; }
a { color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
nav ul { padding-left: 1.2rem; margin: .3rem 0; }
.note, figcaption, caption { color: var(--muted); font-size: .9rem; }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: 0 0 .4rem; }
caption span { display: block; position: sticky; left: 0; max-width: min(60rem, 100vw - 2.5rem); }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; }
tbody th { font-weight: 500; min-width: 7rem; }
td { overflow-wrap: break-word; }
td.words { min-width: 9rem; overflow-wrap: anywhere; }
.n { text-align: right; white-space: nowrap; overflow-wrap: normal; }
thead .n { white-space: normal; }
.bar { background: linear-gradient(to right, var(--bar) calc(var(--share) * 100%), transparent 0); }
.range { display: block; color: var(--muted); font-size: .8rem; }
figure { margin: 1rem 0; }
figure .scroll { margin: 0 0 .4rem; }
svg { display: block; width: 100%; height: auto; min-width: 36rem; max-width: 60rem; }
svg text { font: 12px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: var(--muted); }
svg .label { fill: var(--text); }
svg text[paint-order] { stroke: var(--ground); stroke-width: 4px; stroke-linejoin: round; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .axis { stroke: var(--muted); stroke-width: 1; }
svg .front { fill: none; stroke: var(--text); stroke-width: 1.5; stroke-dasharray: 5 4; }
svg .plan { fill: none; stroke: var(--muted); stroke-width: 1; opacity: .6; }
svg .lead { stroke: var(--muted); stroke-width: 1; }
svg .whisker { stroke: var(--accent); stroke-width: 2; }
svg .box { fill: var(--bar); stroke: var(--accent); stroke-width: 1.5; }
svg .middle { stroke: var(--text); stroke-width: 3; }
svg .dot { fill: var(--accent); }
svg .better { fill: var(--better); }
svg .worse { fill: var(--worse); }
svg .ringed { stroke: var(--text); stroke-width: 2; }
svg .c0 { --c: var(--c0); } svg .c1 { --c: var(--c1); } svg .c2 { --c: var(--c2); }
svg .c3 { --c: var(--c3); } svg .c4 { --c: var(--c4); } svg .c5 { --c: var(--c5); }
svg .mark { fill: var(--c); stroke: var(--c); stroke-width: 1.5; }
svg .hollow { fill: var(--ground); stroke-width: 2.5; }
details { margin: .3rem 0; }
summary { cursor: pointer; padding: .2rem 0; }
pre { overflow: auto; padding: .8rem; margin: .3rem 0; background: var(--soft); border-radius: .4rem;
  font-size: .85rem; }
@media print {
  :root { color-scheme: light; --ground: #fff; --text: #000; --muted: #444; --line: #bbb; --soft: #f5f5f5;
    --bar: #dbe8fb; --accent: #1a5fb4; --better: #1a7f4b; --worse: #b3261e; --c0: #1a5fb4; --c1: #b35900; --c2: #7b3fb5;
    --c3: #1a7f4b; --c4: #b3261e; --c5: #5c5f62; }
  @page { margin: 15mm; }
  body { margin: 0; padding: 0; max-width: none; font-size: 10pt; print-color-adjust: exact;
    -webkit-print-color-adjust: exact; }
  table { font-size: 8.5pt; }
  th, td { padding: .2rem .35rem; }
  tbody th, td.words { min-width: 0; }
  caption span { max-width: none; }
  nav, details { display: none; }
  .scroll { overflow: visible; }
  h2, h3, h4, caption { break-after: avoid; }
  tr, figure { break-inside: avoid; }
  svg { min-width: 0; max-width: 17cm; }
  .note, figcaption, caption { font-size: 8.5pt; }
}
"""


def page(title: str, body: str) -> str:
    """A whole page under a policy that lets it load and run nothing."""
    html = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{text(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{text(title)}</h1>
{body}
</main>
</body>
</html>
"""
    return html.encode(errors="replace").decode()  # lone surrogates become "?"


def text(value: object) -> str:
    """``value`` as text: nothing in it is markup, and characters that HTML forbids become U+FFFD."""
    return _CONTROL.sub("\ufffd", escape(str(value)))


def cell(value: object) -> str:
    """A finished cell with a word or two."""
    return f"<td>{text(value)}</td>"


def words(value: object) -> str:
    """A finished cell with a sentence, which may be broken anywhere."""
    return f'<td class="words">{text(value)}</td>'


def number(value: object) -> str:
    """A finished cell with a number, already formatted."""
    return f'<td class="n">{text(value)}</td>'


def head(value: object) -> str:
    """The cell that names its row."""
    return f'<th scope="row">{text(value)}</th>'


def share(markup: str, filled: float) -> str:
    """A number with a bar behind it, ``filled`` of the cell long."""
    return f'<td class="n bar" style="--share:{min(max(filled, 0.0), 1.0):.4f}">{markup}</td>'


def table(caption: str, columns: Sequence[str], rows: Iterable[Iterable[str]], words: int = 1) -> str:
    """``rows`` are finished cells; the first ``words`` columns hold words, the others numbers."""
    kinds = [""] * words + [' class="n"'] * (len(columns) - words)
    names = "".join(f'<th scope="col"{k}>{text(name)}</th>' for k, name in zip(kinds, columns, strict=True))
    lines = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return (
        f'<div class="scroll" role="group" tabindex="0" aria-label="{text(caption)}"><table>\n'
        f"<caption><span>{text(caption)}</span></caption>\n<thead><tr>{names}</tr></thead>\n<tbody>\n{lines}\n</tbody>\n</table></div>"
    )


def figure(drawing: str, caption: str) -> str:
    """A drawing and what it shows."""
    scroller = f'<div class="scroll" role="group" tabindex="0" aria-label="Chart: {text(caption)}">\n{drawing}\n</div>'
    return f"<figure>\n{scroller}\n<figcaption>{text(caption)}</figcaption>\n</figure>"
