"""``load``: which kind of dataset a name means."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from elastic_ir.datasets import load
from elastic_ir.datasets.pydocs import Pydocs
from elastic_ir.errors import DatasetError


def test_a_known_name_wins_over_a_folder_called_so(
    six_documents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    six_documents.rename(tmp_path / "pydocs")
    monkeypatch.chdir(tmp_path)
    assert isinstance(load("pydocs"), Pydocs)
    folder = load("./pydocs")
    assert [document.doc_id for document in folder.documents()] == ["d0", "d1", "d2", "d3", "d4", "d5"]
    assert load(folder.name).key == folder.key


def test_unknown_names_are_told_in_one_line_with_the_nearest() -> None:
    with pytest.raises(DatasetError, match="did you mean 'beir/scifact/test'") as raised:
        load("beir/scifac/test")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["", "no-such-dataset", "a\0b", "x" * 5000, "no/such/folder/"])
def test_names_that_nothing_has(name: str) -> None:
    with pytest.raises(DatasetError, match="is unknown"):
        load(name)


def test_a_file_of_another_kind_is_told(tmp_path: Path) -> None:
    (tmp_path / "corpus.json").write_text("")
    with pytest.raises(DatasetError, match=r"is a file of kind '.json'; did you mean '.jsonl'\?.*wanted documents as"):
        load(str(tmp_path / "corpus.json"))


def test_a_split_is_of_beir_folders_alone(six_documents: Path, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("# Page")
    (tmp_path / "rows.csv").write_text("text\none\n")
    assert load(str(six_documents)).qrels() == load(str(six_documents), "test").qrels()
    with pytest.raises(DatasetError, match=r"wanted it in the id, e\.g\. beir/scifact/train"):
        load("beir/scifact/test", "train")
    for name in ("pydocs", str(tmp_path), str(tmp_path / "rows.csv")):
        assert not load(name).has_splits
        with pytest.raises(DatasetError, match=r"found split 'test' .* has no splits"):
            load(name, "test")


def test_importing_the_room_loads_nothing_heavy() -> None:
    heavy = {"ir_datasets", "numpy", "pandas", "torch", "requests"}
    code = f"import sys, elastic_ir.datasets; sys.exit(', '.join({heavy} & {{*sys.modules}}) or None)"
    subprocess.run([sys.executable, "-c", code], check=True)
