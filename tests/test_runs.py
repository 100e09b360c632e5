"""Batch runs: streamed, resumed after a kill to the same bytes, in the forms that evaluations want."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from elastic_ir.cli import app
from elastic_ir.datasets import load
from elastic_ir.dense import ElasticDenser
from elastic_ir.errors import BackendError, IndexNotFoundError, InputError, RunFileError
from elastic_ir.evaluate import read_metadata, read_run
from elastic_ir.level import Level
from elastic_ir.library import build
from elastic_ir.pipeline import Pipeline
from elastic_ir.records import Hit, Query
from elastic_ir.runs import HITS_AT_ONCE, Shape, batch_size, write

WORDS = ["cat on mat", "where is the fish", "red tree", "a dog ran", "bird in the sky", "big fish", "small cat"]
QUERIES = [Query(f"q{i}", f"{WORDS[i % 7]} {WORDS[i % 5]}") for i in range(20)]

KILLER = """
import json, multiprocessing, random, sys, time
from pathlib import Path
from elastic_ir.pipeline import Pipeline
from elastic_ir.records import Query
from elastic_ir.runs import use_threads, write

config, folder, words, kills = json.loads(sys.argv[1])
queries = [Query(f"q{i}", f"{words[i % 7]} {words[i % 5]}") for i in range(200)]
whole, killed = Path(folder) / "whole.trec", Path(folder) / "killed.trec"
notes = Path(folder) / "killed.trec.part.jsonl"


def search(output):
    use_threads(1)
    with Pipeline.from_config(config) as pipeline:
        write(pipeline, queries, output, tag="t", k=5, batch=4, progress=False)


def lines():
    return notes.read_bytes().count(b"\\n") if notes.exists() else 0


def finished(output):
    child = fork.Process(target=search, args=(output,))
    child.start()
    child.join()


fork, dice, reached = multiprocessing.get_context("fork"), random.Random(6), []
finished(whole)
for _ in range(kills):
    before = lines()
    child = fork.Process(target=search, args=(killed,))
    child.start()
    while child.is_alive() and lines() < before + dice.randint(2, 14):
        time.sleep(0.001)
    time.sleep(dice.random() / 100)
    child.kill()
    child.join()
    reached.append(lines())
appeared = killed.exists()
finished(killed)
print(json.dumps({"same": killed.read_bytes() == whole.read_bytes(), "reached": reached, "appeared": appeared}))
"""


@pytest.fixture(scope="module")
def settings(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A dense pipeline without a child process, over an index of six documents."""
    folder = tmp_path_factory.mktemp("runs")
    texts = [
        "the cat sat on the mat",
        "a dog ran",
        "the bird flew in the sky",
        "a fish swam",
        "cat and dog",
        "red tree",
    ]
    lines = [json.dumps({"_id": f"d{i}", "text": text}) + "\n" for i, text in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("".join(lines))
    denser = ElasticDenser.from_pretrained(str(bert_folder))
    build(load(str(folder)), folder / "index", denser, precision="fp32").close()
    plain = {"retriever": "dense", "candidates": 6, "precision": "fp32", "fallback": False}
    return {**plain, "denser": {"model": str(bert_folder)}, "index": str(folder / "index")}


@pytest.fixture(scope="module")
def pipeline(settings: dict[str, Any]) -> Iterator[Pipeline]:
    with Pipeline.from_config(settings) as opened:
        yield opened


def test_a_killed_run_ends_in_the_same_bytes(settings: dict[str, Any], tmp_path: Path) -> None:
    arguments = json.dumps([settings, str(tmp_path / "runs"), WORDS, 3])
    done = subprocess.run([sys.executable, "-c", KILLER, arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["same"]
    assert not found["appeared"]  # until it was whole
    assert found["reached"] == sorted(found["reached"])
    assert 4 < found["reached"][-1] < 51  # the last one began in the middle
    whole, killed = (read_metadata(tmp_path / "runs" / name) for name in ("whole.trec", "killed.trec"))
    assert whole["levels"] == killed["levels"]
    assert whole["queries_ms"].keys() == killed["queries_ms"].keys()
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        "killed.trec", "killed.trec.meta.json", "whole.trec", "whole.trec.meta.json"
    ]  # fmt: skip


def test_a_run_goes_on_where_it_stopped_and_only_for_the_same_command(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[str] = []
    inside = pipeline.answers

    def counted(queries: Any, *rest: Any, **options: Any) -> Any:
        searched.extend(query.query_id for query in queries)
        return inside(queries, *rest, **options)

    def cut(after: int) -> Iterator[Query]:
        yield from QUERIES[:after]
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "answers", counted)
    write(pipeline, QUERIES, tmp_path / "whole.trec", tag="t", k=5, batch=3)
    path = tmp_path / "x.trec"
    for level, begins in ((None, 9), ("dense:w0.50-d2", 0)):
        with pytest.raises(KeyboardInterrupt):
            write(pipeline, cut(11), path, tag="t", k=5, batch=3)
        searched.clear()
        write(pipeline, iter(QUERIES), path, tag="t", k=5, batch=3, level=level)
        assert searched == [query.query_id for query in QUERIES[begins:]]
        same = path.read_bytes() == (tmp_path / "whole.trec").read_bytes()
        assert same is (level is None)
        assert len(read_metadata(path)["queries_ms"]) == 20


def test_a_run_of_what_was_not_asked_for_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    typo = settings | {"fallback": True, "denser": {"model": "no-such-model"}}
    (tmp_path / "pipeline.yaml").write_text(json.dumps(typo))
    (tmp_path / "queries.tsv").write_text("q1\tcat on mat\nq2\tred tree\n")
    output = tmp_path / "dense.trec"
    asked = ["run", str(tmp_path / "pipeline.yaml"), "--queries", str(tmp_path / "queries.tsv"), "-o", str(output)]
    refused = CliRunner().invoke(app, asked)
    assert isinstance(refused.exception, BackendError)
    assert "level dense was asked for and bm25 answered (dense_down: " in str(refused.exception)
    assert "no-such-model" in str(refused.exception)
    assert list(tmp_path.glob("dense*")) == []
    allowed = CliRunner().invoke(app, [*asked, "--allow-degraded"])
    assert allowed.exit_code == 0, allowed.output
    assert "2 degraded: dense_down" in allowed.output
    metadata = read_metadata(output)
    assert (metadata["allow_degraded"], metadata["degraded"]) == (True, {"dense_down": 2})


def test_a_run_refused_in_the_middle_goes_on_once_all_is_well(
    settings: dict[str, Any], cross_encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, reranked = tmp_path / "x.trec", {"reranker": {"model": str(cross_encoder_folder), "candidates": 4}}
    with Pipeline.from_config(settings | reranked) as opened:
        assert opened.parts.ranker is not None
        write(opened, QUERIES, tmp_path / "whole.trec", tag="t", k=5, batch=5)
        score, batches = opened.parts.ranker.score_lists, list[int]()

        def failing(lists: Any, **options: Any) -> Any:
            batches.append(len(lists))
            if len(batches) == 3:
                raise MemoryError("no memory is left")
            return score(lists, **options)

        monkeypatch.setattr(opened.parts.ranker, "score_lists", failing)
        with pytest.raises(BackendError, match=r"\(ranker_down: no memory is left\); the batches before are kept"):
            write(opened, QUERIES, path, tag="t", k=5, batch=5)
        assert not path.exists()
        write(opened, QUERIES, path, tag="t", k=5, batch=5)
    assert len(batches) == 5
    assert path.read_bytes() == (tmp_path / "whole.trec").read_bytes()


def test_gzip_msmarco_and_trec_say_the_same(pipeline: Pipeline, tmp_path: Path) -> None:
    write(pipeline, QUERIES, tmp_path / "x.trec", tag="t", k=5)
    write(pipeline, QUERIES, tmp_path / "x.trec.gz", tag="t", k=5)
    metadata = write(pipeline, QUERIES, tmp_path / "x.tsv", tag="t", k=5, form="msmarco")
    assert gzip.decompress((tmp_path / "x.trec.gz").read_bytes()) == (tmp_path / "x.trec").read_bytes()
    trec, msmarco = read_run(tmp_path / "x.trec"), read_run(tmp_path / "x.tsv")
    assert {query_id: list(hits) for query_id, hits in trec.items()} == {
        query_id: list(hits) for query_id, hits in msmarco.items()
    }
    assert list(msmarco["q0"].values()) == [1 / rank for rank in range(1, 6)]
    assert (metadata["form"], metadata["queries"], metadata["hits"]) == ("msmarco", 20, 5)
    assert metadata["latency_ms"]["mean"] == pytest.approx(sum(metadata["queries_ms"].values()) / 20)
    with pytest.raises(RunFileError, match="did you mean 'trec'"):
        write(pipeline, QUERIES, tmp_path / "y.trec", tag="t", form="trek")


def test_the_query_itself_is_removed_and_another_hit_takes_its_place(pipeline: Pipeline, tmp_path: Path) -> None:
    queries = [Query("d0", "the cat sat on the mat"), Query("q1", "a dog ran")]
    write(pipeline, queries, tmp_path / "x.trec", tag="t", k=3)
    write(pipeline, queries, tmp_path / "y.trec", tag="t", k=3, shape=Shape(remove_query=True))
    before, after = read_run(tmp_path / "x.trec"), read_run(tmp_path / "y.trec")
    assert "d0" in before["d0"]
    assert "d0" not in after["d0"]
    assert len(after["d0"]) == 3
    assert list(after["q1"]) == list(before["q1"])


def test_passages_collapse_as_pyserini_does_it() -> None:
    ids = ["a#1", "b#0", "a#0", "c", "b#7#x", "d#2", "c#1", "e#1"]
    hits = [Hit(doc_id, float(-i)) for i, doc_id in enumerate(ids)]
    kept = Shape(max_passage="#", documents=4).hits(hits, "q", 8)
    assert [hit.doc_id for hit in kept] == ["a", "b", "c", "d"]  # its OutputWriter.hits_iterator
    assert [hit.score for hit in kept] == [0, -1, -3, -5]
    assert len(Shape(max_passage="#").hits(hits, "q", 8)) == 5
    assert "b" not in {hit.doc_id for hit in Shape(True, "#").hits(hits, "b", 8)}


def test_the_command_takes_them_all(settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text(json.dumps(settings))  # JSON is YAML
    (tmp_path / "queries.tsv").write_text("q1\tcat on mat\nd5\tred tree\n")
    output = tmp_path / "my x.trec.gz"
    options = ["--format", "msmarco", "--batch", "1", "--hits", "3", "--remove-query"]
    options += ["--max-passage", "--max-passage-hits", "2", "--max-passage-delimiter", "#"]
    paths = ["run", str(tmp_path / "pipeline.yaml"), "--queries", str(tmp_path / "queries.tsv"), "-o", str(output)]
    result = CliRunner().invoke(app, [*paths, *options])
    assert result.exit_code == 0, result.output
    lines = [line.split("\t") for line in gzip.decompress(output.read_bytes()).decode().splitlines()]
    assert [(query_id, rank) for query_id, _, rank in lines] == [("q1", "1"), ("q1", "2"), ("d5", "1"), ("d5", "2")]
    assert ["d5", "d5"] not in [line[:2] for line in lines]
    metadata = read_metadata(output)
    assert (metadata["batch"], metadata["remove_query"], metadata["max_passage"]) == (1, True, "#")
    assert metadata["tag"] == "my-x"
    assert "--max-passage-hits of at least 1" in str(
        CliRunner().invoke(app, [*paths, "--max-passage", "--max-passage-hits", "0"]).exception
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "msmacro"], "did you mean 'msmarco'"),
        (["--tag", "my tag"], "tag 'my tag'"),
        (["--hits", "0"], "k is 0"),
        (["--batch", "0"], "batch is 0"),
        (["--level", "dnse:w0.50-d2"], "did you mean 'dense'"),
        (["--load", "poison:40", "--ladder", "none.json"], "arrivals 'poison:40' cannot be read"),
        (["--load", "poisson:40", "--ladder", "none.json"], "none.json"),
        (["--output", "."], "is a folder"),
    ],
)
def test_options_are_checked_before_an_index_is_opened(tmp_path: Path, options: list[str], message: str) -> None:
    (tmp_path / "pipeline.yaml").write_text(json.dumps({"retriever": "bm25", "index": str(tmp_path / "none")}))
    asked = ["run", str(tmp_path / "pipeline.yaml"), "--dataset", "pydocs", "--output", str(tmp_path / "x.trec")]
    assert isinstance(CliRunner().invoke(app, asked).exception, IndexNotFoundError)
    refused = CliRunner().invoke(app, [*asked, *options]).exception
    assert isinstance(refused, InputError)
    assert message in str(refused)


@pytest.mark.parametrize(
    ("queries", "options", "message"),
    [
        ([], {}, "no queries"),
        ([Query("q", "cat"), Query("q", "dog")], {}, "'q' comes twice"),
        ([Query("q", "cat"), Query("r", "dog"), Query("q", "dog")], {"batch": 1}, "'q' comes twice"),
        ([Query("a b", "cat")], {}, "query_id 'a b'"),
        ([Query("q", "cat")], {"tag": "my tag"}, "tag 'my tag'"),
        ([Query("q", "cat")], {"batch": 0}, "batch is 0"),
        ([Query("q", "cat")], {"k": 0}, "k is 0"),
    ],
)
def test_what_cannot_be_run_leaves_no_run(
    pipeline: Pipeline, tmp_path: Path, queries: list[Query], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        write(pipeline, queries, tmp_path / "x.trec", **{"tag": "t", **options})
    assert not (tmp_path / "x.trec").exists()
    if options.get("batch") != 1:
        assert list(tmp_path.glob("x*")) == []


def test_a_batch_is_as_large_as_its_hits_allow() -> None:
    plain, reranked = Level.parse("bm25"), Level.parse("bm25+rerank:w1.00:50@1.00")
    assert [batch_size(k, plain) for k in (1, 100, 1000, 10_000)] == [256, 256, 32, 3]
    assert [batch_size(k, reranked) for k in (1, 100, 10_000)] == [32, 32, 3]
    assert all(batch_size(k, plain) * k <= HITS_AT_ONCE for k in (1, 7, 999, 10_000))
