"""A build that is killed or fails loses nothing and ends in the same bytes."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from index_helpers import HashEncoder, collection, hashes, tokenize

from elastic_ir.errors import IndexNotFoundError
from elastic_ir.index import build_index, open_index, verify_index
from elastic_ir.records import Document

COUNT = 200
BUILD = """
import pathlib, sys
from index_helpers import HashEncoder, collection, tokenize
from elastic_ir.index import build_index
build_index(iter(collection(200)), pathlib.Path(sys.argv[1]), encoder=HashEncoder(delay_s=0.05), tokenize=tokenize,
            factory="IVF8,Flat", lucene=False, chunk_size=4)
"""


def build(path: Path, encoder: HashEncoder, documents: Iterator[Document] | None = None, **settings: object) -> Path:
    documents = iter(collection(COUNT)) if documents is None else documents
    settings = {"factory": "IVF8,Flat", "chunk_size": 8, **settings}
    return build_index(documents, path, encoder=encoder, tokenize=tokenize, lucene=False, **settings).path


def test_kill_at_random_times_then_resume(tmp_path: Path) -> None:
    wanted = hashes(build(tmp_path / "unkilled", HashEncoder(), chunk_size=4))
    path = tmp_path / "killed"
    build_index(collection(3), path, lucene=False)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    delays = random.Random(7)
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", BUILD, path], env=environment, start_new_session=True) as process:
            done = chunks(path)
            while chunks(path) <= done and process.poll() is None:
                time.sleep(0.005)
            time.sleep(delays.uniform(0, 0.1))
            os.killpg(process.pid, signal.SIGKILL)
        with open_index(path) as generation:
            assert len(generation.documents) == 3
    saved = 4 * chunks(path)
    assert 12 <= saved < COUNT
    encoder = HashEncoder()
    assert hashes(build(path, encoder, chunk_size=4)) == wanted
    assert COUNT - saved - 4 <= encoder.texts_seen <= COUNT - saved + 4
    assert sorted(entry.name for entry in path.iterdir()) == [".lock", "CURRENT", "gen-000001", "gen-000002"]


CRASH = """
import os, pathlib, sys
from index_helpers import collection, tokenize
from elastic_ir.index import build_index, open_index, verify_index
path, after = pathlib.Path(sys.argv[1]), sys.argv[2] == "after"
left = -1

def crashing(name):
    real = getattr(os, name)
    def call(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            if after:
                real(*args, **kwargs)
            os._exit(137)
        return real(*args, **kwargs)
    setattr(os, name, call)

def built(turn):
    global left
    child = os.fork()
    if child == 0:
        left = turn
        build_index(collection(turn + 5), path, tokenize=tokenize, lucene=False)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 137), code
    return code == 0

for name in ("fsync", "replace", "rmdir", "unlink"):
    crashing(name)
build_index(collection(5), path, lucene=False).close()
turn, before = 1, 5
while not built(turn):
    report = verify_index(path)
    assert report.ok, report
    with open_index(path) as generation:
        now = generation.manifest.documents
        assert now in (before, turn + 5) and len(list(generation.documents)) == now, (turn, before, now)
    turn, before = turn + 1, now
with open_index(path) as generation:
    assert generation.manifest.documents == turn + 5
assert len(list(path.glob("gen-*"))) == 2, list(path.iterdir())
print(turn - 1, "crashes")
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_crash_at_every_durable_step_leaves_a_whole_generation(tmp_path: Path, when: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", CRASH, tmp_path, when]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) > 12


def chunks(path: Path) -> int:
    return len(list(path.glob("encoding.tmp/chunk-*.npy")))


def stopped(path: Path, **card: str) -> None:
    """Leave 20 chunks of an unfinished build behind."""

    def documents() -> Iterator[Document]:
        yield from collection(COUNT)[:160]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(path, HashEncoder(**card), documents())
    assert chunks(path) == 20


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return hashes(build(tmp_path_factory.mktemp("whole"), HashEncoder()))


def test_interrupted_work_is_taken_over(tmp_path: Path, wanted: dict[str, str]) -> None:
    stopped(tmp_path)
    with pytest.raises(IndexNotFoundError, match="continues where it stopped"):
        open_index(tmp_path)
    encoder = HashEncoder()
    assert hashes(build(tmp_path, encoder)) == wanted
    assert encoder.texts_seen == COUNT - 160


def test_torn_journal_and_damaged_chunks_are_encoded_again(tmp_path: Path, wanted: dict[str, str]) -> None:
    stopped(tmp_path)
    work = tmp_path / "encoding.tmp"
    journal = work / "journal"
    journal.write_bytes(journal.read_bytes()[:-20])
    flipped = bytearray((work / "chunk-000003.npy").read_bytes())
    flipped[-1] ^= 1
    (work / "chunk-000003.npy").write_bytes(flipped)
    (work / "chunk-000005.npy").unlink()
    encoder = HashEncoder()
    assert hashes(build(tmp_path, encoder)) == wanted
    assert encoder.texts_seen == COUNT - 160 + 3 * 8


def test_changed_documents_are_encoded_again(tmp_path: Path) -> None:
    stopped(tmp_path)
    changed = [*collection(COUNT)]
    changed[17] = changed[17]._replace(text="changed")
    encoder = HashEncoder()
    resumed = hashes(build(tmp_path, encoder, iter(changed)))
    assert encoder.texts_seen == COUNT - 160 + 8
    assert resumed == hashes(build(tmp_path / "fresh", HashEncoder(), iter(changed)))


@pytest.mark.parametrize(
    ("card", "settings"), [({"subnet": "w0.50-d1"}, {}), ({"fingerprint": "0"}, {}), ({}, {"chunk_size": 9})]
)
def test_work_of_another_build_is_thrown_away(tmp_path: Path, card: dict[str, str], settings: dict[str, int]) -> None:
    stopped(tmp_path)
    encoder = HashEncoder(**card)
    build(tmp_path, encoder, **settings)
    assert encoder.texts_seen == COUNT


def test_every_failing_system_call_leaves_a_whole_generation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = {"left": -1}

    def failing(name: str) -> None:
        real = getattr(os, name)

        def call(*args: object, **kwargs: object) -> object:
            calls["left"] -= 1
            if calls["left"] == 0:
                named = [str(args[0])] if name != "fsync" else []
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *named)
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, call)

    build_index(collection(5), tmp_path, encoder=HashEncoder(), lucene=False)
    for name in ("fsync", "replace", "rename"):
        failing(name)
    failures: list[OSError] = []
    for turn in range(1, 100):
        with open_index(tmp_path) as before:
            count = before.manifest.documents + 1
        calls["left"] = turn
        try:
            build_index(collection(count), tmp_path, encoder=HashEncoder(), tokenize=tokenize, lucene=False)
            break
        except OSError as exc:
            failures.append(exc)
        calls["left"] = -1
        assert verify_index(tmp_path).ok
        with open_index(tmp_path) as generation:
            assert generation.manifest.documents in (count - 1, count)
            assert len(generation.documents) == generation.manifest.documents
    assert len(failures) > 12
    assert len(list(tmp_path.glob("gen-*"))) == 2
    assert all(failure.errno == errno.ENOSPC and failure.filename for failure in failures)


def test_work_of_a_killed_build_is_lost_for_another_encoder_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fails_late() -> Iterator[Document]:
        yield from collection(100)
        raise OSError(errno.EIO, "the disk")

    with pytest.raises(OSError, match="the disk"):
        build(tmp_path, HashEncoder(), fails_late())
    saved = chunks(tmp_path)
    assert saved > 0
    build_index(collection(3), tmp_path, lucene=False).close()
    assert chunks(tmp_path) == saved
    build(tmp_path, HashEncoder(fingerprint="e" * 64))
    assert f"{saved} encoded chunks of another model or size are thrown away" in caplog.text
