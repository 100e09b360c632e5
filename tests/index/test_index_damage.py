"""Whatever happens to a file of an index, it is refused by name and never answers wrongly."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from index_helpers import HashEncoder, collection, tokenize

from elastic_ir.errors import IndexCorruptError, IndexMismatchError, IndexNotFoundError
from elastic_ir.index import build_index, open_index, verify_index
from elastic_ir.index.current import Current, read_current, write_current

FILES = [
    "docs.jsonl",
    "docs.offsets.npy",
    "doc_ids.txt",
    "faiss.index",
    "manifest.json",
    "tokens.npy",
    "tokens.offsets.npy",
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("indexes") / "sound"
    build_index(collection(20), path, encoder=HashEncoder(), tokenize=tokenize, lucene=False)
    build_index(collection(22), path, encoder=HashEncoder(), tokenize=tokenize, lucene=False)
    return path


@pytest.fixture
def index(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound, tmp_path / "index")
    return tmp_path / "index"


def dangle(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def swap(path: Path) -> None:
    shutil.copy(path.parent.parent / "gen-000001" / path.name, path)


def test_every_file_is_tried(sound: Path) -> None:
    assert sorted(path.name for path in (sound / "gen-000002").iterdir()) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", [flip, truncate, empty, append, zero, swap])
def test_damage_is_refused_with_file_and_hashes(index: Path, name: str, harm: Callable[[Path], None]) -> None:
    file = index / "gen-000002" / name
    wanted = hashlib.sha256(file.read_bytes()).hexdigest()
    harm(file)
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(IndexCorruptError) as refusal:
        open_index(index)
    message = str(refusal.value)
    for part in (str(index), f"gen-000002/{name}", wanted, found):
        assert part in message
    assert "\n" not in message
    assert refusal.value.exit_code == 3
    assert verify_index(index).problems == (message,)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("lose", [Path.unlink, dangle])
def test_missing_files_are_refused(index: Path, name: str, lose: Callable[[Path], None]) -> None:
    lose(index / "gen-000002" / name)
    with pytest.raises(IndexCorruptError, match=f"gen-000002/{name} (is missing|cannot be read)"):
        open_index(index)


def test_strange_files_are_refused(index: Path) -> None:
    (index / "gen-000002" / "lucene").mkdir()
    (index / "gen-000002" / "lucene" / "write.lock").touch()
    open_index(index).close()
    (index / "gen-000002" / "lucene" / "segments_9").touch()
    with pytest.raises(IndexCorruptError, match="lucene/segments_9 is not in the manifest"):
        open_index(index)


@pytest.mark.parametrize("harm", [flip, truncate, empty, append, zero])
def test_damaged_current(index: Path, harm: Callable[[Path], None]) -> None:
    harm(index / "CURRENT")
    with pytest.raises(IndexCorruptError, match="CURRENT is damaged"):
        open_index(index)
    assert not verify_index(index).ok
    # What the message says to do works, and removes nothing while it is unclear what was good.
    with build_index(collection(4), index, lucene=False) as generation:
        assert generation.number == 3
    assert verify_index(index).ok
    assert (index / "gen-000001").is_dir()


def test_missing_current(index: Path) -> None:
    (index / "CURRENT").unlink()
    with pytest.raises(IndexNotFoundError, match="CURRENT is missing"):
        open_index(index)
    with pytest.raises(IndexNotFoundError):
        verify_index(index)


def test_current_may_not_point_at_another_generation(index: Path) -> None:
    write_current(index, Current("gen-000001", read_current(index).manifest_sha256))
    with pytest.raises(IndexCorruptError, match=r"gen-000001/manifest.json has sha256"):
        open_index(index)
    write_current(index, Current("gen-000007", "0" * 64))
    with pytest.raises(IndexCorruptError, match=r"gen-000007/manifest.json cannot be read"):
        open_index(index)


def rewrite_manifest(index: Path, **changes: object) -> None:
    """Change the manifest and vouch for it in CURRENT, as another version of the package could have written it."""
    file = index / "gen-000002" / "manifest.json"
    data = json.dumps({**json.loads(file.read_bytes()), **changes}).encode()
    file.write_bytes(data)
    write_current(index, Current("gen-000002", hashlib.sha256(data).hexdigest()))


def test_other_formats_are_refused(index: Path) -> None:
    rewrite_manifest(index, format=2)
    with pytest.raises(IndexMismatchError, match=r"is of format 2, but this version reads format 1"):
        open_index(index)


def test_unknown_manifest_keys_are_refused(index: Path) -> None:
    rewrite_manifest(index, surprise=1)
    with pytest.raises(IndexCorruptError, match=r"does not hold a manifest.*surprise"):
        open_index(index)


def test_other_faiss_major_is_refused(index: Path) -> None:
    rewrite_manifest(index, faiss="0.9.0")
    with open_index(index) as generation, pytest.raises(IndexMismatchError, match=r"written by FAISS 0\.9\.0"):
        _ = generation.dense


def test_counts_must_agree(index: Path) -> None:
    rewrite_manifest(index, documents=20)
    (problem,) = verify_index(index).problems
    assert "doc_ids.txt has 22 different ids, but the manifest says 20" in problem


def test_unverified_damage_gives_errors_not_answers(index: Path) -> None:
    generation = index / "gen-000002"
    for name in ("faiss.index", "docs.jsonl", "docs.offsets.npy"):
        zero(generation / name)
    with open_index(index, verify=False) as opened:
        with pytest.raises(IndexCorruptError, match=r"faiss.index cannot be read by FAISS"):
            _ = opened.dense
        with pytest.raises(IndexCorruptError, match=r"docs.offsets.npy"):
            _ = opened.documents
    truncate(generation / "tokens.npy")
    with pytest.raises(IndexCorruptError, match=r"tokens.npy has"):
        open_index(index, verify=False)


def test_verify_reports_a_sound_index_and_all_problems(index: Path) -> None:
    report = verify_index(index)
    assert (report.ok, report.generation, report.files) == (True, "gen-000002", len(FILES) - 1)
    assert report.size_bytes == sum(
        file.stat().st_size for file in (index / "gen-000002").iterdir() if file.name != "manifest.json"
    )
    flip(index / "gen-000002" / "tokens.npy")
    append(index / "gen-000002" / "docs.jsonl")
    (index / "gen-000002" / "faiss.index").unlink()
    assert len(verify_index(index).problems) == 3
