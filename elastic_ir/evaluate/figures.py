"""Per-query figures by ranx, equal to trec_eval's."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from elastic_ir.errors import InputError
from elastic_ir.evaluate.measures import Measure
from elastic_ir.records import Qrels, in_run_order

Floats: TypeAlias = NDArray[np.float64]
_UNJUDGED = -1.0
_NUMBA_LOCK = Lock()  # ranx's threading layer ends the process when two threads enter it


class Judgements:
    """The relevant documents of each query, numbered by grade descending, as ranx reads them.

    Grades of 0 and less are not relevant, whatever their value, as in trec_eval.
    """

    def __init__(self, qrels: Qrels) -> None:
        relevant = [in_run_order((doc, grade) for doc, grade in docs.items() if grade > 0) for docs in qrels.values()]
        self.query_ids = list(qrels)
        self._numbers = [{doc_id: number for number, (doc_id, _) in enumerate(docs)} for docs in relevant]
        width = max([1, *map(len, relevant)])
        self._table = np.zeros((len(qrels), width, 2))  # [queries, documents, (number, grade)]
        self._table[:, :, 0] = np.arange(width)
        for row, docs in enumerate(relevant):
            self._table[row, : len(docs), 1] = [grade for _, grade in docs]

    def figures(self, name: str, run: Mapping[str, Mapping[str, float]], measures: Sequence[Measure]) -> list[Floats]:
        """One array for each measure: its value for each of ``query_ids``, 0 where ``run`` lacks the query.

        Raises:
            InputError: if a score is NaN; ``name`` is what the message calls the run.
        """
        table = self._retrieved(name, run)
        with _NUMBA_LOCK:
            metric = _ranx_metrics()
            return [metric(m.name)(self._table, table, m.cutoff or 0, m.relevance) for m in measures]

    def _retrieved(self, name: str, run: Mapping[str, Mapping[str, float]]) -> Floats:
        """[queries, depth, (document number, score)], best first; scores fall strictly, by rank.

        Rows are filled up with documents nobody judged, which changes no measure; so are missing queries.
        """
        depth = max([1, *(len(run.get(query_id, ())) for query_id in self.query_ids)])
        table = np.full((len(self.query_ids), depth, 2), _UNJUDGED)
        table[:, :, 1] = np.arange(depth, 0, -1)
        for row, (query_id, numbers) in enumerate(zip(self.query_ids, self._numbers, strict=True)):
            scores = run.get(query_id, {})
            with np.errstate(over="ignore"):  # trec_eval keeps scores as C floats, and so sees more ties
                singles = np.asarray(list(scores.values()), dtype=np.float64).astype(np.float32)
            if np.isnan(singles).any():
                doc_id = list(scores)[int(np.isnan(singles).argmax())]
                raise InputError(
                    f"run {name!r}, query {query_id!r}: document {doc_id!r} has score NaN; wanted a number"
                )
            ordered = in_run_order(zip(scores, singles.tolist(), strict=True))
            table[row, : len(ordered), 0] = [numbers.get(doc_id, _UNJUDGED) for doc_id, _ in ordered]
        return table


def _ranx_metrics() -> Callable[[str], Callable[..., Floats]]:
    """ranx's name -> kernel table. Each kernel compiles for about 2 s at its first use on a machine."""
    try:
        from ranx.metrics import metric_switch
    except RuntimeError:  # numba found no folder of its own to keep compiled code in
        import numba

        numba.config.CACHE_DIR = tempfile.mkdtemp(prefix="elastic-ir-numba-")  # type: ignore[attr-defined]
        from ranx.metrics import metric_switch
    switch: Any = metric_switch
    return switch  # type: ignore[no-any-return]
