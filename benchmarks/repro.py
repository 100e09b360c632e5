"""Every figure again, each by one command, against what is expected: benchmarks/repro/*.yaml.

python benchmarks/repro.py                                # all that needs no network; finished runs are kept
python benchmarks/repro.py --only cacm/bm25 scifact       # a row, a page
python benchmarks/repro.py --network --only trec-dl-2019  # with ir_datasets
python benchmarks/repro.py --ready --accept               # take the figures of finished runs as expected from now on

Rows with ``published`` figures keep them, whatever is accepted.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from measured import RESULTS, data_folder, is_current

from elastic_ir.datasets import load
from elastic_ir.evaluate import evaluate, read_run
from elastic_ir.pipeline import Pipeline
from elastic_ir.runs import write

PAGES = Path(__file__).parent / "repro"
PIPELINES = Path(__file__).parents[1] / "pipelines"
MEASURES = ("ndcg@10", "recall@100", "map", "mrr@10")


class Row(NamedTuple):
    """One row of a page; ``name`` is PAGE/ROW."""

    name: str
    dataset: str
    pipeline: str
    level: str | None
    expected: dict[str, float]
    tolerance: float
    published: str
    needs: str

    @property
    def command(self) -> str:
        """The one line that makes the row again."""
        return f"python benchmarks/repro.py {'--network ' if self.needs else ''}--only {self.name}"


def rows(pages: Path = PAGES) -> Iterator[Row]:
    """The rows of all pages."""
    for path in sorted(pages.glob("*.yaml")):
        page = yaml.safe_load(path.read_text(encoding="utf-8"))
        for name, row in page["rows"].items():
            yield Row(
                f"{path.stem}/{name}", page["dataset"], row["pipeline"], row.get("level"), dict(row["expected"]),
                row["tolerance"], row.get("published", ""), page.get("needs", ""),
            )  # fmt: skip


def measure(row: Row, runs: Path, ready: bool) -> dict[str, float] | None:
    """Figures of one row; None where there is no finished run and none is to be made."""
    source = row.dataset if row.needs else str(data_folder() / row.dataset)
    dataset, path = load(source), runs / f"{row.name.replace('/', '.')}.trec"
    if not is_current(path):
        if ready:
            return None
        with Pipeline.from_config(PIPELINES / f"{row.pipeline}.yaml", dataset=source) as pipeline:
            write(pipeline, dataset.queries(), path, tag=row.name.replace("/", "-"), level=row.level)
    measures = list(dict.fromkeys([*row.expected, *MEASURES]))
    return evaluate(dataset.qrels(), {row.name: read_run(path)}, measures, permutations=1).means[row.name]


def verdict(row: Row, found: dict[str, float] | None) -> str:
    """``ok``, ``differs``, ``not run`` or ``no expectation``."""
    if found is None:
        return "not run" if not row.needs else "not run: needs a network"
    if not row.expected:
        return "no expectation"
    return "ok" if all(abs(found[m] - value) <= row.tolerance for m, value in row.expected.items()) else "differs"


def matrix(results: list[tuple[Row, dict[str, float] | None]]) -> str:
    """The page in Markdown."""
    lines = ["| row | found | expected | verdict | command |", "|---|---|---|---|---|"]
    for row, found in results:
        measures = list(row.expected) or list(MEASURES[:2])
        expected = ", ".join(f"{m} {value:.4f}" for m, value in row.expected.items())
        expected += f" ± {row.tolerance:g}" if expected else ""
        source = f" ({row.published})" if row.published else ""
        shown = ", ".join(f"{m} {found[m]:.4f}" for m in measures) if found else ""
        lines.append(f"| {row.name} | {shown} | {expected}{source} | {verdict(row, found)} | `{row.command}` |")
    return "\n".join(lines)


def accept(results: list[tuple[Row, dict[str, float] | None]], pages: Path = PAGES) -> None:
    """Write the figures found into the pages, but over published ones; a page keeps the comments at its top."""
    for path in sorted(pages.glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        comments = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
        page, changed = yaml.safe_load(text), False
        for row, found in results:
            stem, _, name = row.name.partition("/")
            if stem == path.stem and found is not None and not row.published:
                page["rows"][name]["expected"] = {m: round(found[m], 4) for m in MEASURES}
                changed = True
        if changed:
            path.write_text(comments + yaml.safe_dump(page, sort_keys=False, default_flow_style=None), encoding="utf-8")


def stored(results: list[tuple[Row, dict[str, float] | None]], folder: Path = RESULTS) -> list[tuple[Row, Any]]:
    """Write the matrix, with rows not run now as they were found last; gives what was written."""
    path = folder / "repro.json"
    last = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    whole = [(row, found if found is not None else last.get(row.name, {}).get("found")) for row, found in results]
    figures = {
        row.name: {
            "command": row.command, "dataset": row.dataset, "level": row.level, "found": found,
            "expected": row.expected, "tolerance": row.tolerance, "verdict": verdict(row, found),
        }
        for row, found in whole
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    (folder / "repro.md").write_text(f"`python benchmarks/repro.py`\n\n{matrix(whole)}\n", encoding="utf-8")
    return whole


def main() -> None:
    """Run, compare, store; exits with 1 where a figure that was run now differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="pages or rows, e.g. cacm scifact/bm25; also */bm25")
    parser.add_argument("--runs", type=Path, default=Path("runs/repro"), help="folder of the runs; ready ones are kept")
    parser.add_argument("--ready", action="store_true", help="look at finished runs only")
    parser.add_argument("--network", action="store_true", help="also rows that need a network")
    parser.add_argument("--accept", action="store_true", help="write the figures found into benchmarks/repro/*.yaml")
    arguments = parser.parse_args()
    results = []
    for row in rows():
        stem, _, name = row.name.partition("/")
        wanted = not arguments.only or {row.name, stem, f"*/{name}"} & set(arguments.only)
        chosen = wanted and (arguments.network or not row.needs)
        results.append((row, measure(row, arguments.runs, arguments.ready) if chosen else None))
        if results[-1][1]:
            print(row.name, verdict(*results[-1]), flush=True)
    if arguments.accept:
        accept(results)
        results = [(row, found) for row, (_, found) in zip(rows(), results, strict=True)]
    stored(results)
    print(matrix([result for result in results if result[1]]))
    raise SystemExit(any(verdict(*result) == "differs" for result in results))


if __name__ == "__main__":
    main()
