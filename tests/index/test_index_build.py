"""Building generations: what goes in comes out, what is wrong is refused, what was there stays."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from index_helpers import HashEncoder, collection, hashes, tokenize

from elastic_ir.durable import writer_lock
from elastic_ir.errors import BackendError, ConfigError, IndexLockedError, IndexNotFoundError, InputError
from elastic_ir.index import build_index, open_index
from elastic_ir.records import Document


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    documents = collection(50)
    encoder = HashEncoder()
    build_index(
        iter(documents),
        tmp_path,
        encoder=encoder,
        tokenize=tokenize,
        tokenizer_fingerprint="words",
        lucene=False,
        source="toy/test",
        chunk_size=8,
    ).close()
    with open_index(tmp_path) as generation:
        assert (generation.number, generation.path.name, generation.lucene_path) == (1, "gen-000001", None)
        assert (generation.manifest.source, generation.manifest.documents) == ("toy/test", 50)
        assert generation.manifest.encoder == encoder.card
        assert list(generation.documents) == documents
        assert generation.documents.text("d3") == "title 3 text 3 naïve 検索"
        assert generation.tokens is not None
        assert generation.tokens.tokenizer_fingerprint == "words"
        for document in documents:
            tokens = generation.tokens.tokens(document.doc_id)
            assert (tokens.dtype, tokens.tolist()) == (np.int32, tokenize([document.contents])[0])
        assert generation.dense is not None
        assert generation.dense is generation.dense
        vectors = encoder.encode([document.contents for document in documents])
        hits = generation.dense.search(vectors[:3], k=1)
        assert [doc_id for ((doc_id, _),) in hits] == ["d0", "d1", "d2"]


def test_parts_are_optional(tmp_path: Path) -> None:
    with build_index(collection(3), tmp_path, lucene=False) as generation:
        assert (generation.dense, generation.tokens, generation.lucene_path) == (None, None, None)
        assert len(generation.documents) == 3
        assert generation.manifest.faiss is None


def test_crawled_text_survives(tmp_path: Path) -> None:
    odd = Document("d1", "a\ud800b\x00c\u2028d\r\n", '"quoted"')
    with build_index([odd], tmp_path, lucene=False) as generation:
        assert list(generation.documents) == [odd]


@pytest.mark.parametrize(
    ("doc_id", "said"),
    [
        ("", "is empty"),
        ("a b", "contains ' '"),
        ("a\nb", r"contains '\\n'"),
        ("a\x00", r"contains '\\x00'"),
        ("a\u2028", r"contains '\\u2028'"),
        ("a\ud800", r"contains '\\ud800'"),
        ("x" * 1_000_000, "has 1000000 characters"),
        ("d0", "is already that of row 1"),
    ],
)
def test_bad_ids_are_refused_with_their_row(tmp_path: Path, doc_id: str, said: str) -> None:
    with pytest.raises(InputError, match=rf"^row 3: doc_id .*{said}") as refusal:
        build_index([*collection(2), Document(doc_id, "text")], tmp_path, lucene=False)
    assert len(str(refusal.value)) < 300
    with pytest.raises(IndexNotFoundError):
        open_index(tmp_path)


def test_what_is_no_text_is_refused_with_its_row(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="row 2: text is None; wanted a text"):
        build_index([Document("a", "b"), Document("c", None)], tmp_path, lucene=False)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="row 1: doc_id is 5"):
        build_index([Document(5, "b")], tmp_path, lucene=False)  # type: ignore[arg-type]


def test_nothing_to_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are no documents"):
        build_index([], tmp_path, lucene=False)
    with pytest.raises(InputError, match="all 2 documents are empty"):
        build_index([Document("a", ""), Document("b", " ")], tmp_path, encoder=HashEncoder(), lucene=False)


class Spoiled(HashEncoder):
    """An encoder whose answer for document 9 of ``collection`` goes through ``spoil``."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def encode(self, texts: list[str]) -> np.ndarray:
        vectors = super().encode(texts)
        for row, text in enumerate(texts):
            if text.startswith("title 9 "):
                vectors[row] *= self.value
        return vectors


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 1.02, 1e30])
def test_bad_vectors_name_the_document(tmp_path: Path, value: float) -> None:
    with pytest.raises(InputError, match=r"'d9' \(row 10\) a vector of length"):
        build_index(collection(20), tmp_path, encoder=Spoiled(value), lucene=False, chunk_size=4)


@pytest.mark.parametrize("cast", [np.float64, np.float16])
def test_wrong_dtype_or_shape_is_refused(tmp_path: Path, cast: type) -> None:
    class Cast(HashEncoder):
        def encode(self, texts: list[str]) -> np.ndarray:
            return super().encode(texts).astype(cast)

    with pytest.raises(InputError, match=r"gave float\d\d \(5, 16\) for rows 1 to 5 \('d0' to 'd4'\)"):
        build_index(collection(5), tmp_path, encoder=Cast(), lucene=False)
    wide = HashEncoder()
    wide.encode = HashEncoder(dimension=8).encode  # type: ignore[method-assign]
    with pytest.raises(InputError, match=r"\(5, 8\).*wanted .* \(5, 16\)"):
        build_index(collection(5), tmp_path, encoder=wide, lucene=False)


def test_what_java_could_not_read_is_refused_before_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elastic_ir.index.build.MAX_CHARACTERS", 50)
    documents, encoder = [*collection(2), Document("long", "x" * 51)], HashEncoder()
    with pytest.raises(InputError, match="row 3: doc_id 'long' has 51 characters; wanted at most 50"):
        build_index(documents, tmp_path, encoder=encoder, lucene=False)
    assert encoder.texts_seen == 0


def test_a_document_of_a_closed_index(tmp_path: Path) -> None:
    generation = build_index(collection(2), tmp_path, encoder=HashEncoder(), lucene=False)
    documents = generation.documents
    generation.close()
    with pytest.raises(BackendError, match="was closed; open it again"):
        documents.text("d1")


def test_token_lists_must_match(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 lists for the 5 documents"):
        build_index(collection(5), tmp_path, tokenize=lambda _: [[1]], lucene=False)


@pytest.mark.parametrize(
    "factory",
    ["nonsense", "", "PQ5", "IVF0,Flat", "IDMap,Flat", "LSH", "NSG16", "HNSW8_PQ4",
     "HNSW0", "HNSW1", "IVF4_HNSW1,Flat", "RR0,Flat", "PCA0,Flat", "PCA400,Flat"],
)  # fmt: skip
def test_unknown_factory_is_refused_before_encoding(tmp_path: Path, factory: str) -> None:
    encoder = HashEncoder()
    with pytest.raises(ConfigError, match=repr(factory)):
        build_index(collection(5), tmp_path, encoder=encoder, factory=factory, lucene=False)
    assert encoder.texts_seen == 0


@pytest.mark.parametrize(("factory", "needed"), [("PQ4", 256), ("OPQ4,PQ4x4", 256), ("IVF99,PQ4x4", 99)])
def test_training_needs_are_known_beforehand(tmp_path: Path, factory: str, needed: int) -> None:
    with pytest.raises(ConfigError, match=f"needs at least {needed} documents"):
        build_index(collection(98), tmp_path, encoder=HashEncoder(), factory=factory, lucene=False)


def test_too_few_to_train(tmp_path: Path) -> None:
    encoder = HashEncoder()
    message = "'IVF64,Flat' needs at least 64 documents to train on, but there are 60; use 'Flat'"
    with pytest.raises(ConfigError, match=message):
        build_index(collection(60), tmp_path, encoder=encoder, factory="IVF64,Flat", lucene=False)
    assert encoder.texts_seen == 0
    with pytest.raises(ConfigError, match=message):
        build_index(iter(collection(60)), tmp_path, encoder=encoder, factory="IVF64,Flat", lucene=False)
    build_index(collection(60), tmp_path, encoder=encoder, factory="Flat", lucene=False)
    assert encoder.texts_seen == 60  # the vectors of the refused build were taken over


def test_same_inputs_same_bytes(tmp_path: Path) -> None:
    for factory in ("Flat", "IVF8,Flat", "HNSW16", "IVF4,PQ8x4np", "PCA8,IVF4,Flat", "SQ8"):
        digests = []
        for name in ("a", "b"):
            path = tmp_path / factory / name
            generation = build_index(
                collection(300), path, encoder=HashEncoder(), tokenize=tokenize, factory=factory, lucene=False, seed=3
            )
            digests.append(hashes(generation.path))
        assert digests[0] == digests[1]


def test_old_generations_go_but_the_one_before_stays(tmp_path: Path) -> None:
    for count in (3, 4, 5, 6):
        build_index(collection(count), tmp_path, lucene=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "CURRENT", "gen-000003", "gen-000004"]
    with open_index(tmp_path) as generation:
        assert len(generation.documents) == 6


def test_an_open_generation_outlives_newer_ones(tmp_path: Path) -> None:
    encoder = HashEncoder()
    first = build_index(collection(5), tmp_path, encoder=encoder, tokenize=tokenize, lucene=False)
    for count in (6, 7, 8):
        build_index(collection(count), tmp_path, encoder=encoder, lucene=False)
    # Nothing of it was loaded before now.
    assert first.dense is not None
    assert len(first.dense.search(encoder.encode(["q"]), k=100)[0]) == 5
    assert list(first.documents) == collection(5)
    first.close()
    first.close()
    build_index(collection(9), tmp_path, lucene=False)
    assert not first.path.exists()


def test_readers_and_a_writer_at_once(tmp_path: Path) -> None:
    encoder = HashEncoder()
    build_index(collection(5), tmp_path, encoder=encoder, lucene=False)
    done, errors = threading.Event(), []

    def read() -> None:
        try:
            while not done.is_set():
                with open_index(tmp_path) as generation:
                    assert generation.dense is not None
                    hits = generation.dense.search(encoder.encode(["q"]), k=100)[0]
                    assert len(hits) == generation.manifest.documents == generation.number + 4
                    assert {generation.documents.get(doc_id).doc_id for doc_id, _ in hits} == set(generation.rows)
        except Exception as exc:
            errors.append(exc)

    readers = [threading.Thread(target=read) for _ in range(2)]
    handles = open_handles()
    for reader in readers:
        reader.start()
    for count in range(6, 14):
        build_index(collection(count), tmp_path, encoder=encoder, lucene=False).close()
    done.set()
    for reader in readers:
        reader.join()
    assert not errors
    assert open_handles() <= handles


def open_handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_second_writer_is_refused_at_once(tmp_path: Path) -> None:
    hold = (
        "import sys, time, pathlib; from elastic_ir.durable import writer_lock\n"
        "with writer_lock(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", hold, tmp_path], stdout=subprocess.PIPE, env=environment) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        started = time.monotonic()
        with pytest.raises(IndexLockedError, match=f"is being written by process {other.pid}; wait"):
            build_index(collection(3), tmp_path, lucene=False)
        assert time.monotonic() - started < 10
        other.kill()
    build_index(collection(3), tmp_path, lucene=False)


def test_lock_ends_with_its_block(tmp_path: Path) -> None:
    with writer_lock(tmp_path), pytest.raises(IndexLockedError), writer_lock(tmp_path):
        pass
    with writer_lock(tmp_path):
        pass


def test_a_file_is_no_index(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        build_index(collection(3), tmp_path / "file", lucene=False)
    with pytest.raises(InputError, match="is a file"):
        build_index(collection(3), tmp_path / "file" / "index", lucene=False)
    for missing in (tmp_path / "file", tmp_path / "nowhere", tmp_path):
        with pytest.raises(IndexNotFoundError, match="build it with"):
            open_index(missing)


def test_chunk_size_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="chunk_size is 0"):
        build_index(collection(3), tmp_path, lucene=False, chunk_size=0)


def test_importing_the_room_loads_no_faiss() -> None:
    code = (
        "import sys, elastic_ir.index; sys.exit(' '.join({'faiss', 'torch', 'pyserini', 'jnius'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
