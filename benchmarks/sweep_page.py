"""Quality against latency over width x depth x candidates x plan: one picture of any folder of runs and sidecars.

python benchmarks/sweep_page.py runs/sweep --dataset beir/scifact/test   # sweep.png, sweep.html, sweep.json beside them

Each run is one operating point: a TREC run with its ``.meta.json``, as ``elastic-ir run --level L`` writes them.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from elastic_ir.datasets import load
from elastic_ir.evaluate import Section, evaluate, read_metadata, read_run
from elastic_ir.evaluate import html as page
from elastic_ir.evaluate.operating import front, main_level, points
from elastic_ir.evaluate.picture import draw_trade_off
from elastic_ir.evaluate.report import trade_offs


def sweep_page(folder: Path, dataset: str, measure: str, output: Path, split: str | None = None) -> dict[str, Any]:
    """Evaluate every ``*.trec`` of ``folder`` and write picture, page and figures to ``output``; gives the figures."""
    runs = {path: read_metadata(path) for path in sorted(folder.glob("*.trec"))}
    names = {path: str(main_level(about) or path.stem) for path, about in runs.items()}
    often = Counter(names.values())
    names = {path: name if often[name] == 1 else f"{name} ({path.stem})" for path, name in names.items()}
    result = evaluate(
        load(dataset, split).qrels(), {names[path]: read_run(path) for path in runs}, [measure], permutations=1
    )
    section = Section(dataset, result, None, {names[path]: about for path, about in runs.items()})
    found = points(result, section.sidecars, result.measures[0])
    best = front(found, lambda point: point.latency_ms)
    title = f"{Path(dataset).name}: {len(found)} operating points, {len(best)} of them worth running"
    output.mkdir(parents=True, exist_ok=True)
    draw_trade_off(found, result.measures[0], output / "sweep.png", title)
    body = f'<section aria-labelledby="s0"><h2 id="s0">{page.text(title)}</h2>'
    (output / "sweep.html").write_text(
        page.page("Sweep of operating points", "\n".join([body, *trade_offs(section, "s0"), "</section>"])),
        encoding="utf-8",
    )
    figures = {
        "dataset": Path(dataset).name,
        "measure": result.measures[0],
        "points": [
            {**point._asdict(), "level": point.level and str(point.level), "on_front": point in best} for point in found
        ],
    }
    (output / "sweep.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return figures


def main() -> None:
    """Draw and say what is on the front."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder of *.trec and *.trec.meta.json")
    parser.add_argument("--dataset", required=True, help="folder in the BEIR layout or ir_datasets id")
    parser.add_argument("--split")
    parser.add_argument("--measure", default="ndcg@10")
    parser.add_argument("--output", type=Path, help="folder; default: that of the runs")
    arguments = parser.parse_args()
    figures = sweep_page(
        arguments.runs, arguments.dataset, arguments.measure, arguments.output or arguments.runs, arguments.split
    )
    for point in figures["points"]:
        if point["on_front"]:
            print(f"{point['quality']:.4f}  {point['latency_ms']:8.2f} ms  {point['run']}")


if __name__ == "__main__":
    main()
