"""Copies of a layer's weights as a kernel reads them, made once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

Form = TypeVar("Form")


MOST = 24
"""Forms kept of a layer: its four matrices at six widths. The oldest gives way, so that nobody fills the memory."""


class PackedWeights:
    """Slices of one layer's matrices, packed on first use and again when the weights have changed.

    A fused optimizer changes weights without a trace: switch the model's mode (``train()``) behind it.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[Callable[[Tensor], Any], str, int], tuple[int, Any]] = {}

    def __reduce__(self) -> tuple[type[PackedWeights], tuple[()]]:
        """A copy packs for itself: kernels' layouts can be neither copied nor stored."""
        return PackedWeights, ()

    def get(self, pack: Callable[[Tensor], Form], name: str, matrix: Tensor, weight: Tensor) -> Form:
        """What ``pack`` makes of ``weight`` ``[out, in]``, a slice of ``matrix``, which is called ``name``."""
        key = pack, name, weight.numel()
        version = 0 if matrix.is_inference() else matrix._version
        found = self._kept.get(key)
        if found is None or found[0] != version:
            found = self._kept[key] = version, pack(weight)
            while len(self._kept) > MOST:
                self._kept.pop(list(self._kept)[0], None)  # noqa: RUF015 - safe beside other threads
        form: Form = found[1]
        return form
