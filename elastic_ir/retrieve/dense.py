"""Dense retrieval: a query encoder and an index of vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

from elastic_ir.records import Query, Ranking
from elastic_ir.retrieve.queries import Found, answer, check_candidates, wanted
from elastic_ir.stage import ABANDONED, SearchContext, Stage
from elastic_ir.subnet import Subnet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    EncodeQuery: TypeAlias = Callable[[list[str], Subnet | None], NDArray[np.float32]]
    """N query texts, and the subnet to run (None: the full one) -> ``[N, D]``."""


class VectorIndex(Protocol):
    """What can be searched by vectors, such as ``elastic_ir.index.DenseIndex``."""

    def search(self, vectors: NDArray[np.float32], k: int) -> list[list[tuple[str, float]]]:
        """``[N, D]`` queries -> N lists of at most ``k`` (doc_id, score), best first."""


class DenseRetriever(Stage):
    """The documents whose vectors are nearest to the query's.

    The level in the context, when it has a subnet, says how much of the encoder runs. Errors of encoder and
    index are not caught here; see ``Fallback``.

    Args:
        encode_query: texts to vectors of the space of ``index``.
        index: the documents' vectors.
        candidates: hits for the stages that follow; more when the context wants more.
        subnet: to encode with where no level says otherwise; None is the full one.

    Raises:
        InputError: if ``candidates`` is less than 1.
    """

    name = "dense"

    def __init__(
        self, encode_query: EncodeQuery, index: VectorIndex, candidates: int = 100, subnet: Subnet | None = None
    ) -> None:
        self.encode_query, self.index = encode_query, index
        self.candidates, self.subnet = check_candidates(candidates), subnet

    def __call__(self, rankings: Sequence[Ranking], context: SearchContext) -> list[Ranking]:
        asked = context.level.subnet if context.level is not None else None
        subnet = self.subnet if asked is None else asked
        k = wanted(context, self.candidates)
        return answer(rankings, lambda queries: self._search(queries, subnet, k, context))

    def _search(self, queries: list[Query], subnet: Subnet | None, k: int, context: SearchContext) -> list[Found]:
        vectors = self.encode_query([query.text for query in queries], subnet)
        found = [Found((), (ABANDONED,))] * len(queries)
        waiting = [row for row, query in enumerate(queries) if not context.abandoned(query)]
        if waiting:
            for row, hits in zip(waiting, self.index.search(vectors[waiting], k), strict=True):
                found[row] = Found(hits)
        return found
