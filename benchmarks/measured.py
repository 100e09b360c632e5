"""What every benchmark needs: the collections, and a place for its figures."""

from __future__ import annotations

import json
import os
import platform
from functools import lru_cache
from pathlib import Path
from typing import Any

from elastic_ir.elastic import load_checkpoint
from elastic_ir.evaluate import read_metadata

RESULTS = Path(__file__).parent / "results"
COLLECTIONS = ("scifact", "msmarco-dl19-mini", "cranfield", "vaswani", "cacm")


def data_folder() -> Path:
    """``$ELASTIC_IR_DATA``, or ``../shared/data`` beside the checkout."""
    folder = Path(os.environ.get("ELASTIC_IR_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "collections").is_dir():
        raise SystemExit(
            f"no collections in {folder}; set ELASTIC_IR_DATA to a folder with collections/NAME in BEIR layout"
        )
    return folder


def is_current(run: Path) -> bool:
    """Whether ``run`` is there and was made by the models that its pipeline's names stand for today."""
    if not run.is_file():
        return False
    about = read_metadata(run)
    sections = {"denser": "denser", "ranker": "reranker"}
    return all(_fingerprint(about["pipeline"][sections[role]]["model"]) == f for role, f in about["models"].items())


@lru_cache(maxsize=16)
def _fingerprint(model: str) -> str:
    return load_checkpoint(model).fingerprint


def store(name: str, command: str, figures: dict[str, Any], table: str) -> None:
    """Write ``results/NAME.json`` and ``results/NAME.md`` with the command and the machine."""
    import torch

    from elastic_ir.elastic.precision import bf16_is_native

    machine = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "bf16": bf16_is_native(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(
        json.dumps({"command": command, "machine": machine, **figures}, indent=1) + "\n"
    )
    (RESULTS / f"{name}.md").write_text(f"`{command}`, {machine['processor']}, {machine['cores']} cores\n\n{table}\n")
    print(table)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
