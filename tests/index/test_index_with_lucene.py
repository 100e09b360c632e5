"""Vectors, documents and Lucene in one generation."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from index_helpers import HashEncoder, collection, tokenize

from elastic_ir.errors import IndexCorruptError
from elastic_ir.index import build_index, lucene, open_index, verify_index


def test_lucene_is_part_of_the_generation(tmp_path: Path) -> None:
    with build_index(collection(9), tmp_path, encoder=HashEncoder(), tokenize=tokenize) as generation:
        assert generation.lucene_path == generation.path / "lucene"
        with closing(lucene.LuceneIndex(generation.lucene_path)) as bm25:
            (result,) = bm25.search(["title 3"], k=1)
        assert [doc_id for doc_id, _ in result.hits] == ["d3"]
    # Searching left nothing behind, and every Lucene file is vouched for.
    report = verify_index(tmp_path)
    assert report.ok, report.problems
    names = [name for name in generation.manifest.files if name.startswith("lucene/")]
    assert any(name.startswith("lucene/segments") for name in names)
    for name in names:
        file = generation.path / name
        data = file.read_bytes()
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(IndexCorruptError, match=f"{name} has sha256"):
            open_index(tmp_path)
        file.write_bytes(data)
    open_index(tmp_path).close()
