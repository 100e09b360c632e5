"""Placeholders in run paths, and figures over several datasets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from elastic_ir.errors import InputError
from elastic_ir.evaluate import Evaluations, evaluate
from elastic_ir.evaluate.datasets import label_of, runs_of


def test_labels_are_folder_names_and_ids(tmp_path: Path) -> None:
    (tmp_path / "sci fact").mkdir()
    assert label_of(str(tmp_path / "sci fact")) == "sci-fact"
    assert label_of("beir/scifact/test") == "beir-scifact-test"


@pytest.mark.parametrize(
    ("templates", "names"),
    [
        (["runs/bm25-{dataset}.trec", "runs/{dataset}.dense.trec.gz"], ["bm25", "dense"]),
        (["{dataset}/bm25.trec", "{dataset}/dense.trec"], ["bm25", "dense"]),
        (["bm25/{dataset}.trec", "dense/{dataset}.trec"], ["bm25", "dense"]),
        (["a/x-{dataset}.trec", "b/x-{dataset}.trec"], ["a/x-{dataset}.trec", "b/x-{dataset}.trec"]),
    ],
)
def test_runs_are_found_and_named(templates: list[str], names: list[str]) -> None:
    found = runs_of([Path(path) for path in templates], ["cacm", "nq"])
    assert list(found) == ["cacm", "nq"]
    for label, paths in found.items():
        assert list(paths) == names
        assert [str(path) for path in paths.values()] == [path.replace("{dataset}", label) for path in templates]


@pytest.mark.parametrize(
    ("templates", "labels", "message"),
    [
        (
            ["runs/a.trec"],
            ["cacm", "nq"],
            r"one file for 2 datasets \(cacm, nq\); wanted .* e.g. 'runs/a-{dataset}.trec'",
        ),
        (["{dataset}.trec"], ["nq", "nq"], "dataset 'nq' is given twice"),
        (["a.trec", "a.trec"], ["nq"], "run 'a.trec' is given twice"),
    ],
)
def test_paths_and_datasets_that_do_not_fit_are_refused(templates: list[str], labels: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        runs_of([Path(path) for path in templates], labels)


def test_means_weigh_datasets_alike() -> None:
    one = evaluate({"q": {"a": 1}}, {"x": {"q": {"a": 1.0}}, "y": {}}, ["map", "mrr"])
    two = evaluate({"q": {"a": 1}, "r": {"a": 1}}, {"x": {"q": {"a": 1.0}}, "y": {"r": {"a": 1.0}}}, ["map", "mrr"])
    both = Evaluations({"one": one, "two_": two})
    assert both.means == {"x": {"map": 0.75, "mrr": 0.75}, "y": {"map": 0.25, "mrr": 0.25}}
    read = json.loads(both.to_json())
    assert read["means"] == both.means
    assert read["datasets"]["two_"]["per_query"] == two.per_query
    text = both.to_markdown()
    assert text.index("## one") < text.index("## two_") < text.index("## mean of 2 datasets")
    assert "| x | **0.7500** | **0.7500** |" in text
    assert both.to_latex().count(r"\begin{tabular}") == 3
    assert Evaluations({"one": one}).to_json() == one.to_json()
    for single in (Evaluations({"one": one}).to_latex(), Evaluations({"one": one}).to_markdown()):
        assert single in (one.to_latex(), one.to_markdown())


def test_different_runs_have_no_means() -> None:
    one = evaluate({"q": {"a": 1}}, {"x": {"q": {"a": 1.0}}}, ["map"])
    other = evaluate({"q": {"a": 1}}, {"z": {"q": {"a": 1.0}}}, ["map"])
    with pytest.raises(InputError, match="same runs and measures"):
        Evaluations({"one": one, "other": other})
    with pytest.raises(InputError, match="0 kinds"):
        Evaluations({})
