"""Loss curves of a training run, one line a subnet, as a picture."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from elastic_ir.durable import whole

WINDOW = 25
"""Steps averaged, so that streams of different difficulty do not zigzag."""


def draw(log: Path, picture: Path) -> None:
    """Draw the log of a run, ``{"step": int, "losses": {subnet: float}}`` a line, into a PNG."""
    from matplotlib.figure import Figure

    points: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for line in log.read_text("utf-8").splitlines():
        row = json.loads(line)
        for subnet, loss in row["losses"].items():
            points[subnet].append((row["step"], loss))
    if not points:
        return
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for subnet, found in points.items():
        steps, losses = np.array(found).T
        window = min(WINDOW, len(losses))
        smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
        axes.plot(steps[window - 1 :], smooth, label=subnet)
    axes.set(xlabel="step", ylabel=f"loss, mean of {WINDOW} steps", yscale="log")
    axes.legend(title="subnet")
    axes.grid(alpha=0.3)
    with whole(picture) as part:
        figure.savefig(part, format="png", dpi=110)
