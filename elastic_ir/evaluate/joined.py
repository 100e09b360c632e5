"""Run files joined into one file, with the record of how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from elastic_ir.datasets import read_qrels
from elastic_ir.durable import sha256
from elastic_ir.errors import InputError
from elastic_ir.evaluate.fuse import METHODS, fuse, optimize
from elastic_ir.evaluate.sidecar import write_metadata
from elastic_ir.evaluate.trec import checked_word, read_run, write_run
from elastic_ir.version import __version__


def write_fused(
    paths: Sequence[Path],
    output: Path,
    *,
    tag: str,
    method: str = "rrf",
    norm: str = "min-max",
    parameters: Mapping[str, Any] | None = None,
    judged: tuple[Path, Sequence[Path] | None] | None = None,
    measure: str = "ndcg@10",
    k: int = 1000,
) -> dict[str, Any]:
    """Fuse run files into ``output`` and write its sidecar.

    Args:
        paths: the runs, two or more.
        output: TREC run; appears whole or not at all.
        tag: sixth column.
        method: a name of ``fuse.METHODS``.
        norm: a name of ``fuse.NORMS``.
        parameters: of the method.
        judged: qrels of a train split, and the train-split run of each of ``paths`` (None: the runs
            themselves), on which the parameters are chosen; None takes ``parameters`` as they are.
        measure: what choosing makes best.
        k: hits of each query.

    Returns:
        The metadata written.

    Raises:
        InputError: as ``fuse`` and ``optimize`` do, or if there is not one train run for each run.
        RunFileError: if the tag cannot stand in a run, or a run cannot be read or written.
    """
    checked_word(tag, "tag", str(output))
    if k < 1:
        raise InputError(f"hits is {k}; wanted at least 1")
    if judged is not None and parameters:
        raise InputError(f"found {', '.join(parameters)} and judgements to choose by; wanted one of the two")
    runs = [read_run(path) for path in paths]
    made_of = [{"path": str(path), "sha256": sha256(path)} for path in paths]  # one of them may be the output
    fusion: dict[str, Any] = {"method": method, "norm": None if method == "rrf" else norm}
    if judged is not None:
        qrels, train = judged
        if train and len(train) != len(paths):
            raise InputError(f"found {len(train)} train runs for {len(paths)} runs; wanted one for each, in order")
        training = [read_run(path) for path in train] if train else runs
        parameters = optimize(training, read_qrels(qrels), method, norm, measure)
        fusion["optimized"] = {
            "measure": measure,
            "qrels": str(qrels),
            "qrels_sha256": sha256(qrels),
            "runs": [str(path) for path in train or paths],
        }
    fused = fuse(runs, method, norm, parameters)
    write_run((ranking._replace(hits=ranking.hits[:k]) for ranking in fused), output, tag)
    metadata = {
        "tag": tag,
        "queries": len(fused),
        "hits": k,
        "fusion": fusion | {"parameters": dict(parameters or {}), "about": METHODS[method].about},
        "runs": made_of,
        "elastic_ir": __version__,
    }
    write_metadata(output, metadata)
    return metadata
