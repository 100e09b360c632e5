"""``Level``: one operating point of a pipeline, as printed in answers and run metadata."""

from __future__ import annotations

import re
from typing import NamedTuple

from elastic_ir.errors import SubnetError, nearest
from elastic_ir.subnet import Subnet, printed_share

RETRIEVERS = ("bm25", "dense", "hybrid")
FINEST_SHARE = 1e-4
"""Of width or budget: four decimals are printed."""
_RERANK = re.compile(r"rerank:w(\d\.\d{1,4}):(\d{1,5})@(\d\.\d{1,4})")


class RerankLevel(NamedTuple):
    """``candidates`` at ``width`` under ``budget``, a share of their full candidate-layers in (0, 1]."""

    width: float
    candidates: int
    budget: float

    def __str__(self) -> str:
        return f"rerank:w{printed_share(self.width)}:{self.candidates}@{printed_share(self.budget)}"


class Level(NamedTuple):
    """Retriever, query subnet (None: BM25 has none) and rerank plan (None: no reranking).

    Prints and parses as ``bm25``, ``dense:w0.50-d6``, ``dense:w1.00-d12+rerank:w1.00:50@0.25``.
    """

    retriever: str
    subnet: Subnet | None = None
    rerank: RerankLevel | None = None

    @classmethod
    def parse(cls, text: str) -> Level:
        """Read the printed form.

        Raises:
            SubnetError: if ``text`` is not a level.
        """
        wanted = "wanted e.g. 'bm25', 'dense:w0.50-d6' or 'dense:w1.00-d12+rerank:w1.00:50@0.25'"
        first, _, second = text.partition("+")
        retriever, _, subnet = first.partition(":")
        if retriever not in RETRIEVERS:
            raise SubnetError(
                f"level {text!r}: unknown retriever {retriever!r}{nearest(retriever, RETRIEVERS)}; {wanted}"
            )
        if retriever == "bm25" and subnet:
            raise SubnetError(f"level {text!r}: BM25 has no sub-network; {wanted}")
        if retriever != "bm25" and not subnet:
            raise SubnetError(f"level {text!r} names no sub-network; {wanted}")
        rerank = None
        if second or text.endswith("+"):
            match = _RERANK.fullmatch(second)
            if match is None:
                raise SubnetError(f"level {text!r}: rerank part {second!r} cannot be read; {wanted}")
            rerank = RerankLevel(float(match[1]), int(match[2]), float(match[3]))
            if not (0 < rerank.width <= 1 and rerank.candidates >= 1 and 0 < rerank.budget <= 1):
                raise SubnetError(f"level {text!r}: width and budget must be in (0, 1], candidates at least 1")
        return cls(retriever, Subnet.parse(subnet) if subnet else None, rerank)

    def __str__(self) -> str:
        first = self.retriever if self.subnet is None else f"{self.retriever}:{self.subnet}"
        return first if self.rerank is None else f"{first}+{self.rerank}"
