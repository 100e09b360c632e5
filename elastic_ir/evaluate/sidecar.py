"""``<run>.meta.json``: what produced a run, beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from elastic_ir.errors import RunFileError
from elastic_ir.evaluate.files import replacing


def metadata_path(run_path: Path | str) -> Path:
    """``runs/x.trec`` -> ``runs/x.trec.meta.json``."""
    return Path(f"{run_path}.meta.json")


def write_metadata(run_path: Path | str, metadata: Mapping[str, Any]) -> None:
    """Write ``metadata`` beside the run at ``run_path``, keys sorted; whole or not at all.

    Raises:
        RunFileError: if it holds what JSON cannot say (NaN and infinity included), or cannot be written.
    """
    target = metadata_path(run_path)
    try:
        text = json.dumps(dict(metadata), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError) as exc:
        raise RunFileError(
            f"{target}: metadata is no JSON: {exc}; wanted str, numbers, bool, None, list, dict"
        ) from exc
    with replacing(target) as file:
        file.write(text + "\n")


def read_metadata(run_path: Path | str) -> dict[str, Any]:
    """Read what was written beside the run at ``run_path``.

    Raises:
        RunFileError: if there is no such file, or it is no JSON object.
    """
    target = metadata_path(run_path)
    try:
        metadata = json.loads(target.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise RunFileError(f"{target} cannot be read: {exc}") from exc
    if not isinstance(metadata, dict):
        raise RunFileError(f"{target} holds a {type(metadata).__name__}; wanted a JSON object")
    return metadata
