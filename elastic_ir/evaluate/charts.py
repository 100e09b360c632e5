"""Charts as SVG inside a page: its colours follow the page's style, and each has a name and a description."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from elastic_ir.evaluate.html import text
from elastic_ir.evaluate.marks import Mark, Marks
from elastic_ir.evaluate.operating import Latency, Point, front

WIDTH, HEIGHT = 900, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 24, 16, 52
_CHARACTER, _LINE = 6.6, 15  # pixels of a label, at most
_SHAPES: dict[str, Callable[[float, float, float], str]] = {
    "circle": lambda x, y, r: f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}"',
    "square": lambda x, y, r: f'<rect x="{x - r * 0.89:.1f}" y="{y - r * 0.89:.1f}" width="{r * 1.78:.1f}" '
    f'height="{r * 1.78:.1f}"',
    "triangle": lambda x, y, r: _polygon(x, y, r * 1.25, (-90, 30, 150)),
    "diamond": lambda x, y, r: _polygon(x, y, r * 1.3, (0, 90, 180, 270)),
    "star": lambda x, y, r: "<path d=\"" + " ".join(
        f"{'M' if i == 0 else 'L'}{x + k * r * math.cos(a):.1f} {y + k * r * math.sin(a):.1f}"
        for i in range(10)
        for a, k in ((math.radians(i * 36 - 90), 1.4 if i % 2 == 0 else 0.6),)
    ) + ' Z"',
}  # fmt: skip
"""Shape -> an SVG element, left open for its attributes."""


class Scale(NamedTuple):
    """Values to pixels: ``low``..``high`` to ``first``..``last``; on a log scale zero stands one step before."""

    low: float
    high: float
    first: float
    last: float
    log: bool = False
    zero: float | None = None

    def __call__(self, value: float) -> float:
        if self.log:
            if value <= 0:
                return self.zero if self.zero is not None else self.first
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.first + share * (self.last - self.first)

    def ticks(self) -> list[float]:
        """Round values within the scale."""
        if not self.log:
            return list(_steps(self.low, self.high))
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for digits in ((1, 2, 5), (1, 2, 3, 4, 5, 6, 7, 8, 9)):
            found = [d * 10.0**e for e in decades for d in digits if self.low <= d * 10.0**e <= self.high * 1.0001]
            if len(found) > 2:
                break
        return found


def log_scale(values: Sequence[float], first: float, last: float) -> Scale:
    """A log scale with room around ``values``; zeros, if any, get a place of their own at the left."""
    positive = [value for value in values if value > 0] or [1.0]
    zero = first + 18 if min(values) <= 0 else None
    low, high = min(positive) / 1.25, max(positive) * 1.25
    return Scale(low, high, first if zero is None else first + 60, last, log=True, zero=zero)


def linear_scale(values: Sequence[float], first: float, last: float) -> Scale:
    """A linear scale with room around ``values``; it need not begin at 0."""
    spread = max(values) - min(values) or abs(max(values)) * 0.1 or 1.0
    return Scale(min(values) - spread * 0.1, max(values) + spread * 0.12, first, last)


def trade_off(points: Sequence[Point], cost: Callable[[Point], float | None], measure: str, unit: str, key: str) -> str:
    """Quality upwards against cost to the right: every run a mark, the Pareto front a dashed line.

    Args:
        points: those without a cost are left out; at least one has it.
        cost: of a point, in ``unit``.
        measure: what quality is.
        unit: label of the cost axis.
        key: makes the ids of this drawing unlike those of others on the page.
    """
    shown = [point for point in points if cost(point) is not None]
    best, marks = front(shown, cost), Marks.of(shown)
    x = log_scale([_priced(cost, point) for point in shown], _LEFT, WIDTH - _RIGHT)
    y = linear_scale([point.quality for point in shown], HEIGHT - _BOTTOM, _TOP)
    places = [(x(_priced(cost, point)), y(point.quality)) for point in shown]
    corners = [(x(_priced(cost, point)), y(point.quality)) for point in best]
    parts = [*_axes(x, y, unit, measure)]
    for line in marks.families(shown):
        ends = " ".join(f"{places[i][0]:.1f},{places[i][1]:.1f}" for i in line)
        parts.append(f'<polyline class="plan" points="{ends}"/>')
    path = f"M{corners[0][0]:.1f} {corners[0][1]:.1f}" + "".join(f" H{a:.1f} V{b:.1f}" for a, b in corners[1:])
    parts.append(f'<path class="front" d="{path} H{WIDTH - _RIGHT}"/>')
    for point, (a, b) in zip(shown, places, strict=True):
        about = f"{point.run}: {measure} {point.quality:.4f}, {_short(_priced(cost, point))} {unit}"
        parts.append(_drawn(marks.mark(point), a, b, ringed=point in best, title=about))
    named = shown if len(shown) <= 8 else best
    spots = dict(zip(map(id, shown), places, strict=True))
    parts += _labels([(*spots[id(point)], point.run) for point in named], places)
    told = "; ".join(f"{p.run} {p.quality:.4f} at {_short(_priced(cost, p))}" for p in best)
    legend, height = _legend(marks, HEIGHT + 8)
    return _svg(key, f"{measure} against {unit}", f"On the Pareto front: {told}.", [*parts, *legend], height)


def boxes(spread: Mapping[str, Latency], key: str) -> str:
    """For each run the middle half of its queries as a box, p5 to p95 as a line, a dot at p99."""
    left = min(300, max(80, int(max(map(len, spread)) * _CHARACTER) + 16))
    height = _TOP + 34 * len(spread) + 44
    values = [ms for run in spread.values() for ms in (run.p5, run.p99)]
    x = log_scale(values, left, WIDTH - _RIGHT)
    parts = []
    for tick in x.ticks():
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{_TOP}" y2="{height - 42}"/>')
        parts.append(f'<text x="{x(tick):.1f}" y="{height - 26}" text-anchor="middle">{_short(tick)}</text>')
    parts.append(
        f'<text x="{(left + WIDTH) / 2:.0f}" y="{height - 6}" text-anchor="middle">ms a query, log scale</text>'
    )
    for row, (run, at) in enumerate(spread.items()):
        y, name = _TOP + 34 * row + 17, run if len(run) <= 42 else f"{run[:41]}…"
        parts += [
            f'<text class="label" x="{left - 10}" y="{y + 4}" text-anchor="end">{text(name)}</text>',
            f'<line class="whisker" x1="{x(at.p5):.1f}" x2="{x(at.p95):.1f}" y1="{y}" y2="{y}"/>',
            f'<rect class="box" x="{x(at.p25):.1f}" y="{y - 9}" height="18" width="{x(at.p75) - x(at.p25):.1f}"/>',
            f'<line class="middle" x1="{x(at.p50):.1f}" x2="{x(at.p50):.1f}" y1="{y - 9}" y2="{y + 9}"/>',
            f'<circle class="dot" cx="{x(at.p99):.1f}" cy="{y}" r="3.5"/>',
        ]
    told = "; ".join(f"{run} p50 {at.p50:.1f}, p95 {at.p95:.1f}, p99 {at.p99:.1f} ms" for run, at in spread.items())
    return _svg(key, "Latency of single queries", f"{told}.", parts, height)


def differences(values: Sequence[float], title: str, key: str, columns: int = 600) -> str:
    """One bar a query, largest win first: up where the run is better, down where it is worse.

    More than ``columns`` queries are drawn by taking every n-th in that order.
    """
    ordered = sorted(values, reverse=True)
    drawn = ordered if len(ordered) <= columns else [ordered[i * len(ordered) // columns] for i in range(columns)]
    height, left = 170, 64
    reach = max(map(abs, ordered), default=0.0) or 1.0
    y, step = Scale(-reach, reach, height - 26, 12), (WIDTH - left - _RIGHT) / max(len(drawn), 1)
    parts = []
    for tick in (-reach, 0.0, reach):
        parts.append(f'<line class="grid" x1="{left}" x2="{WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text x="{left - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:+.2f}</text>')
    for kind, sign in (("better", 1), ("worse", -1)):
        bars = "".join(
            f"M{left + i * step:.1f} {y(0):.1f}V{y(v):.1f}h{max(step - 0.4, 0.6):.1f}V{y(0):.1f}z"
            for i, v in enumerate(drawn)
            if v * sign > 0
        )
        parts.append(f'<path class="{kind}" d="{bars}"/>' if bars else "")
    wins, losses = sum(v > 0 for v in values), sum(v < 0 for v in values)
    label = f"queries, largest win first: {wins} better, {len(values) - wins - losses} equal, {losses} worse"
    parts.append(f'<text x="{(left + WIDTH) / 2:.0f}" y="{height - 4}" text-anchor="middle">{label}</text>')
    return _svg(key, title, f"{wins} better, {losses} worse of {len(values)} queries.", parts, height)


def _svg(key: str, title: str, description: str, parts: Sequence[str], height: float) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-labelledby="{key}-t {key}-d">\n'
        f'<title id="{key}-t">{text(title)}</title>\n<desc id="{key}-d">{text(description)}</desc>\n'
        + "\n".join(part for part in parts if part)
        + "\n</svg>"
    )


def _axes(x: Scale, y: Scale, across: str, upwards: str) -> Iterator[str]:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    for tick in y.ticks():
        yield f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        yield f'<text x="{_LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
    for tick in ([0.0] if x.zero is not None else []) + x.ticks():
        yield f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{_TOP}" y2="{bottom}"/>'
        yield f'<text x="{x(tick):.1f}" y="{bottom + 18}" text-anchor="middle">{_short(tick)}</text>'
    yield f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>'
    yield f'<text x="{(_LEFT + right) / 2:.0f}" y="{bottom + 40}" text-anchor="middle">{text(across)}, log scale</text>'
    middle = (_TOP + bottom) / 2
    yield f'<text transform="translate(16 {middle:.0f}) rotate(-90)" text-anchor="middle">{text(upwards)}</text>'


def _drawn(mark: Mark, x: float, y: float, *, ringed: bool = False, title: str = "") -> str:
    classes = f"mark c{mark.colour}{' hollow' if mark.hollow else ''}{' ringed' if ringed and not mark.hollow else ''}"
    inner = f"><title>{text(title)}</title></{_SHAPES[mark.shape](0, 0, 1)[1:].split()[0]}>" if title else "/>"
    return f'{_SHAPES[mark.shape](x, y, mark.radius)} class="{classes}"{inner}'


def _labels(wanted: Sequence[tuple[float, float, str]], marks: Sequence[tuple[float, float]]) -> Iterator[str]:
    """A name beside each place, on the first side where it covers neither a mark nor a name; else further off."""
    taken = [(x - 8, y - 8, x + 8, y + 8) for x, y in marks]
    for x, y, name in sorted(wanted, key=lambda place: place[1]):
        shown = name if len(name) <= 48 else f"{name[:47]}…"
        size = len(shown) * _CHARACTER
        spots = [
            (x + dx if side > 0 else x - dx - size, y + dy)
            for dx, dy in ((10, -12), (10, 14), (11, -26), (11, 26), (14, -40), (14, 40), (18, -52), (18, 52), (24, 68))
            for side in (1, -1)
        ]
        fitting = [s for s in spots if s[0] > _LEFT and s[0] + size < WIDTH - 4 and 10 < s[1] < HEIGHT - _BOTTOM - 6]
        covers = {
            s: sum(_meet((s[0], s[1] - _LINE / 2, s[0] + size, s[1] + _LINE / 2), box) for box in taken)
            for s in fitting
        }
        a, b = min(fitting or spots[:1], key=lambda s: covers.get(s, 0))
        taken.append((a, b - _LINE / 2, a + size, b + _LINE / 2))
        if abs(b - y) > 24:
            yield f'<line class="lead" x1="{x:.1f}" y1="{y:.1f}" x2="{a if a > x else a + size:.1f}" y2="{b:.1f}"/>'
        yield f'<text class="label" paint-order="stroke" x="{a:.1f}" y="{b + 4:.1f}">{text(shown)}</text>'


def _meet(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _legend(marks: Marks, top: float) -> tuple[list[str], float]:
    """One line for each thing that marks tell apart, and the height of all."""
    parts, y = [], top
    for name, entries in marks.legend():
        x = float(_LEFT)
        parts.append(f'<text class="label" x="{x}" y="{y + 4:.0f}">{text(name)}</text>')
        x += 150
        for mark, label in entries:
            parts.append(_drawn(mark, x, y))
            parts.append(f'<text x="{x + 14:.0f}" y="{y + 4:.0f}">{text(label)}</text>')
            x += 40 + len(label) * _CHARACTER
        y += 22
    return parts, y - 4


def _priced(cost: Callable[[Point], float | None], point: Point) -> float:
    return cost(point) or 0.0


def _steps(low: float, high: float, wanted: int = 5) -> Iterator[float]:
    rough = (high - low) / wanted
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * digit for digit in (1, 2, 5, 10) if unit * digit >= rough)
    for number in range(math.ceil(low / step), math.floor(high / step) + 1):
        yield round(number * step, 10)


def _short(value: float) -> str:
    """Three significant digits without an exponent where people read it so."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _polygon(x: float, y: float, r: float, degrees: Sequence[float]) -> str:
    corners = " ".join(
        f"{x + r * math.cos(math.radians(a)):.1f},{y + r * math.sin(math.radians(a)):.1f}" for a in degrees
    )
    return f'<polygon points="{corners}"'
