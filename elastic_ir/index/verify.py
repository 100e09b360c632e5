"""What ``elastic-ir verify`` reports."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from elastic_ir.errors import IndexCorruptError, IndexMismatchError
from elastic_ir.index.generation import Generation, open_current
from elastic_ir.index.manifest import damage


class VerifyReport(NamedTuple):
    """What was looked at, and what is wrong with it.

    Attributes:
        path: the index.
        generation: name of the current generation; empty where it could not be told.
        files: how many the manifest names.
        size_bytes: of all of them together, as the manifest says.
        problems: one line each; empty for a sound index.
    """

    path: Path
    generation: str
    files: int
    size_bytes: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """True for a sound index."""
        return not self.problems


def verify_index(path: Path) -> VerifyReport:
    """Hash every file of the current generation, and load each part of a sound one.

    Raises:
        IndexNotFoundError: if nothing was ever finished at ``path``.
    """
    try:
        generation = open_current(Path(path))
    except (IndexCorruptError, IndexMismatchError) as exc:
        return VerifyReport(Path(path), "", 0, 0, (str(exc),))
    with generation:
        manifest = generation.manifest
        problems = tuple(damage(generation.path, manifest, hashes=True)) or _load(generation)
        return VerifyReport(Path(path), generation.path.name, len(manifest.files), manifest.size_bytes, problems)


def _load(generation: Generation) -> tuple[str, ...]:
    try:
        _ = generation.dense, generation.documents, generation.tokens
    except (IndexCorruptError, IndexMismatchError) as exc:
        return (str(exc),)
    return ()
