"""``DenseIndex``: nearest documents by inner product."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elastic_ir.errors import BackendError, ConfigError, IndexCorruptError, IndexMismatchError, InputError
from elastic_ir.index.factory import load_faiss, make_index, one_thread, read_faiss
from elastic_ir.index.manifest import FAISS, RESTORE, Manifest
from elastic_ir.records import EncoderCard, in_run_order


class DenseIndex:
    """The vectors of a generation. Safe to search from many threads.

    Attributes:
        card: what made the document vectors.
        factory: FAISS factory string.
    """

    def __init__(self, folder: Path, manifest: Manifest, card: EncoderCard, doc_ids: Sequence[str]) -> None:
        self.card, self.factory = card, manifest.factory or ""
        self._name, self._doc_ids = f"index {folder.parent}", doc_ids
        self._index = _load(folder, manifest, card)
        self._parameters: Any = None

    def __len__(self) -> int:
        return len(self._doc_ids)

    def check(self, card: EncoderCard) -> None:
        """Refuse a query encoder whose vectors are not of this index's space.

        Subnets may differ: one space serves them all.

        Raises:
            IndexMismatchError: if space or dimension differ, or one model is used with two poolings.
        """
        own = self.card
        pooled = card.fingerprint == own.fingerprint and card.pooling != own.pooling
        if (card.space, card.dimension) == (own.space, own.dimension) and not pooled:
            return
        if card.dimension != own.dimension:
            made, makes = f"{own.dimension}-d vectors", f"{card.dimension}-d queries"
        elif card.space != own.space:
            made, makes = f"{own.dimension}-d vectors of space {own.space}", f"queries of space {card.space}"
        else:
            made, makes = f"{own.pooling}-pooled vectors", f"{card.pooling}-pooled queries"
        raise IndexMismatchError(
            f"{self._name} holds {made} built with {own.model} {own.subnet}, but {card.model} makes {makes}; "
            f"re-encode the collection with {card.model} or query with {own.model}"
        )

    def vector(self, row: int) -> NDArray[np.float32]:
        """``[D]`` of the document in ``row``, where the factory ``keeps_vectors``."""
        index = load_faiss().downcast_index(self._index)
        if hasattr(index, "direct_map") and index.direct_map.no():
            index.make_direct_map()
        vector: NDArray[np.float32] = index.reconstruct(row)
        return vector

    def tuned(self, *, nprobe: int | None = None, ef_search: int | None = None) -> DenseIndex:
        """The same index, not copied, whose searches look at more or less of it.

        Args:
            nprobe: lists to visit in an IVF index; None takes what is stored (an eighth of them).
            ef_search: candidates kept in an HNSW index; None takes what is stored (64).

        Raises:
            ConfigError: if the index takes no such search argument.
        """
        view = copy(self)
        view._parameters = _parameters(self._index, self.factory, nprobe, ef_search)
        return view

    def search(self, vectors: NDArray[np.float32], k: int) -> list[list[tuple[str, float]]]:
        """The ``k`` documents with the largest inner product, for each query.

        Args:
            vectors: ``[N, D]`` float32, finite.
            k: hits wanted, at least 1; more than there are documents is fine.

        Returns:
            N lists of (doc_id, inner product), best first, ties by doc_id descending, also where a tie
            crosses the cut at ``k``. An approximate index may find fewer than ``k``. Of several queries at once the
            scores may differ from those of one alone in the last bit, and so the order of equal documents.

        Raises:
            InputError: if ``k`` is less than 1.
            BackendError: if the vectors, which are the encoder's and not the user's, are not as above.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.card.dimension or vectors.dtype != np.float32:
            raise BackendError(
                f"{self._name}: queries are {vectors.dtype} {vectors.shape}; wanted float32 [N, {self.card.dimension}]"
            )
        if k < 1:
            raise InputError(f"{self._name}: k is {k}; wanted at least 1")
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            raise BackendError(
                f"{self._name}: the vector of query {bad[0]} (from 0) is not finite; check the model's weights"
            )
        return self._search(np.ascontiguousarray(vectors), min(k, len(self)), 1)

    def _search(self, vectors: NDArray[np.float32], k: int, beyond: int) -> list[list[tuple[str, float]]]:
        """Search ``k + beyond`` deep, and deeper for the queries whose k-th score goes on to the end."""
        if not len(vectors):
            return []
        depth = min(k + beyond, len(self))
        with one_thread() if len(vectors) == 1 else nullcontext():
            scores, rows = self._index.search(vectors, depth, params=self._parameters)
        hits = [self._ranked(row, score)[:k] for row, score in zip(rows, scores, strict=True)]
        if depth == len(self):
            return hits
        tied = np.flatnonzero((rows[:, -1] >= 0) & (scores[:, -1] == scores[:, k - 1]))
        for query, deeper in zip(tied, self._search(vectors[tied], k, 4 * depth), strict=True):
            hits[query] = deeper
        return hits

    def _ranked(self, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> list[tuple[str, float]]:
        # FAISS fills up with row -1 where it finds too few.
        found = zip(rows.tolist(), scores.tolist(), strict=True)
        return in_run_order((self._doc_ids[row], score) for row, score in found if row >= 0)


def check_search(factory: str, dimension: int, nprobe: int | None, ef_search: int | None) -> None:
    """Refuse, before it is built, an index that could not be searched so.

    Raises:
        ConfigError: if FAISS cannot make it, or ``DenseIndex.tuned`` would refuse it.
    """
    _parameters(make_index(factory, dimension), factory, nprobe, ef_search)


def _load(folder: Path, manifest: Manifest, card: EncoderCard) -> Any:
    """Read the FAISS file of a generation.

    Raises:
        IndexMismatchError: if another major version of FAISS wrote it.
        IndexCorruptError: if FAISS cannot read it or it is not what the manifest says.
        BackendError: if memory does not suffice.
    """
    faiss = load_faiss()
    where = f"index {folder.parent}: {folder.name}/{FAISS}"
    if (manifest.faiss or "").split(".")[0] != faiss.__version__.split(".")[0]:
        raise IndexMismatchError(
            f"{where} was written by FAISS {manifest.faiss}, but this is FAISS {faiss.__version__}; "
            "build the index again"
        )
    try:
        index = read_faiss(folder / FAISS, manifest.factory or "", card.dimension)
    except MemoryError as exc:
        megabytes = manifest.files[FAISS].size_bytes / 1e6
        raise BackendError(
            f"{where} needs {megabytes:,.0f} MB of memory, more than can be had; free some, or build the index with a "
            "factory that keeps less, e.g. 'IVF2048,PQ96'"
        ) from exc
    except RuntimeError as exc:
        raise IndexCorruptError(f"{where} cannot be read by FAISS ({str(exc).splitlines()[0]}); {RESTORE}") from exc
    found = (index.ntotal, index.d, index.metric_type)
    wanted = (manifest.documents, card.dimension, faiss.METRIC_INNER_PRODUCT)
    if found != wanted:
        raise IndexCorruptError(
            f"{where} has (vectors, dimension, metric) {found}, but the manifest says {wanted}; {RESTORE}"
        )
    return index


def _parameters(index: Any, factory: str, nprobe: int | None, ef_search: int | None) -> Any:
    """What FAISS takes for one search; None for the stored settings."""
    if nprobe is None and ef_search is None:
        return None
    faiss = load_faiss()
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform):
        inner = _parameters(index.index, factory, nprobe, ef_search)
        return faiss.SearchParametersPreTransform(index_params=inner)
    if isinstance(index, faiss.IndexRefine):
        inner = _parameters(index.base_index, factory, nprobe, ef_search)
        return faiss.IndexRefineSearchParameters(k_factor=index.k_factor, base_index_params=inner)
    if isinstance(index, faiss.IndexIVF) and nprobe is not None and nprobe >= 1 and ef_search is None:
        return faiss.SearchParametersIVF(nprobe=nprobe)
    if isinstance(index, faiss.IndexHNSW) and ef_search is not None and ef_search >= 1 and nprobe is None:
        return faiss.SearchParametersHNSW(efSearch=ef_search)
    raise ConfigError(
        f"an index of factory {factory!r} cannot be searched with nprobe={nprobe}, ef_search={ef_search}; wanted "
        "nprobe of at least 1 for IVF, ef_search of at least 1 for HNSW, and neither for others"
    )
