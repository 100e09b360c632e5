"""The command line as a stranger meets it: answers, one-line errors, exit codes, a quick start."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from elastic_ir.cli import app, main
from elastic_ir.errors import ElasticIRError
from elastic_ir.evaluate import read_metadata
from elastic_ir.terminal import shown

HEAVY = ("torch", "faiss", "numba", "jnius", "transformers", "ranx", "numpy")


def call(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and error of one command, as ``main`` gives them."""
    result = CliRunner().invoke(app, list(arguments))
    if isinstance(result.exception, ElasticIRError):
        return result.exception.exit_code, result.stdout, f"error: {result.exception}\n"
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, bert_folder: Path, cross_encoder_folder: Path) -> dict[str, str]:
    """A BEIR folder, an index of it and a pipeline file."""
    folder = tmp_path_factory.mktemp("cli")
    data = folder / "six"
    (data / "qrels").mkdir(parents=True)
    texts = ["the cat sat on the mat", "a dog ran", "the bird flew in the sky", "a fish swam in the sea"]
    (data / "corpus.jsonl").write_text(
        "".join(json.dumps({"_id": f"d{i}", "text": t}) + "\n" for i, t in enumerate(texts))
    )
    (data / "queries.jsonl").write_text(
        '{"_id": "q1", "text": "cat on the mat"}\n{"_id": "q2", "text": "fish in the sea"}\n'
    )
    (data / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td0\t1\nq2\td3\t1\n")
    config = folder / "pipeline.yaml"
    config.write_text(yaml.safe_dump({
        "retriever": "dense", "candidates": 4, "precision": "fp32", "denser": {"model": str(bert_folder)},
        "reranker": {"model": str(cross_encoder_folder), "candidates": 4},
    }))  # fmt: skip
    code, out, err = call("index", "-d", str(data), "-m", str(bert_folder), "-o", str(folder / "index"))
    assert code == 0, err
    assert "4 documents" in out
    return {"data": str(data), "index": str(folder / "index"), "pipeline": str(config), "folder": str(folder)}


def test_help_and_import_are_light() -> None:
    code = f"import sys, elastic_ir, elastic_ir.cli; sys.exit(any(name in sys.modules for name in {HEAVY!r}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "elastic_ir.cli", "--help"], capture_output=True, text=True, check=True
    )
    assert time.perf_counter() - started < 20  # a bound against hanging, not a speed test
    for command in ("demo", "index", "search", "run", "runs", "evaluate", "train", "verify", "doctor", "config"):
        assert command in done.stdout


@pytest.mark.parametrize("command", ["demo", "index", "search", "run", "evaluate", "train", "verify", "doctor"])
def test_every_command_has_an_example(command: str) -> None:
    assert "Example: elastic-ir" in call(command, "--help")[1]


def test_search_run_evaluate_verify(built: dict[str, str], tmp_path: Path) -> None:
    code, out, _ = call("search", built["pipeline"], "cat on the mat", "--index", built["index"], "-k", "2", "--json")
    answer = json.loads(out)
    assert code == 0
    assert len(answer["hits"]) == 2
    assert answer["level"] == "dense:w1.00-d4+rerank:w1.00:4@1.00"
    runs = []
    for level in ("bm25", "dense:w0.50-d2"):
        runs.append(str(tmp_path / f"{level.split(':')[0]}.trec"))
        code, out, err = call(
            "run", built["pipeline"], "-d", built["data"], "--index", built["index"], "--level", level, "-o", runs[-1]
        )
        assert code == 0, err
    table, report = tmp_path / "table.json", tmp_path / "report.html"
    code, out, err = call("evaluate", "-d", built["data"], *runs, "-o", str(table), "--report", str(report))
    assert code == 0, err
    assert json.loads(table.read_text())["means"]["bm25"]["ndcg@10"] == 1.0
    assert "fish in the sea" in report.read_text() or report.stat().st_size > 1000
    assert call("verify", built["index"])[0] == 0
    metadata = read_metadata(Path(runs[0]))
    assert metadata["rerank_depth"] == 0  # the level had no reranker, whatever the pipeline has
    assert len(metadata["corpus_sha256"]) == 64
    assert set(metadata["latency_ms"]) == {"mean"}
    assert call("evaluate", "-d", built["data"], *runs, "--metrics", " ndcg@10 , map ")[0] == 0


def test_index_options_win_over_the_specification(built: dict[str, str], bert_folder: Path, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(yaml.safe_dump({"dataset": built["data"], "model": str(bert_folder), "width": 0.5, "depth": 2}))
    code, _, err = call("index", "--spec", str(spec), "--width", "1", "-o", str(tmp_path / "index"))
    assert code == 0, err
    manifest = json.loads(next((tmp_path / "index").glob("gen-*/manifest.json")).read_text())
    assert manifest["encoder"]["subnet"] == "w1.00-d2"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"widht: 0.5", "unknown key 'widht'; did you mean 'width'?"),
        (b"width: [wide]", "width: found ['wide']; Input should be a valid number"),
        (b"depth: 0", "depth: found 0"),
        (b"- dataset", "found list; wanted keys and values"),
        (b"dataset: \xff", "is not UTF-8"),
        (b"dataset: [", "is not YAML"),
        (b"dataset: a\ndataset: b", "'dataset' comes twice"),
        (b"[" * 100_000, "is not YAML"),
        (b"dataset: 2026-13-45", "is not YAML"),
        (b"#" * 2**21, "larger than 1 MiB"),
    ],
)
def test_a_bad_specification_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_bytes(content)
    code, _, err = call("index", "--spec", str(spec), "-o", str(tmp_path / "index"))
    assert code == 2
    assert f"{spec}" in err
    assert message in err
    assert err.count("\n") == 1


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert shown("a\x1b[2Jb\x07\n\tc\x9b1m\ud800 é\x7f") == "a[2Jb c1m é"


def test_wrong_input_is_one_line_and_an_exit_code(built: dict[str, str], tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("retreiver: dense\n")
    huge = tmp_path / "queries.tsv"
    huge.write_text(f"q1\t{'x' * 1_000_000}\n")
    recipe, unset, typo, nested = (tmp_path / f"{name}.yaml" for name in ("recipe", "unset", "typo", "nested"))
    recipe.write_text("{kind: denser, output: out, steps: 1}")
    unset.write_text("{kind: denser, teacher: $NO_SUCH_TEACHER, output: out, steps: 1}")
    typo.write_text("{kind: denser, teacher: x, output: out, stps: 1}")
    nested.write_text("{kind: denser, teacher: x, output: out, steps: 1, sampling: {stratgy: all}}")
    pipeline, index = built["pipeline"], built["index"]
    cases = [
        (["search", pipeline, "cat", "--index", str(tmp_path / "none")], 3, "none"),
        (["search", str(bad), "cat", "--index", index], 2, "did you mean 'retriever'"),
        (["search", pipeline, " ", "--index", index], 2, "empty"),
        (["search", "csv", "reader", "--index", index], 2, "one query in quotes"),
        (["search", pipeline, "cat", "-k", "0", "--index", index], 2, "k is 0"),
        (["search", pipeline, "cat", "--level", "dense:w9", "--index", index], 2, "wanted"),
        (["search", pipeline, "cat", "-d", "no/such/dataset"], 2, "no/such/dataset"),
        (["run", pipeline, "--queries", str(huge), "--index", index, "-o", str(tmp_path / "r.trec")], 2, "line 1"),
        (["index", "-d", built["data"], "-m", "no-such-model", "-o", str(tmp_path / "i")], 3, "no-such-model"),
        (["index", "-o", str(tmp_path / "i")], 2, "no dataset"),
        (["index", "-d", built["data"], "--documents", "5", "-o", str(tmp_path / "i")], 2, "is for --dry-run"),
        (["search", pipeline, "--index", index], 2, "and no query"),
        (["search", pipeline, "cat", "--level", "dense", "--index", index], 2, "names no sub-network"),
        (["search", pipeline, "cat", "--level", "bm25:w0.50-d2", "--index", index], 2, "BM25 has no sub-network"),
        (["train", str(recipe)], 2, "key 'teacher' is missing"),
        (["train", str(unset)], 2, "variable NO_SUCH_TEACHER, which is not set"),
        (["train", str(typo)], 2, "unknown key 'stps'; did you mean 'steps'?"),
        (["train", str(nested)], 2, "unknown key 'sampling.stratgy'"),
        (["index", "-d", built["data"], "--depth", "0", "-o", str(tmp_path / "i")], 2, "depth: found 0"),
        (["evaluate", "-d", built["data"], str(tmp_path / "absent.trec")], 2, "absent.trec"),
        (["verify", str(tmp_path)], 3, str(tmp_path)),
        (["train", str(tmp_path / "absent.yaml")], 2, "absent.yaml"),
    ]
    for arguments, wanted_code, message in cases:
        code, out, err = call(*arguments)
        assert code == wanted_code, (arguments, err)
        assert message in err, arguments
        assert err.count("\n") == 1, (arguments, err)
        assert not out
    assert not (tmp_path / "r.trec").exists()


def test_a_collection_without_judgements_can_be_linted(built: dict[str, str], tmp_path: Path) -> None:
    data, run = tmp_path / "data", tmp_path / "run.trec"
    data.mkdir()
    for name in ("corpus.jsonl", "queries.jsonl"):
        (data / name).write_bytes((Path(built["data"]) / name).read_bytes())
    assert call("run", built["pipeline"], "-d", str(data), "--index", built["index"], "-o", str(run))[0] == 0
    code, out, err = call("runs", "lint", str(run), "-d", str(data))
    assert code == 0
    assert "no relevance judgments" in err
    assert "queries" in out


def test_another_collections_index_is_told_of(
    built: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"_id": "other", "title": "", "text": "a cat"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "cat"}\n')
    call("search", built["pipeline"], "cat", "--index", built["index"], "-d", str(tmp_path))
    assert "does not hold document 'other'" in caplog.text
    caplog.clear()
    call("search", built["pipeline"], "cat", "--index", built["index"], "-d", built["data"])
    assert "does not hold" not in caplog.text


def test_a_damaged_index_is_refused_by_name(built: dict[str, str], bert_folder: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    assert call("index", "-d", built["data"], "-m", str(bert_folder), "-o", str(index))[0] == 0
    vectors = next(index.glob("gen-*/faiss.index"))
    damaged = bytearray(vectors.read_bytes())
    damaged[-5] ^= 1
    vectors.write_bytes(damaged)
    code, _, err = call("search", built["pipeline"], "cat", "--index", str(index))
    assert code == 3
    assert "faiss.index" in err
    assert call("verify", str(index))[0] == 3


def test_main_turns_errors_into_exit_codes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["elastic-ir", "verify", "/nonexistent"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 3
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (PermissionError(13, "Permission denied", "/home/no/cache"), 4, "error: /home/no/cache: Permission denied\n"),
        (OSError(28, "No space left on device"), 4, "error: No space left on device\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(32, "Broken pipe"), 1, ""),
    ],
)
def test_main_survives_the_machine(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: BaseException,
    code: int,
    message: str,
) -> None:
    def failing(_: Path) -> None:
        raise raised

    monkeypatch.setattr("elastic_ir.demo.run_demo", failing)
    monkeypatch.setattr(sys, "argv", ["elastic-ir", "demo"])
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # a closed pipe makes typer replace both
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == code
    assert capsys.readouterr().err == message


def test_schema_and_check(built: dict[str, str]) -> None:
    assert "reranker" in json.loads(call("config", "schema")[1])["properties"]
    assert yaml.safe_load(call("config", "check", built["pipeline"])[1])["candidates"] == 4
