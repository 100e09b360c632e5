"""Only what is new is encoded again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from index_helpers import HashEncoder, collection, hashes

from elastic_ir.index import build_index, open_index
from elastic_ir.records import Document


def encoded(documents: list[Document], path: Path, encoder: HashEncoder | None = None, **settings: object) -> int:
    """How many texts the build encoded."""
    encoder = encoder or HashEncoder()
    build_index(documents, path, encoder=encoder, lucene=False, chunk_size=8, **settings).close()  # type: ignore[arg-type]
    return encoder.texts_seen


@pytest.mark.parametrize("factory", ["Flat", "IVF4,Flat", "HNSW16"])
def test_only_new_contents_are_encoded(tmp_path: Path, factory: str) -> None:
    old = collection(60)
    changed = [
        Document("new", "a new one"),
        *old[:20],
        *old[30:],
        Document("d20", "other words"),
        Document("x", "text 21 naïve 検索", "title 21"),
    ]
    assert encoded(old, tmp_path / "index", factory=factory) == 60
    assert encoded(changed, tmp_path / "index", factory=factory) == 2, "one moved to another id, ten went"
    assert encoded(changed, tmp_path / "afresh", factory=factory) == len(changed)
    with open_index(tmp_path / "index") as found, open_index(tmp_path / "afresh") as wanted:
        assert hashes(found.path) == hashes(wanted.path)
    assert encoded(changed, tmp_path / "index", factory=factory) == 0


def test_vectors_that_would_be_others_are_not_taken_over(tmp_path: Path) -> None:
    documents, path = collection(300), tmp_path / "index"
    encoded(documents, path)
    assert encoded(documents, path, HashEncoder(max_length=32)) == 300
    half = HashEncoder(max_length=32)
    half.number_format = "bf16"
    assert encoded(documents, path, half) == 300
    assert encoded(documents, tmp_path / "coded", factory="SQ8") == 300
    assert encoded(documents, tmp_path / "coded", factory="SQ8") == 300
    for _ in range(2):
        assert encoded(documents, tmp_path / "dedup", factory="IVF4,FlatDedup") == 300
        assert encoded(documents, tmp_path / "unknown", HashEncoder(fingerprint="")) == 300
    vectors = path / "gen-000003" / "faiss.index"
    vectors.write_bytes(vectors.read_bytes()[:-4])
    assert encoded(documents, path, half) == 600, "the file was damaged"


def test_another_index_may_give_its_vectors(tmp_path: Path) -> None:
    encoded(collection(40), tmp_path / "before")
    assert encoded(collection(50), tmp_path / "now", earlier=[tmp_path / "nothing", tmp_path / "before"]) == 9, (
        "one is empty, as others are"
    )
    assert encoded(collection(50), tmp_path / "other", earlier=[tmp_path / "nothing"]) == 50
    with open_index(tmp_path / "now") as found:
        assert found.dense is not None
        (hits,) = found.dense.search(HashEncoder().encode([collection(50)[45].contents]), 1)
        assert hits[0][0] == "d45"
        assert np.isclose(hits[0][1], 1)
