"""What a new file may take the place of."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from elastic_ir.cli.options import check_file
from elastic_ir.durable import whole
from elastic_ir.errors import RunFileError
from elastic_ir.evaluate.files import replacing
from elastic_ir.evaluate.journal import RunJournal


def by_replacing(path: Path) -> None:
    with replacing(path) as file:
        file.write("new")


def by_whole(path: Path) -> None:
    with whole(path) as part:
        part.write_text("new")


def by_journal(path: Path) -> None:
    with RunJournal(path, "key") as journal:
        journal.commit("queries", "new", {})
        journal.finish()


WRITERS = [by_replacing, by_whole, by_journal]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("before", ["old", None])
def test_a_link_stays_and_what_it_names_is_replaced(
    tmp_path: Path, write: Callable[[Path], None], before: str | None
) -> None:
    (tmp_path / "links").mkdir()
    target, link = tmp_path / "target", tmp_path / "links" / "link"
    link.symlink_to("../target")
    if before is not None:
        target.write_text(before)
    write(link)
    assert link.is_symlink()
    assert target.read_text() == link.read_text() == "new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["link", "links", "target"]


@pytest.mark.parametrize("write", [*WRITERS, check_file])
def test_a_pipe_or_folder_is_no_place_for_a_file(tmp_path: Path, write: Callable[[Path], None]) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name, found in (("folder", "a folder"), ("pipe", "a device, pipe or socket"), ("link", "a device, pipe")):
        with pytest.raises(RunFileError, match=f"{name} is {found}"):
            write(tmp_path / name)
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link", "pipe"]
