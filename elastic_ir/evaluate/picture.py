"""The trade-off of quality and latency as a picture file, with the marks that the report uses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from elastic_ir.errors import InputError
from elastic_ir.evaluate.marks import Mark, Marks
from elastic_ir.evaluate.operating import Point, front

SHAPES = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "star": "*"}
PALETTE = ("#1a5fb4", "#b35900", "#7b3fb5", "#1a7f4b", "#b3261e", "#5c5f62")


def draw_trade_off(points: Sequence[Point], measure: str, path: Path, title: str = "") -> None:
    """Draw quality against mean latency; the form is what the ending of ``path`` says, e.g. ``.png``.

    Raises:
        InputError: if no point has a latency.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import LogLocator, NullFormatter

    shown = [point for point in points if point.latency_ms]
    if not shown:
        raise InputError("no run has a latency; wanted runs with their sidecars beside them")
    best, marks = front(shown, lambda point: point.latency_ms), Marks.of(shown)
    figure, axes = pyplot.subplots(figsize=(11, 6.2))
    for line in marks.families(shown):
        axes.plot(*zip(*((shown[i].latency_ms, shown[i].quality) for i in line), strict=True), color="#9aa2ab", lw=1)
    for point in shown:
        axes.plot(point.latency_ms, point.quality, **_style(marks.mark(point)))
    corners = [(point.latency_ms, point.quality) for point in best]
    axes.set_xscale("log")
    axes.step(*zip(*corners, strict=True), where="post", color="#1b1f24", ls="--", lw=1.3, zorder=1)
    latencies = [point.latency_ms for point in shown if point.latency_ms]
    middle = (min(latencies) * max(latencies)) ** 0.5
    axes.margins(x=0.16, y=0.1)
    axes.autoscale_view()
    taken = 0.0  # height in points of the label before, among those above the front
    for point in best:  # the front rises: there is room below it on the left, above it on the right
        offset, align = (9.0, -14.0), "left"
        if (point.latency_ms or 0) >= middle:
            height = axes.transData.transform((point.latency_ms, point.quality))[1] * 72 / figure.dpi
            taken = max(height + 9, taken + 11)
            offset, align = (-9.0, taken - height), "right"
        axes.annotate(str(point.level or point.run), (point.latency_ms, point.quality), offset,
                      textcoords="offset points", ha=align, fontsize=9, zorder=5,
                      path_effects=[withStroke(linewidth=3, foreground="white")])  # fmt: skip
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="mean latency of a query (ms, log scale)", ylabel=measure, title=title)
    axes.grid(alpha=0.3)
    top = 1.0
    for name, entries in marks.legend():
        handles = [pyplot.Line2D([], [], label=label, **_style(mark)) for mark, label in entries]
        figure.legend(handles=handles, title=name, loc="upper left", bbox_to_anchor=(1.01, top), alignment="left",
                      bbox_transform=axes.transAxes, frameon=False)  # fmt: skip
        top -= 0.09 + 0.062 * len(entries)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    pyplot.close(figure)


def _style(mark: Mark) -> dict[str, object]:
    colour = PALETTE[mark.colour]
    size = mark.radius * (2.2 if mark.shape == "star" else 1.5)
    face = "white" if mark.hollow else colour
    return {"marker": SHAPES[mark.shape], "ms": size, "mfc": face, "mec": colour, "mew": 1.8, "ls": "none"}
