"""``CURRENT``: one line that says which generation is the index, and what its manifest hashes to."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import NamedTuple

from elastic_ir.durable import replace
from elastic_ir.errors import IndexCorruptError, IndexNotFoundError

CURRENT = "CURRENT"
_LINE = re.compile(rb"(gen-\d{6,}) ([0-9a-f]{64}) ([0-9a-f]{8})\n")


class Current(NamedTuple):
    """Name of the current generation's folder, and the sha256 of its manifest."""

    name: str
    manifest_sha256: str

    def dump(self) -> bytes:
        """``name sha256 crc32`` and a line end; the last guards the first two."""
        text = f"{self.name} {self.manifest_sha256}".encode()
        return b"%s %08x\n" % (text, zlib.crc32(text))


def read_current(path: Path) -> Current:
    """Which generation of the index at ``path`` is current.

    Raises:
        IndexNotFoundError: if nothing was ever committed there.
        IndexCorruptError: if the line is damaged.
    """
    try:
        data = (path / CURRENT).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as exc:
        found = "no such folder" if not path.is_dir() else "no finished generation (CURRENT is missing)"
        raise IndexNotFoundError(
            f"index {path}: {found}; build it with 'elastic-ir index --dataset NAME --output {path}' "
            "(an interrupted build continues where it stopped)"
        ) from exc
    except OSError as exc:
        raise IndexCorruptError(f"index {path}: CURRENT cannot be read ({exc.strerror})") from exc
    match = _LINE.fullmatch(data)
    current = Current(match[1].decode(), match[2].decode()) if match else None
    if current is None or current.dump() != data:
        raise IndexCorruptError(
            f"index {path}: CURRENT is damaged (found {data[:100]!r}, wanted a generation, a sha256 and a matching "
            "crc32); restore it from a copy or build the index again"
        )
    return current


def write_current(path: Path, current: Current) -> None:
    """Make a generation the current one, at once and for good."""
    replace(path / CURRENT, current.dump())
