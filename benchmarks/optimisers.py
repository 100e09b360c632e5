"""Which subnets should learn in a step? Four strategies and models trained alone: same data, same number of steps.

Every run starts from the teacher and is resumable; the figures are those of benchmarks/dev.py (queries by each subnet,
documents by the teacher). A model trained alone has spent all its steps on one subnet.

python benchmarks/optimisers.py --teacher BAAI/bge-small-en-v1.5 --steps 200
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dev import SUBNETS, figures
from measured import RESULTS, data_folder, store

from elastic_ir import ElasticDenser
from elastic_ir.train import Recipe, train

SMALL = SUBNETS[1:]
GRID = {"widths": (1.0, 0.5, 0.25), "depths": (2, 6, 12)}


def samplings() -> Iterator[tuple[str, dict[str, Any], tuple[str, ...]]]:
    """Name of a row, its sampling, and the subnets that it is measured at."""
    yield "fixed list", {"strategy": "fixed", "subnets": SMALL}, SUBNETS
    yield "fixed list, nearest larger teaches", {"strategy": "fixed", "subnets": SMALL, "taught_by": "nearest"}, SUBNETS
    yield "sandwich, 2 random", {"strategy": "sandwich", "random": 2, **GRID}, SUBNETS
    yield "all of 3 x 3", {"strategy": "all", **GRID}, SUBNETS
    for subnet in SMALL:
        yield f"{subnet} alone", {"strategy": "fixed", "subnets": (subnet,), "full_every": 0}, (subnet,)


def recipe(arguments: argparse.Namespace, sampling: dict[str, Any], name: str) -> Recipe:
    """One run: short texts as queries are, half titles and questions, half spans of passages."""
    folder = data_folder() / "training"
    texts: list[dict[str, Any]] = [{"path": str(folder / "queries.jsonl.gz"), "share": 2}]
    for source, limit in (("arxiv", 100_000), ("acl", 29_000), ("medquad", 15_500)):
        path = str(folder / f"pairs-{source}.jsonl.gz")
        texts.append({"path": path, "limit": limit})
        texts.append({"path": path, "limit": limit, "field": "passage", "span_words": (5, 26)})
    return Recipe.model_validate(
        {
            "kind": "denser",
            "teacher": arguments.teacher,
            "output": str(arguments.work / name.replace(" ", "-").replace(",", "")),
            "teacher_cache": str(arguments.work),
            "streams": [{"texts": texts, "pool": 20_000, "batch": arguments.batch, "max_tokens": 38}],
            "teacher_settings": {"query_prompt": "Represent this sentence for searching relevant passages: "},
            "denser": {"query_prompt": "query: "},
            "steps": arguments.steps,
            "warmup": arguments.steps // 10,
            "cooldown": arguments.steps // 2,
            "average": 0.98,
            "own_vectors": True,
            "sampling": sampling,
            "precision": "fp32",
        }
    )


def plot(rows: dict[str, dict[str, float]], path: Path) -> None:
    """Dev nDCG@10 of every subnet, a line a strategy; models trained alone as dots."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, found in rows.items():
        alone = name.endswith("alone")
        label = "trained alone" if name == f"{SMALL[0]} alone" else None if alone else name
        axes.plot(
            list(found), list(found.values()), "k*" if alone else "o-", label=label, markersize=11 if alone else 5
        )
    axes.set(xlabel="query subnet", ylabel="dev nDCG@10, mean of four sets")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Train, measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--work", type=Path, default=Path("work/optimisers"))
    arguments = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    seconds: dict[str, float] = {}
    for name, sampling, measured in samplings():
        run = recipe(arguments, sampling, name)
        folder = train(run, lambda step, losses, name=name: print(f"{name}: {step}", losses, end="\r", flush=True))
        log = (Path(run.output) / "log.jsonl").read_text("utf-8").splitlines()
        seconds[name] = sum(json.loads(line)["seconds"] for line in log)
        denser = ElasticDenser.from_pretrained(folder)
        found = figures(denser, measured, arguments.teacher, Path("work/dev"), "fp32")
        rows[name] = {subnet: sum(dev[subnet] for dev in found.values()) / len(found) for subnet in measured}
        print(f"\n{name}: {rows[name]}", flush=True)
    lines = [f"| strategy | {' | '.join(SUBNETS)} | s a step |", f"|---|{'---|' * (len(SUBNETS) + 1)}"]
    for name, values in rows.items():
        cells = " | ".join(f"{values[subnet]:.4f}" if subnet in values else "" for subnet in SUBNETS)
        lines.append(f"| {name} | {cells} | {seconds[name] / arguments.steps:.2f} |")
    plot(rows, RESULTS / "optimisers.png")
    command = f"python benchmarks/optimisers.py --teacher TEACHER --steps {arguments.steps} --batch {arguments.batch}"
    store("optimisers", command, {"figures": rows, "seconds": seconds}, "\n".join(lines))


if __name__ == "__main__":
    main()
