"""``Subnet``: which part of an elastic model runs. A value given to a call, never a state of the model."""

from __future__ import annotations

import re
from typing import NamedTuple

from elastic_ir.errors import SubnetError

_FORM = re.compile(r"w(\d\.\d{1,4})-d(\d{1,3})")
FFN_MULTIPLE = 64


class Subnet(NamedTuple):
    """A sub-network of an elastic model: ``Subnet(0.5, 6)`` prints as ``w0.50-d6`` and parses back.

    ``width`` is the share of attention heads and feed-forward neurons used in every layer, in (0, 1];
    ``depth`` is the number of transformer layers used, at least 1.

    Source: DynaBERT (arXiv:2004.04037), On Elastic Language Models (arXiv:2311.07204).
    """

    width: float
    depth: int

    @classmethod
    def parse(cls, text: str) -> Subnet:
        """Read the printed form.

        Raises:
            SubnetError: if ``text`` is not of the form ``w0.50-d6`` or is out of range.
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise SubnetError(f"subnet {text!r} cannot be read; wanted width and depth as in 'w0.50-d6'")
        return cls(float(match[1]), int(match[2])).checked()

    def checked(self) -> Subnet:
        """This subnet, or an error when width or depth is out of range."""
        if not 0 < self.width <= 1:
            raise SubnetError(f"width {self.width} is out of range; wanted a share in (0, 1], e.g. 0.5")
        if self.depth < 1:
            raise SubnetError(f"depth {self.depth} is out of range; wanted at least 1 layer")
        return self

    def heads(self, full: int) -> int:
        """Attention heads used of ``full``."""
        return max(1, round(self.width * full))

    def neurons(self, full: int) -> int:
        """Feed-forward neurons used of ``full``: rounded up to a multiple of 64 (matrix units)."""
        multiples = -(-max(1, round(self.width * full)) // FFN_MULTIPLE)
        return min(full, multiples * FFN_MULTIPLE)

    def __str__(self) -> str:
        return f"w{printed_share(self.width)}-d{self.depth}"


def printed_share(share: float) -> str:
    """A share with two to four decimals: ``0.50``, ``0.125``."""
    whole, _, fraction = f"{share:.4f}".rstrip("0").partition(".")
    return f"{whole}.{fraction:0<2}"
