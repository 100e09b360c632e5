"""Per-query figures equal to trec_eval's: dictionaries to arrays, then one of two engines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from elastic_ir.errors import InputError
from elastic_ir.evaluate.measures import Measure
from elastic_ir.evaluate.trec import trec_order
from elastic_ir.records import Qrels, Run, in_run_order

Floats: TypeAlias = NDArray[np.float64]
EngineName: TypeAlias = Literal["numpy", "ranx"]
UNJUDGED, NO_HIT = -1, -2


class Tables(NamedTuple):
    """Judgements and one run as numbers, a row for each judged query.

    Attributes:
        grades: ``[queries, judged]`` grades, highest first; rows are filled up with ``UNJUDGED``.
        ranking: ``[queries, depth]`` column of ``grades`` for each hit, best first; ``UNJUDGED`` where
            nobody judged the document, ``NO_HIT`` after the last hit.
    """

    grades: NDArray[np.int64]
    ranking: NDArray[np.int64]


Engine: TypeAlias = Callable[[Tables, Sequence[Measure]], list[Floats]]
"""Tables and measures in, ``[queries]`` figures for each measure out."""


CELLS = 4_000_000
"""Most numbers in a table: rows are as long as the longest of them."""


def in_blocks(qrels: Qrels, runs: Iterable[Run]) -> Iterator[Qrels]:
    """``qrels`` in blocks of neighbours whose tables have at most ``CELLS`` numbers, or a single row."""
    by_run, block, longest = list(runs), dict[str, dict[str, int]](), 0
    for query_id, grades in qrels.items():
        width = max(len(grades), *(len(run.get(query_id, ())) for run in by_run))
        if block and (len(block) + 1) * max(longest, width) > CELLS:
            yield block
            block, longest = {}, 0
        block[query_id], longest = grades, max(longest, width)
    yield block


class Judgements:
    """The judged documents of each query, numbered by grade descending."""

    def __init__(self, qrels: Qrels) -> None:
        judged = [in_run_order(docs.items()) for docs in qrels.values()]
        self.query_ids = list(qrels)
        self._numbers = [{doc_id: number for number, (doc_id, _) in enumerate(docs)} for docs in judged]
        self._grades = np.full((len(qrels), max([1, *map(len, judged)])), UNJUDGED, dtype=np.int64)
        for row, docs in enumerate(judged):
            self._grades[row, : len(docs)] = [grade for _, grade in docs]

    def tables(self, name: str, run: Mapping[str, Mapping[str, float]]) -> Tables:
        """The run's hits by number, in trec_eval's order; ``name`` is what an error calls the run.

        Raises:
            InputError: if a score is NaN.
        """
        depth = max([1, *(len(run.get(query_id, ())) for query_id in self.query_ids)])
        ranking = np.full((len(self.query_ids), depth), NO_HIT, dtype=np.int64)
        for row, (query_id, numbers) in enumerate(zip(self.query_ids, self._numbers, strict=True)):
            order = trec_order(run.get(query_id, {}), f"run {name!r}, query {query_id!r}")
            ranking[row, : len(order)] = [numbers.get(doc_id, UNJUDGED) for doc_id in order]
        return Tables(self._grades, ranking)


def engine(name: EngineName) -> Engine:
    """``numpy``: formulas that answer at once. ``ranx``: compiled kernels, seconds to load, fast when many.

    Raises:
        InputError: if ``name`` is neither.
    """
    match name:
        case "numpy":
            from elastic_ir.evaluate.formulas import numpy_figures

            return numpy_figures
        case "ranx":
            from elastic_ir.evaluate.kernels import ranx_figures

            return ranx_figures
    raise InputError(f"unknown engine {name!r}; wanted 'numpy' or 'ranx'")
