"""Other tools' forms: to them and back, and read as they write them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
import pytrec_eval

from elastic_ir import interop
from elastic_ir.datasets import load
from elastic_ir.errors import InputError, RunFileError
from elastic_ir.evaluate import evaluate, read_run
from elastic_ir.index.java import anserini_jar, java_home
from elastic_ir.library import build
from elastic_ir.pipeline import Pipeline
from elastic_ir.records import Query, Ranking
from elastic_ir.stage import SearchContext

QRELS = {"q1": {"b": 2, "c": 1}, "q2": {"a": 1, "z": 0}, "unjudged": {}}
TIED = {"q1": {"a": 1.0 + 1e-12, "b": 1.0, "c": 1.0}, "q2": {"a": 0.5, "y": 0.5, "z": 2.0}, "empty": {}}


@pytest.fixture(scope="module")
def corpus() -> dict[str, str]:
    texts = ["the cat sat on the mat", "a dog ran", "the bird flew in the sky", "a fish swam in the sea", "cat and dog"]
    return {f"d{i}": text for i, text in enumerate([*texts, "big red tree"])}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory, corpus: dict[str, str]) -> Iterator[Pipeline]:
    folder = tmp_path_factory.mktemp("interop")
    lines = (json.dumps({"_id": doc_id, "text": text}) + "\n" for doc_id, text in corpus.items())
    (folder / "corpus.jsonl").write_text("".join(lines), encoding="utf-8")
    build(load(str(folder)), folder / "index", None).close()
    with Pipeline.from_config({"retriever": "bm25", "candidates": 6}, index=folder / "index") as opened:
        yield opened


RANX = """
import json, sys
import ranx
from elastic_ir import interop
run, qrels = (json.loads(text) for text in sys.argv[1:])
there = interop.to_ranx(run, "tied"), interop.qrels_to_ranx(qrels)
back = [interop.from_ranx(value) for value in there]
figures = ranx.evaluate(there[1], there[0], ["mrr", "ndcg"], return_mean=False)
print(json.dumps([there[0].name, back, {measure: values.tolist() for measure, values in figures.items()}]))
"""


def test_ranx_sees_ties_as_trec_eval_does_and_gives_runs_and_qrels_back() -> None:
    """In a process without numba's compiler, which would take half a minute."""
    done = subprocess.run(
        [sys.executable, "-c", RANX, json.dumps(TIED), json.dumps(QRELS)],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    name, (run, qrels), figures = json.loads(done.stdout)
    assert name == "tied"
    assert qrels == {query_id: grades for query_id, grades in QRELS.items() if grades}
    assert {query_id: list(scores) for query_id, scores in run.items()} == {
        "q1": ["c", "b", "a"],
        "q2": ["z", "y", "a"],
    }
    for query_id, scores in run.items():
        assert scores == pytest.approx(TIED[query_id], abs=1e-6)
    judge = pytrec_eval.RelevanceEvaluator(QRELS, {"recip_rank", "ndcg"}).evaluate({q: s for q, s in TIED.items() if s})
    assert figures["mrr"] == pytest.approx([judge[query_id]["recip_rank"] for query_id in ("q1", "q2")])
    assert figures["ndcg"] == pytest.approx([judge[query_id]["ndcg"] for query_id in ("q1", "q2")])
    with pytest.raises(InputError, match="found dict; wanted a ranx"):
        interop.from_ranx(TIED)


def test_beir_results_have_the_order_of_the_answers(pipeline: Pipeline, corpus: dict[str, str]) -> None:
    queries = {"q1": "cat on mat", "q2": "where is the fish", "nothing": "zebra"}
    results = interop.BeirRetriever(pipeline).search(corpus, queries, 3, "cos_sim", return_sorted=True)
    answers = list(pipeline.run([Query(q, text) for q, text in queries.items()], 3))
    assert [list(scores) for scores in results.values()] == [[hit.doc_id for hit in hits] for hits in answers]
    assert results["nothing"] == {}
    for scores in results.values():
        assert list(scores.values()) == sorted(set(scores.values()), reverse=True)
    part = {doc_id: text for doc_id, text in corpus.items() if doc_id not in results["q2"]}
    with pytest.raises(InputError, match="which the corpus lacks"):
        interop.BeirRetriever(pipeline).search(part, queries, 3)


def test_frames_of_pyterrier(pipeline: Pipeline) -> None:
    topics = pd.DataFrame({"qid": ["7", "8"], "query": ["cat", "red tree"], "user": ["x", "y"]})
    retriever = interop.FrameRetriever(pipeline, k=2)
    frame = retriever.transform(topics)
    assert list(frame.columns) == ["qid", "query", "user", "docno", "score", "rank"]
    assert frame[["qid", "user", "docno", "rank"]].to_numpy().tolist() == [
        ["7", "x", "d4", 0], ["7", "x", "d0", 1], ["8", "y", "d5", 0],
    ]  # fmt: skip
    again = retriever.transform(frame)  # a first stage begins anew
    pd.testing.assert_frame_equal(again, frame)
    assert list(topics.columns) == ["qid", "query", "user"]
    assert interop.from_frame(frame) == {
        hits.query.query_id: pytest.approx({hit.doc_id: hit.score for hit in hits})
        for hits in pipeline.run([Query("7", "cat"), Query("8", "red tree")], 2)
    }
    assert retriever.search("cat")[["qid", "docno"]].to_numpy().tolist() == [["1", "d4"], ["1", "d0"]]
    nothing = retriever.transform(topics[:0])
    assert (len(nothing), list(nothing.columns)) == (0, list(frame.columns))


def test_frames_that_lack_a_column(pipeline: Pipeline) -> None:
    with pytest.raises(InputError, match=r"columns qid; wanted also \['query'\]"):
        interop.FrameRetriever(pipeline).transform(pd.DataFrame({"qid": ["1"]}))
    with pytest.raises(InputError, match=r"wanted also \['docno', 'score'\]"):
        interop.from_frame(pd.DataFrame({"qid": ["1"]}))


def test_a_pyterrier_transformer_where_there_is_pyterrier(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    class Transformer:
        def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
            raise NotImplementedError

        def __mod__(self, k: int) -> str:
            return f"cut at {k}"

    monkeypatch.setitem(sys.modules, "pyterrier", types.SimpleNamespace(Transformer=Transformer))
    retriever = interop.pyterrier_retriever(pipeline, k=1)
    assert isinstance(retriever, Transformer)
    assert retriever % 10 == "cut at 10"
    assert retriever.search("cat")["docno"].tolist() == ["d4"]
    monkeypatch.setitem(sys.modules, "pyterrier", None)
    with pytest.raises(InputError, match="pip install python-terrier"):
        interop.pyterrier_retriever(pipeline)


def test_runs_as_pyserini_writes_them(tmp_path: Path) -> None:
    hits = [("d2", 3.25), ("d1", 3.249999), ("d9", -1.0)]
    forms = {
        "trec": "".join(f"7 Q0 {d} {rank} {score:.6f} Anserini\n" for rank, (d, score) in enumerate(hits, 1)),
        "msmarco": "".join(f"7\t{d}\t{rank}\n" for rank, (d, _) in enumerate(hits, 1)),
        "kilt": json.dumps(
            {"id": 7, "input": "?", "output": [{"provenance": [{"wikipedia_id": d} for d, _ in [*hits, hits[0]]]}]}
        ),
    }
    read = {"trec": read_run, "msmarco": read_run, "kilt": interop.read_kilt_run}
    for form, text in forms.items():
        path = tmp_path / f"run.{form}"
        path.write_text(text, encoding="utf-8")
        run = read[form](path)
        assert list(run) == ["7"]
        assert sorted(run["7"], key=run["7"].__getitem__, reverse=True) == ["d2", "d1", "d9"], form
        assert evaluate({"7": {"d1": 1}}, {form: run}, ["mrr"]).means[form]["mrr"] == 0.5


@pytest.mark.parametrize(
    "line", ["[]", "{}", "x", '{"id": 1, "output": [3]}', '{"id": 1, "output": [{"provenance": [{}]}]}', "[" * 9999]
)
def test_what_is_no_kilt_run_is_told_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(f'{{"id": 0, "output": []}}\n{line}\n')
    with pytest.raises(RunFileError, match=r"run\.jsonl, line 2: not a line of a KILT run"):
        interop.read_kilt_run(path)
    path.write_text('{"id": 0, "output": []}\n' * 2)
    with pytest.raises(RunFileError, match="query '0' comes twice"):
        interop.read_kilt_run(path)


@pytest.mark.timeout(180)
def test_an_index_that_anserini_built_is_searched(tmp_path: Path, pipeline: Pipeline, corpus: dict[str, str]) -> None:
    """The other way, our index under pyserini, is ``test_hits_are_those_of_pyserini``."""
    source, folder = tmp_path / "json", tmp_path / "anserini"
    source.mkdir()
    lines = (json.dumps({"id": doc_id, "contents": text}) + "\n" for doc_id, text in corpus.items())
    (source / "docs.jsonl").write_text("".join(lines), encoding="utf-8")
    command = [java_home() / "bin" / "java", "-Xmx256m", "-cp", anserini_jar(), "io.anserini.index.IndexCollection"]
    command += ["-collection", "JsonCollection", "-generator", "DefaultLuceneDocumentGenerator", "-threads", "1"]
    subprocess.run([*command, "-input", source, "-index", folder, "-storeRaw"], capture_output=True, check=True)
    queries = [
        Query("1", "cat on the mat"),
        Query("2", "fish in the sea"),
        Query("3", "big red dog"),
        Query("4", "zebra"),
    ]
    with closing(interop.lucene_retriever(folder, 5)) as retriever:
        found = retriever([Ranking(query) for query in queries], SearchContext(k=5))
    ours = pipeline.run(queries, 5)
    assert [ranking.hits for ranking in found] == [tuple(hits) for hits in ours]
    assert sum(len(ranking.hits) for ranking in found) > 4
