"""Top-k accuracy by answer string, normalised as DPR does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from elastic_ir.cli import app
from elastic_ir.datasets import load
from elastic_ir.errors import DatasetError
from elastic_ir.evaluate.answers import answer_qrels, normalised, wanted_documents


def holds(answer: str, text: str) -> bool:
    return bool(answer_qrels({"q": [answer]}, {"d": text}, [{"q": {"d": 1.0}}])["q"]["d"])


@pytest.mark.parametrize(
    ("answer", "text", "wanted"),
    [
        ("New York", "He moved to new york, then left.", True),
        ("New York", "York is new", False),
        ("art", "the start of it", False),
        ("U.S.", "the U. S. army", True),
        ("café", "a cafe\u0301 in Paris", True),
        ("3,000", "some 3,000 of them", True),
        ("3,000", "some 3000 of them", False),
        ("", "anything", False),
        (" \u200b ", "anything", False),
    ],
)
def test_tokens_must_stand_together(answer: str, text: str, wanted: bool) -> None:
    assert holds(answer, text) is wanted


def test_what_trec_eval_puts_within_the_cutoff_is_judged() -> None:
    run = {"q": {"a": 1.00000002, "z": 1.00000001}}  # equal in single precision, and then z is first
    assert wanted_documents([run], ["q"], 1) == {"z"}


def test_what_is_judged() -> None:
    assert normalised("It's 5%") == "\0it\0'\0s\0005\0%\0"
    answers = {"q1": ["cat"], "q2": ["dog"], "q3": ["fish"]}
    runs = [{"q1": {"a": 2.0, "b": 1.0}, "other": {"z": 1.0}}, {"q1": {"c": 1.0}, "q2": {"b": 1.0}}]
    assert wanted_documents(runs, answers) == {"a", "b", "c"}
    assert wanted_documents(runs, answers, depth=1) == {"a", "b", "c"}
    assert wanted_documents(runs[:1], answers, depth=1) == {"a"}
    contents = {"a": "a dog", "b": "The Cat .", "c": "two cats"}
    assert answer_qrels(answers, contents, runs) == {"q1": {"a": 0, "b": 1, "c": 0}, "q2": {"b": 0}, "q3": {"-": 0}}


@pytest.fixture
def questions(six_documents: Path) -> Path:
    """The six documents, with answers to their questions."""
    path = six_documents / "queries.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row, answers in zip(rows, (["cat"], ["nowhere at all"], ["sea"]), strict=False):
        row["answers"] = answers
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return six_documents


def test_top_k_accuracy_of_a_run(questions: Path, tmp_path: Path) -> None:
    dataset = load(str(questions))
    answers, texts = dataset.answers(), {d.doc_id: d.text for d in dataset.documents()}
    run = tmp_path / "all.trec"
    lines = [f"{q} Q0 {d} {rank} {-rank} t" for q in answers for rank, d in enumerate(sorted(texts), 1)]
    run.write_text("\n".join(lines) + "\n")
    output = tmp_path / "figures.json"
    result = CliRunner().invoke(app, ["evaluate", "-d", str(questions), "--answers", str(run), "-o", str(output)])
    assert result.exit_code == 0, result.output
    held = [any(normalised(found[0]) in normalised(text) for text in texts.values()) for found in answers.values()]
    assert 0 < sum(held) < len(held)
    means = json.loads(output.read_text())["means"]["all"]
    assert means["hit_rate@100"] == pytest.approx(sum(held) / len(held))
    assert list(means) == ["hit_rate@1", "hit_rate@5", "hit_rate@20", "hit_rate@100"]
    asked = ["evaluate", "-d", str(questions), "--answers", str(run), "--metrics", "mrr@10,recall@100"]
    assert "recall@100 asks for all right passages" in str(CliRunner().invoke(app, asked).exception)


def test_a_title_answers_nothing(questions: Path) -> None:
    path = questions / "corpus.jsonl"
    first = json.loads(path.read_text().splitlines()[0]) | {"title": "nowhere at all"}
    path.write_text(json.dumps(first) + "\n")
    (text,) = load(str(questions)).texts_of({first["_id"], "no such"}).values()
    assert text == first["text"]


def test_datasets_without_answers_say_so(six_documents: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="has no answers; wanted a field `answers`"):
        load(str(six_documents)).answers()
    path = six_documents / "queries.jsonl"
    rows = [json.loads(line) | {"answers": "one"} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DatasetError, match="line 1: wanted `answers`, a list of strings"):
        load(str(six_documents)).answers()
    result = CliRunner().invoke(app, ["evaluate", "--qrels", "q.txt", "--answers", "run.trec"])
    assert "--answers needs --dataset" in str(result.exception)
