"""npy files written piece by piece and read through a memory map."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from elastic_ir.durable import NewFile
from elastic_ir.errors import IndexCorruptError


class NpyWriter(NewFile):
    """A one-dimensional npy file that grows; its length goes into the header at the end."""

    def __init__(self, path: Path, dtype: DTypeLike) -> None:
        super().__init__(path)
        self.dtype = np.dtype(dtype)
        self.length = 0
        self.write(self._header())

    def extend(self, values: Iterable[int]) -> None:
        """Append ``values``.

        Raises:
            OverflowError: if one does not fit the dtype.
        """
        array = np.array(list(values), dtype=self.dtype)
        self.length += len(array)
        self.write(array.tobytes())

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.rewrite(self._header())
        super().__exit__(kind, *rest)

    def _header(self) -> bytes:
        """The header for the present length; numpy pads it, so that it has one size for all lengths."""
        header = io.BytesIO()
        descr = np.lib.format.dtype_to_descr(self.dtype)
        np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": (self.length,)})
        return header.getvalue()


def read_npy(path: Path) -> NDArray[Any]:
    """Map the array in ``path`` into memory, read-only.

    Raises:
        IndexCorruptError: if it is missing or not an npy file.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except (OSError, ValueError, EOFError) as exc:
        raise IndexCorruptError(f"index file {path} cannot be read as npy ({exc}); build the index again") from exc
