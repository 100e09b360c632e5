"""A journal cut anywhere goes on to the same bytes."""

from __future__ import annotations

import fcntl
import gzip
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from elastic_ir.errors import RunFileError
from elastic_ir.evaluate.journal import RunJournal

BATCHES = [("a", "q1 Q0 d 1 1 t\n"), ("b", ""), ("c", "q3 Q0 é 1 1 t\n"), ("d", "q4 Q0 d 1 1 t\n")]
WHOLE = "".join(lines for _, lines in BATCHES).encode()


def advance(journal: RunJournal, batches: Sequence[tuple[str, str]]) -> int:
    """Go through ``batches``; how many were on disk already."""
    ready = 0
    for queries, lines in batches:
        if journal.resume(queries):
            ready += 1
        else:
            journal.commit(queries, lines, {"said": queries})
    return ready


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A target whose journal has three batches of four."""
    target = tmp_path / "stopped" / "x.trec"
    with RunJournal(target, "key") as journal:
        advance(journal, BATCHES[:3])
    return target


def copied(stopped: Path, folder: Path) -> tuple[Path, Path, Path]:
    """A copy of a stopped run: target, part and notes."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(stopped.parent, folder)
    return folder / "x.trec", folder / "x.trec.part", folder / "x.trec.part.jsonl"


@pytest.mark.parametrize("which", ["part", "notes"])
def test_cut_at_any_byte_it_ends_in_the_same_bytes(stopped: Path, tmp_path: Path, which: str) -> None:
    place = {"part": 1, "notes": 2}[which]
    size = copied(stopped, tmp_path / "copy")[place].stat().st_size
    counts = []
    for end in range(0, size + 1, 1 if which == "part" else 7):
        paths = copied(stopped, tmp_path / "copy")
        with paths[place].open("r+b") as file:
            file.truncate(end)
        with RunJournal(paths[0], "key") as journal:
            counts.append(advance(journal, BATCHES))
            assert [note["said"] for note in journal.notes()] == ["a", "b", "c", "d"]
            journal.finish()
        assert paths[0].read_bytes() == WHOLE
        assert [path.name for path in paths[0].parent.iterdir()] == ["x.trec"]
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] >= 2


@pytest.mark.parametrize("which", ["part", "notes"])
def test_damaged_bytes_are_not_taken_over(stopped: Path, tmp_path: Path, which: str) -> None:
    place = {"part": 1, "notes": 2}[which]
    for offset in range(0, copied(stopped, tmp_path / "copy")[place].stat().st_size, 11):
        paths = copied(stopped, tmp_path / "copy")
        content = bytearray(paths[place].read_bytes())
        content[offset] ^= 4
        paths[place].write_bytes(content + b"torn")
        with RunJournal(paths[0], "key") as journal:
            assert advance(journal, BATCHES) < 3
            journal.finish()
        assert paths[0].read_bytes() == WHOLE


def test_it_goes_on_behind_the_last_batch(stopped: Path) -> None:
    with RunJournal(stopped, "key") as journal:
        assert advance(journal, BATCHES) == 3
        assert not stopped.exists()
        journal.finish()
    assert stopped.read_bytes() == WHOLE


@pytest.mark.parametrize("key", ["key", "another"])
def test_other_queries_or_another_command_are_done_anew(stopped: Path, key: str) -> None:
    changed = [BATCHES[0], ("x", "new\n"), BATCHES[2]]
    with RunJournal(stopped, key) as journal:
        assert advance(journal, changed) == (1 if key == "key" else 0)
        journal.finish()
    assert stopped.read_bytes() == "".join(lines for _, lines in changed).encode()


def test_fewer_queries_than_are_on_disk_leave_the_rest_out(stopped: Path) -> None:
    with RunJournal(stopped, "key") as journal:
        assert advance(journal, BATCHES[:1]) == 1
        assert [note["said"] for note in journal.notes()] == ["a"]
        journal.finish()
    assert stopped.read_bytes() == BATCHES[0][1].encode()


def test_a_gzipped_run_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / "one.trec.gz", tmp_path / "two.trec.gz"]
    with RunJournal(paths[0], "key") as journal:
        advance(journal, BATCHES[:2])
    for path in paths:
        with RunJournal(path, "key") as journal:
            advance(journal, BATCHES)
            journal.finish()
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert gzip.decompress(paths[0].read_bytes()) == WHOLE


def test_an_old_file_stays_until_the_end_and_nothing_is_left_of_a_start_that_failed(tmp_path: Path) -> None:
    target = tmp_path / "x.trec"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), RunJournal(target, "key"):
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["x.trec"]
    assert target.read_text() == "old"


def test_one_process_at_a_time(stopped: Path) -> None:
    with RunJournal(stopped, "key"), pytest.raises(RunFileError, match="another process"):
        RunJournal(stopped, "key")
    with RunJournal(stopped, "key") as journal:
        assert advance(journal, BATCHES) == 3


def test_notes_that_another_process_removes_before_the_lock_are_opened_again(
    stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock

    def lock_late(*arguments: Any) -> None:
        monkeypatch.undo()
        with RunJournal(stopped, "key") as other:
            advance(other, BATCHES)
            other.finish()
        lock(*arguments)

    monkeypatch.setattr(fcntl, "flock", lock_late)
    with RunJournal(stopped, "key") as journal:
        with pytest.raises(RunFileError, match="another process"):
            RunJournal(stopped, "key")
        assert advance(journal, BATCHES) == 0
        journal.finish()
    assert stopped.read_bytes() == WHOLE


@pytest.mark.parametrize("name", [".", "file/x.trec", "folder", "n" * 300])
def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunFileError):
        RunJournal(tmp_path / name, "key")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
