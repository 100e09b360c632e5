"""Dense search against brute force, its ties, its limits and its refusals."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from index_helpers import DIMENSION, HashEncoder

from elastic_ir.errors import BackendError, ConfigError, IndexMismatchError, InputError
from elastic_ir.index import DenseIndex, build_index, open_index
from elastic_ir.index.factory import TOGETHER_FROM, load_faiss
from elastic_ir.records import Document

COUNT = 600
FACTORIES = [
    "Flat", "IVF64,Flat", "HNSW32", "PQ8x4np", "IVF16,PQ8x4np", "IVF16,PQ8", "IVF16_HNSW8,Flat", "SQ8",
    "RR16,IVF8,Flat", "IVF4,Flat,RFlat",
]  # fmt: skip


def dense_index(path: Path, texts: list[str], factory: str = "Flat") -> DenseIndex:
    documents = [Document(f"d{row}", text) for row, text in enumerate(texts)]
    dense = build_index(documents, path, encoder=HashEncoder(), factory=factory, lucene=False, chunk_size=100).dense
    assert dense is not None
    return dense


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DenseIndex]:
    texts = [f"text {row}" for row in range(COUNT)]
    return {factory: dense_index(tmp_path_factory.mktemp("dense"), texts, factory) for factory in FACTORIES}


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return HashEncoder().encode([f"query {row}" for row in range(30)])


@pytest.fixture(scope="module")
def scores(queries: np.ndarray) -> np.ndarray:
    """Inner product of every query with every document, in float64."""
    documents = HashEncoder().encode([f"text {row}" for row in range(COUNT)])
    return np.asarray(queries.astype(np.float64) @ documents.astype(np.float64).T)


def test_flat_is_brute_force(indexes: dict[str, DenseIndex], queries: np.ndarray, scores: np.ndarray) -> None:
    for row, hits in enumerate(indexes["Flat"].search(queries, k=10)):
        assert [doc_id for doc_id, _ in hits] == [f"d{best}" for best in np.argsort(-scores[row])[:10]]
        np.testing.assert_allclose([score for _, score in hits], -np.sort(-scores[row])[:10], atol=1e-6)


def recall(found: list[list[tuple[str, float]]], scores: np.ndarray) -> float:
    best = [{f"d{row}" for row in np.argsort(-line)[:10]} for line in scores]
    return float(
        np.mean([len({doc_id for doc_id, _ in hits} & ids) / 10 for hits, ids in zip(found, best, strict=True)])
    )


@pytest.mark.parametrize("factory", FACTORIES)
def test_factories_find_most(
    indexes: dict[str, DenseIndex], queries: np.ndarray, scores: np.ndarray, factory: str
) -> None:
    index = indexes[factory]
    found = index.search(queries, k=10)
    assert recall(found, scores) > (0.2 if "PQ" in factory else 0.4)
    assert all(hits == sorted(hits, key=lambda hit: (hit[1], hit[0]), reverse=True) for hits in found)
    assert (len(index), index.factory) == (COUNT, factory)


def test_too_little_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: str) -> None:
        raise RuntimeError("std::bad_alloc")

    monkeypatch.setattr(load_faiss(), "read_index", full)
    build_index([Document("a", "b")], tmp_path, encoder=HashEncoder(), lucene=False).close()
    with open_index(tmp_path) as generation, pytest.raises(BackendError, match="MB of memory, more than can be had"):
        _ = generation.dense


def test_search_arguments_trade_time_for_recall(
    indexes: dict[str, DenseIndex], queries: np.ndarray, scores: np.ndarray
) -> None:
    def found(factory: str, k: int = 10, **settings: int) -> list[list[tuple[str, float]]]:
        return indexes[factory].tuned(**settings).search(queries, k)

    assert recall(found("IVF64,Flat", nprobe=1), scores) < recall(found("IVF64,Flat"), scores) < 1
    assert recall(found("IVF64,Flat", nprobe=64), scores) == 1
    assert recall(found("RR16,IVF8,Flat", nprobe=8), scores) == 1
    assert len(found("IVF16,PQ8x4np", COUNT, nprobe=16)[0]) == COUNT
    assert recall(found("HNSW32", ef_search=600), scores) == 1
    assert recall(found("IVF4,Flat,RFlat", nprobe=4), scores) == 1
    for factory in ("Flat", "HNSW32"):
        with pytest.raises(ConfigError, match=f"{factory!r} cannot be searched with nprobe=4"):
            indexes[factory].tuned(nprobe=4)
    with pytest.raises(ConfigError, match="ef_search=64"):
        indexes["IVF64,Flat"].tuned(ef_search=64)
    with pytest.raises(ConfigError, match="nprobe=0"):
        indexes["IVF64,Flat"].tuned(nprobe=0)


def test_one_query_is_searched_as_in_a_batch(indexes: dict[str, DenseIndex], queries: np.ndarray) -> None:
    for index in indexes.values():
        for query, hits in zip(queries[:5], index.search(queries, k=5), strict=False):
            (alone,) = index.search(query[None], k=5)
            assert [doc_id for doc_id, _ in alone] == [doc_id for doc_id, _ in hits]


def test_a_few_queries_share_a_matrix_product() -> None:
    faiss = load_faiss()
    assert faiss.cvar.distance_compute_blas_threshold <= TOGETHER_FROM * (os.cpu_count() or 1)


def test_large_k_and_no_queries(indexes: dict[str, DenseIndex], queries: np.ndarray) -> None:
    for factory in ("Flat", "SQ8"):
        for hits in indexes[factory].search(queries[:2], k=10_000):
            assert len({doc_id for doc_id, _ in hits}) == len(hits) == COUNT
    for factory in ("HNSW32", "IVF64,Flat"):  # what the graph does not reach, or is in no visited list, is left out
        for hits in indexes[factory].search(queries[:2], k=10_000):
            assert 0 < len({doc_id for doc_id, _ in hits}) == len(hits) <= COUNT
    assert indexes["Flat"].search(queries[:0], k=3) == []


@pytest.mark.parametrize("batch", [1, 25])
def test_ties_go_to_the_larger_id_also_at_the_cut(tmp_path: Path, batch: int) -> None:
    texts = ["same"] * 40 + ["other"] * 3
    index = dense_index(tmp_path, texts)
    vectors = HashEncoder().encode(["same"] * batch)
    wanted = sorted((f"d{row}" for row in range(40)), reverse=True)
    for k in (1, 2, 7, 39, 40):
        for hits in index.search(vectors, k):
            assert [doc_id for doc_id, _ in hits] == wanted[:k]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_queries_must_be_finite(indexes: dict[str, DenseIndex], queries: np.ndarray, value: float) -> None:
    spoiled = queries.copy()
    spoiled[7, 3] = value
    with pytest.raises(BackendError, match=r"query 7 .* is not finite"):
        indexes["Flat"].search(spoiled, k=3)


def test_queries_must_have_shape_and_dtype(indexes: dict[str, DenseIndex], queries: np.ndarray) -> None:
    for wrong in (queries[0], queries[:, :8], queries.astype(np.float64)):
        with pytest.raises(BackendError, match=r"wanted float32 \[N, 16\]"):
            indexes["Flat"].search(wrong, k=3)
    for k in (0, -1):
        with pytest.raises(InputError, match=f"k is {k}; wanted at least 1"):
            indexes["Flat"].search(queries, k)


def test_one_space_for_every_query_subnet(indexes: dict[str, DenseIndex]) -> None:
    own = indexes["Flat"].card
    assert own.dimension == DIMENSION
    indexes["Flat"].check(own._replace(subnet="w0.25-d1"))
    indexes["Flat"].check(own._replace(model="student", fingerprint="0", pooling="mean"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"dimension": 768},
            r"holds 16-d vectors built with hash w1\.00-d2, but bge makes 768-d queries; re-encode the ",
        ),
        ({"space": "bge"}, r"vectors of space hash-space .* bge makes queries of space bge; .* query with hash$"),
        ({"pooling": "mean"}, r"cls-pooled vectors .* mean-pooled queries"),
    ],
)
def test_mismatch_is_refused(indexes: dict[str, DenseIndex], change: dict[str, str | int], said: str) -> None:
    index = indexes["Flat"]
    with pytest.raises(IndexMismatchError, match=said) as refusal:
        index.check(index.card._replace(model="bge", **change))
    assert refusal.value.exit_code == 3
