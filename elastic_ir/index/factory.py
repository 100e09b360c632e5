"""FAISS indexes by factory string (``Flat``, ``IVF64,Flat``, ``HNSW32``, ``IVF16,PQ8``): check, train, fill, write."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from elastic_ir.durable import sync
from elastic_ir.errors import BackendError, ConfigError
from elastic_ir.index.encoding import VectorChunks

logger = logging.getLogger(__name__)

EF_SEARCH = 64
NPROBE_SHARE = 8
POINTS_PER_CENTROID = (39, 256)
"""FAISS asks for the first number of training points and uses no more than the second."""
MOST_TRAINED = 500_000
TOGETHER_FROM = 4 * 384
"""Queries times dimensions from which a matrix product, which reads the vectors once, beats a pass for each
query, on one thread; on more, as many times that."""

_READING = threading.Lock()  # the byte limit of FAISS is one for the process


@lru_cache(maxsize=1)
def load_faiss() -> Any:
    """The FAISS module, imported on first use (its own type stubs lack half of it)."""
    import faiss

    # FAISS 1.15 counts like this, and waits for 333 queries of 384 dimensions; versions before it count 20 queries.
    best = TOGETHER_FROM * faiss.omp_get_max_threads()
    if faiss.cvar.distance_compute_blas_threshold > best:
        faiss.cvar.distance_compute_blas_threshold = best
    return faiss


@contextmanager
def one_thread() -> Iterator[None]:
    """Run FAISS on the calling thread alone: the same bytes every time, and no thread start for one query."""
    faiss = load_faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def make_index(factory: str, dimension: int, seed: int = 0) -> Any:
    """An empty FAISS inner-product index with our defaults: nprobe an eighth of the lists, efSearch 64.

    Raises:
        ConfigError: if FAISS cannot make it.
    """
    faiss = load_faiss()
    try:
        index = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as exc:
        raise ConfigError(
            f"FAISS makes no {dimension}-d inner-product index of factory {factory!r}; wanted e.g. 'Flat', "
            "'IVF64,Flat', 'HNSW32' or 'IVF64,PQ16' (the number after PQ must divide the dimension)"
        ) from exc
    if index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise ConfigError(f"factory {factory!r} has no inner product in FAISS; wanted e.g. 'Flat' or 'HNSW32'")
    for part in _parts(index):
        if isinstance(part, faiss.IndexIVF):
            if part.nlist < 1:
                raise ConfigError(f"factory {factory!r} has {part.nlist} lists; wanted at least 1, e.g. 'IVF64,Flat'")
            part.nprobe = max(1, part.nlist // NPROBE_SHARE)
        if hasattr(part, "hnsw"):
            levels = part.hnsw.cum_nneighbor_per_level.size() - 1
            if levels < 1 or part.hnsw.nb_neighbors(0) < 4:  # FAISS would end the process
                raise ConfigError(f"factory {factory!r} has a graph of fewer than 2 neighbours; wanted e.g. 'HNSW32'")
            part.hnsw.efSearch = EF_SEARCH
        if isinstance(part, faiss.IndexPreTransform):
            _check_steps(part, factory)
        if isinstance(part, faiss.IndexIDMap | faiss.IndexNSG | faiss.IndexNNDescent):
            raise ConfigError(f"factory {factory!r} cannot be filled chunk by chunk; wanted e.g. 'Flat' or 'HNSW32'")
        for clustering in _clusterings(part):
            clustering.seed = seed
            clustering.min_points_per_centroid = 1  # FAISS would warn on stderr; we do in check_training
    return index


def _check_steps(part: Any, factory: str) -> None:
    """Refuse steps that leave nothing of a vector, or a PCA that should add to it.

    Raises:
        ConfigError: saying how many dimensions there may be.
    """
    faiss = load_faiss()
    for number in range(part.chain.size()):
        step = faiss.downcast_VectorTransform(part.chain.at(number))
        most = step.d_in if isinstance(step, faiss.PCAMatrix) else math.inf
        if not 1 <= step.d_out <= most:
            raise ConfigError(
                f"factory {factory!r} makes {step.d_out} dimensions of {step.d_in}; wanted at least 1"
                + (f", and no more than {step.d_in} by PCA" if most < math.inf else "")
            )


def check_training(index: Any, factory: str, count: int) -> None:
    """Refuse to train ``index`` on ``count`` vectors where there are fewer than centroids.

    Raises:
        ConfigError: saying how many there must be.
    """
    needed = _centroids(index)
    if count < needed:
        raise ConfigError(
            f"factory {factory!r} needs at least {needed} documents to train on, but there are {count}; "
            "use 'Flat' or 'HNSW32' (no training), or fewer lists"
        )
    if count < POINTS_PER_CENTROID[0] * needed:
        logger.warning(
            "factory %r learns %d centroids from %d documents; %d would be better",
            factory,
            needed,
            count,
            POINTS_PER_CENTROID[0] * needed,
        )


FLAT_UP_TO, PLAIN_UP_TO = 100_000, 2_000_000
"""Documents up to which all are compared, and up to which whole vectors are kept."""


def suggested(count: int, dimension: int) -> str:
    """A factory that suits ``count`` documents: all compared, then lists of whole vectors, then of compressed ones.

    There are about four times the root of ``count`` lists, a power of two; codes take a quarter of a byte a component,
    a sixteenth of the vectors.
    """
    if count <= FLAT_UP_TO:
        return "Flat"
    lists = 2 ** round(math.log2(4 * math.sqrt(count)))
    return f"IVF{lists},Flat" if count <= PLAIN_UP_TO else f"IVF{lists},PQ{dimension // 4}"


def bytes_of(factory: str, dimension: int, count: int) -> int:
    """Bytes of a finished index of ``count`` vectors, on disk and in memory; codebooks and list heads left out.

    Raises:
        ConfigError: if FAISS cannot make it.
    """
    index = make_index(factory, dimension)  # kept, as what FAISS gives of its parts does not own them
    return _bytes_each(index) * count


def keeps_vectors(factory: str, dimension: int) -> bool:
    """Whether vectors are in such an index as they were encoded: not coded, rotated or left out."""
    faiss = load_faiss()
    made = make_index(factory, dimension)
    index = faiss.downcast_index(made)
    whole = isinstance(index, faiss.IndexFlat | faiss.IndexIVFFlat | faiss.IndexHNSWFlat)
    return whole and not isinstance(index, faiss.IndexIVFFlatDedup)


def write_faiss(path: Path, factory: str, chunks: VectorChunks, seed: int) -> None:
    """Train a FAISS index, fill it with ``chunks`` and write it: the same chunks and seed give the same bytes.

    Raises:
        ConfigError: if there are too few vectors to train on, or FAISS refuses for another reason.
        BackendError: if FAISS cannot write the file, or read it back.
    """
    index = make_index(factory, chunks.card.dimension, seed)
    check_training(index, factory, chunks.count)
    with one_thread():
        try:
            if not index.is_trained:
                index.train(chunks.sample(_training_points(index), seed))
            for vectors in chunks:
                index.add(vectors)
        except RuntimeError as exc:
            raise ConfigError(f"FAISS cannot build {factory!r} of {chunks.count} vectors: {exc}; use 'Flat'") from exc
    try:
        load_faiss().write_index(index, str(path))
    except RuntimeError as exc:
        raise BackendError(f"FAISS cannot write {path}: {exc}") from exc
    sync(path)
    del index
    try:
        read_faiss(path, factory, chunks.card.dimension)
    except MemoryError:
        logger.warning("%s could not be read back for want of memory", path)
    except RuntimeError as exc:
        raise BackendError(f"FAISS cannot read back the {factory!r} that it wrote to {path}: {exc}") from exc


def read_faiss(path: Path, factory: str, dimension: int) -> Any:
    """The index in ``path``, which ``make_index`` made; a damaged file can make FAISS take no more memory than that.

    Raises:
        RuntimeError: if FAISS cannot read it. MemoryError: if memory does not suffice.
    """
    faiss = load_faiss()
    made = make_index(factory, dimension)  # kept, as what FAISS gives of its parts does not own them
    # FAISS also holds against the limit a table of distances that it makes for Euclidean ones only.
    tables = [4 * part.nlist * part.pq.M * part.pq.ksub for part in _parts(made) if isinstance(part, faiss.IndexIVFPQ)]
    with _READING:
        before = faiss.get_deserialization_vector_byte_limit()
        faiss.set_deserialization_vector_byte_limit(max([path.stat().st_size, *(table + 4 for table in tables)]))
        try:
            return faiss.read_index(str(path))
        except RuntimeError as exc:
            if "bad_alloc" in str(exc):
                raise MemoryError from exc
            raise
        finally:
            faiss.set_deserialization_vector_byte_limit(before)


def _parts(index: Any) -> Iterator[Any]:
    """``index`` and the indexes inside it: transformed, refined, coarse quantizer, graph storage."""
    faiss = load_faiss()
    index = faiss.downcast_index(index)
    yield index
    for name in ("index", "base_index", "quantizer", "storage"):
        inner = getattr(index, name, None)
        if isinstance(inner, faiss.Index):
            yield from _parts(inner)


def _clusterings(part: Any) -> list[Any]:
    holders = [part, getattr(part, "pq", None)]
    return [holder.cp for holder in holders if hasattr(holder, "cp")]


def _training_points(index: Any) -> int:
    """Vectors to train on: what FAISS can use, or ``MOST_TRAINED`` where the least that it asks for is fewer."""
    least, most = (points * max(256, _centroids(index)) for points in POINTS_PER_CENTROID)
    return max(least, min(most, MOST_TRAINED))


def _centroids(index: Any) -> int:
    """The most centroids that one k-means inside ``index`` looks for; 0 without k-means."""
    parts = list(_parts(index))
    lists = [part.nlist for part in parts if hasattr(part, "nlist")]
    codes = [part.pq.ksub for part in parts if hasattr(part, "pq")]
    rotations = [256 for part in parts if _learns_rotation(part)]  # by k-means of its own
    return int(max([0, *lists, *codes, *rotations]))


def _bytes_each(index: Any) -> int:
    """What one vector takes: its code, its number in a list, its neighbours in a graph."""
    faiss = load_faiss()
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform):
        return _bytes_each(index.index)
    if isinstance(index, faiss.IndexRefine):
        return _bytes_each(index.base_index) + _bytes_each(index.refine_index)
    if isinstance(index, faiss.IndexIVF):
        return int(index.code_size) + 8
    if hasattr(index, "hnsw"):
        return _bytes_each(index.storage) + 4 * int(index.hnsw.nb_neighbors(0)) + 12
    return int(index.sa_code_size())


def _learns_rotation(part: Any) -> bool:
    faiss = load_faiss()
    if not isinstance(part, faiss.IndexPreTransform):
        return False
    steps = [faiss.downcast_VectorTransform(part.chain.at(step)) for step in range(part.chain.size())]
    return any(isinstance(step, faiss.OPQMatrix) for step in steps)
