"""What a build would take: sizes as FAISS writes them, a factory for every size, nothing written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from elastic_ir.buildplan import LUCENE_SHARE, plan_build
from elastic_ir.cli import app
from elastic_ir.config import DenserConfig
from elastic_ir.datasets import Dataset, load
from elastic_ir.dense import ElasticDenser
from elastic_ir.errors import InputError
from elastic_ir.index.factory import _training_points, bytes_of, load_faiss, make_index, suggested
from elastic_ir.library import build


@pytest.mark.parametrize("factory", ["Flat", "IVF8,Flat", "HNSW16", "IVF8,PQ4x4", "SQ8", "PCA16,Flat", "PQ4x4,RFlat"])
def test_sizes_are_those_of_the_file(factory: str, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(4000, 32)).astype(np.float32)
    sizes = []
    for count in (1000, 4000):  # their difference leaves out codebooks
        index = make_index(factory, 32)
        index.train(vectors)
        index.add(vectors[:count])
        load_faiss().write_index(index, str(tmp_path / "index"))
        sizes.append((tmp_path / "index").stat().st_size)
    assert bytes_of(factory, 32, 3000) == pytest.approx(sizes[1] - sizes[0], rel=0.05)


def test_a_factory_for_every_size() -> None:
    assert suggested(5_000, 384) == "Flat"
    assert suggested(165_000, 384) == "IVF2048,Flat"
    assert suggested(21_000_000, 384) == "IVF16384,PQ96"
    for count in (100_001, 2_000_001, 100_000_000):
        make_index(suggested(count, 384), 384)
    assert bytes_of(suggested(21_000_000, 384), 384, 21_000_000) < 2.3e9


def test_training_takes_what_fits_in_memory() -> None:
    points = [_training_points(make_index(factory, 8)) for factory in ("IVF4,Flat", "IVF4096,Flat", "IVF32768,Flat")]
    assert points == [256 * 256, 500_000, 39 * 32768]


class Counted(Dataset):
    """A catalogue's dataset that must not be read."""

    name = key = "far-away"
    remote = True

    def __init__(self, count: int | None) -> None:
        self._count = count

    @property
    def count(self) -> int | None:
        return self._count

    def documents(self) -> Any:
        raise AssertionError("a download")

    def fingerprint(self) -> str:
        return ""


def test_nothing_is_read_or_written(bert_folder: Path, tmp_path: Path) -> None:
    denser = ElasticDenser.from_pretrained(bert_folder)
    plan = plan_build(Counted(21_000_000), tmp_path / "none" / "yet", denser, DenserConfig())
    assert (plan.documents, plan.sampled, plan.vectors) == (21_000_000, 0, 21_000_000 * 64)
    assert plan.encoding_s > 0
    text = "\n".join(plan.lines())
    assert "taken as passages of a hundred words" in text
    assert f"suggested   --factory {suggested(21_000_000, 16)}" in text
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="wanted --documents N"):
        plan_build(Counted(None), tmp_path, denser, DenserConfig())
    assert plan_build(Counted(None), tmp_path, denser, DenserConfig(), documents=7).documents == 7
    small = plan_build(Counted(10**12), tmp_path, None, DenserConfig())
    assert (small.faiss, small.encoding_s) == (0, 0)
    assert "too small" in small.lines()[-1]


def test_stores_are_as_large_as_planned(bert_folder: Path, tmp_path: Path) -> None:
    rows = [{"_id": f"document-{row}", "text": f"some words of text {row} " * 9} for row in range(300)]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "queries.jsonl").write_text("")
    dataset, denser = load(str(tmp_path)), ElasticDenser.from_pretrained(bert_folder)
    plan = plan_build(dataset, tmp_path / "index", denser, DenserConfig())
    folder = build(dataset, tmp_path / "index", denser).path
    made = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != "faiss.index")
    lucene = sum(path.stat().st_size for path in (folder / "lucene").iterdir())
    text = sum(len(document.contents) for document in dataset.documents())
    assert plan.texts - LUCENE_SHARE * text == pytest.approx(made - lucene, rel=0.1)


def test_the_command_says_it(bert_folder: Path, six_documents: Path, tmp_path: Path) -> None:
    options = ["--dataset", str(six_documents), "--model", str(bert_folder), "--output", str(tmp_path / "index")]
    result = CliRunner().invoke(app, ["index", *options, "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "documents   6 (6 were read to estimate)" in result.output
    assert "factory     Flat" in result.output
    assert not (tmp_path / "index").exists()
    assert load(str(six_documents)).count == 6
