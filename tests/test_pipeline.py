"""The pipeline on six documents: levels, load, failures, and what a caller is told."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from elastic_ir import library
from elastic_ir.datasets import load
from elastic_ir.dense import ElasticDenser
from elastic_ir.durable import writer_lock
from elastic_ir.errors import (
    BackendError,
    ConfigError,
    IndexMismatchError,
    IndexNotFoundError,
    InputError,
    ModelError,
    SubnetError,
)
from elastic_ir.evaluate import read_metadata, read_run
from elastic_ir.level import Level
from elastic_ir.pipeline import Pipeline
from elastic_ir.records import Query
from elastic_ir.runs import write


def test_search_answers_with_level_latency_and_text(pipeline: Pipeline) -> None:
    hits = pipeline.search("where is the cat", k=3)
    assert len(hits) == 3
    assert all(hit.text for hit in hits)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert str(hits.level) == "dense:w1.00-d4+rerank:w1.00:4@1.00"
    assert hits.degraded is None
    assert hits.latency_ms > 0
    assert set(hits.stage_ms) == {"dense", "rerank"}
    assert hits.generation == 1


def test_only_docstrings_are_cut_as_docstrings_are(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []

    def assembled(config: Any, _: Any) -> None:
        kept.append(config.denser.document_tokens)
        raise ConfigError("enough")

    monkeypatch.setattr("elastic_ir.pipeline.assemble", assembled)
    for dataset in (None, "pydocs", "pydocs/questions", "docs"):
        with pytest.raises(ConfigError, match="enough"):
            Pipeline.from_config(dataset=dataset)
    assert kept == [56, 56, 56, None]


def test_of_changed_documents_only_new_texts_are_encoded(
    settings: dict[str, Any], six_documents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    encode = library.DocumentSide.encode
    monkeypatch.setattr(
        library.DocumentSide, "encode", lambda side, texts: encoded.extend(texts) or encode(side, texts)
    )
    Pipeline.from_config(settings, dataset=str(six_documents)).close()
    assert len(encoded) == 6
    with (six_documents / "corpus.jsonl").open("a") as file:
        file.write('{"_id": "d6", "text": "a new dog"}\n')
    Pipeline.from_config(settings, dataset=str(six_documents)).close()
    assert encoded[6:] == ["a new dog"]


def test_the_index_is_built_once(settings: dict[str, Any], six_documents: Path) -> None:
    paths = set()
    for _ in range(2):
        with Pipeline.from_config(settings, dataset=str(six_documents)) as opened:
            paths.add((opened.index_path, opened.generation))
    assert len(paths) == 1
    with (six_documents / "corpus.jsonl").open("a") as file:
        file.write('{"_id": "d6", "text": "a new dog"}\n')
    with Pipeline.from_config(settings, dataset=str(six_documents)) as opened:
        assert opened.index_path not in {path for path, _ in paths}
        assert any(hit.doc_id == "d6" for hit in opened.search("a new dog", k=7))


def test_more_of_an_approximate_index_is_searched_on_request(settings: dict[str, Any], six_documents: Path) -> None:
    def found(**denser: Any) -> int:
        own = settings | {"denser": settings["denser"] | {"factory": "IVF6,Flat"} | denser}
        with Pipeline.from_config(own, dataset=str(six_documents)) as opened:
            return len(opened.search("where is the cat", k=6, level="dense:w1.00-d4"))

    assert found(nprobe=1) < found(nprobe=6) == 6
    with pytest.raises(ConfigError, match="'IVF6,Flat' cannot be searched with nprobe=None, ef_search=9"):
        found(ef_search=9)
    with pytest.raises(ConfigError, match=r"denser\.nprobe: found 0"):
        found(nprobe=0)


@pytest.mark.parametrize(
    ("denser", "message"),
    [
        ({"subnet": "w0.50-d9"}, "9 layers"),
        ({"nprobe": 3}, "'Flat' cannot be searched with nprobe=3"),
        ({"factory": "Flit"}, "of factory 'Flit'"),
    ],
)
def test_what_cannot_be_searched_is_not_built(
    settings: dict[str, Any], six_documents: Path, denser: dict[str, Any], message: str
) -> None:
    before = set(library.cache_folder().glob("*"))
    with pytest.raises(InputError, match=message):
        Pipeline.from_config(settings | {"denser": settings["denser"] | denser}, dataset=str(six_documents))
    assert set(library.cache_folder().glob("*")) == before


@pytest.mark.parametrize("level", ["bm25", "hybrid:w0.25-d1", "dense:w0.50-d2", "dense:w0.25-d1+rerank:w0.50:2@1.00"])
def test_a_level_is_used_exactly(pipeline: Pipeline, level: str) -> None:
    hits = pipeline.search("cat on the mat", level=level)
    assert str(hits.level) == level
    assert hits.degraded is None


def test_flops_are_those_of_the_models(pipeline: Pipeline) -> None:
    def layer(read: int, length: int) -> int:
        """All tokens to queries, keys and values; those that are read on through attention and the feed-forward."""
        return length * 2 * 16 * 3 * 16 + read * (2 * 16 * (16 + 2 * 256) + 4 * length * 16)

    first, last = layer(24, 24), layer(1, 24)
    pair = 3 * layer(160, 160) + layer(1, 160)
    assert pipeline.flops("bm25") == 0
    assert pipeline.flops("dense:w1.00-d4") == pytest.approx(3 * first + last)
    assert pipeline.flops("dense:w1.00-d1+rerank:w1.00:3@1.00") == pytest.approx(last + 3 * pair)
    assert pipeline.flops() == pipeline.flops(pipeline.level)


def test_the_tail_stays_below_the_reranked_head(pipeline: Pipeline) -> None:
    retrieved = pipeline.search("cat and dog", level="dense:w1.00-d4", k=6)
    reranked = pipeline.search("cat and dog", k=6)
    assert {hit.doc_id for hit in retrieved[:4]} == {hit.doc_id for hit in reranked[:4]}
    assert [hit.doc_id for hit in retrieved[4:]] == [hit.doc_id for hit in reranked[4:]]


def test_the_budget_shrinks_with_the_searches_in_flight(pipeline: Pipeline) -> None:
    together, inside = threading.Barrier(8), pipeline.scheduler._policy

    def wait_for_all(load: Any) -> Level:
        together.wait(timeout=30)
        return inside(load)

    pipeline.scheduler._policy = wait_for_all
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(pipeline.search, ["cat on the mat"] * 8))
    budgets = sorted(hits.level.rerank.budget for hits in answers if hits.level.rerank)
    assert budgets == pytest.approx([round(1 / n, 4) for n in range(8, 0, -1)])
    shrunk = next(hits for hits in answers if hits.level.rerank and hits.level.rerank.budget < 1)
    assert shrunk.degraded is not None
    assert shrunk.degraded.reasons == ("load",)
    assert shrunk.degraded.requested_level == pipeline.level
    pipeline.scheduler._policy = inside
    assert pipeline.search("cat on the mat").degraded is None


def test_bm25_answers_when_the_dense_model_is_missing(settings: dict[str, Any], six_documents: Path) -> None:
    broken = settings | {"denser": {"model": "no-such-model"}}
    with Pipeline.from_config(broken, dataset=str(six_documents)) as opened:
        hits = opened.search("cat on the mat")
        assert hits[0].doc_id == "d0" or hits.level.rerank
        assert hits.level.retriever == "bm25"
        assert hits.degraded is not None
        assert hits.degraded.reasons == ("dense_down",)
    with pytest.raises(ModelError, match="no-such-model"):
        Pipeline.from_config(broken | {"fallback": False}, dataset=str(six_documents))


def test_a_failing_ranker_leaves_the_retrievers_order(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [hit.doc_id for hit in pipeline.search("cat and dog", level="dense:w1.00-d4")]
    rerank = pipeline._parts.stage.second  # type: ignore[attr-defined]

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(rerank.ranker, "score_lists", fail)
    hits = pipeline.search("cat and dog")
    assert [hit.doc_id for hit in hits] == wanted
    assert hits.level.rerank is None
    assert hits.degraded is not None
    assert hits.degraded.reasons == ("ranker_down",)


def test_a_deadline_or_a_hang_up_returns_the_best_so_far(pipeline: Pipeline) -> None:
    late = pipeline.search("cat and dog", deadline_ms=0.001)
    gone = pipeline.search("cat and dog", cancelled=lambda: True)
    for hits in (late, gone):
        assert len(hits) == 6
        assert hits.degraded is not None
        assert hits.degraded.reasons == ("deadline",)


@pytest.mark.parametrize("query", ["", "  \n", 7])
def test_a_query_that_cannot_be_searched(pipeline: Pipeline, query: Any) -> None:
    with pytest.raises(InputError, match="wanted"):
        pipeline.search(query)


def test_a_huge_query_is_cut_and_flagged(pipeline: Pipeline) -> None:
    hits = pipeline.search("cat " * 250_000)
    assert hits.degraded is not None
    assert hits.degraded.reasons == ("query_cut",)


@pytest.mark.parametrize("k", [0, -1, 10_001, 2.5, True, None])
def test_a_bad_k(pipeline: Pipeline, k: Any) -> None:
    with pytest.raises(InputError, match="k is"):
        pipeline.search("cat", k=k)


def test_a_batch_of_none(pipeline: Pipeline) -> None:
    with pytest.raises(InputError, match="batch is 0"):
        list(pipeline.run([Query("1", "cat")], batch=0))


@pytest.mark.parametrize(
    "level", ["hybrid:w1.00-d9", "dense:w1.00-d9", "dense:w1.00-d4+rerank:w1.00:7@1.00", "nonsense"]
)
def test_a_level_the_pipeline_lacks(pipeline: Pipeline, level: str) -> None:
    with pytest.raises(SubnetError):
        pipeline.search("cat", level=level)


def test_config_round_trip(pipeline: Pipeline, six_documents: Path) -> None:
    with Pipeline.from_config(pipeline.to_config()) as again:
        assert again.config == pipeline.config
        assert list(again.search("red tree")) == list(pipeline.search("red tree"))


def test_bad_configurations(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    for text, message in [
        ("retreiver: dense", "unknown key 'retreiver'; did you mean 'retriever'"),
        ("reranker: {modle: x}", "did you mean 'model'"),
        ("candidates: 0", "candidates: found 0"),
        ("- a", "wanted keys and values"),
        ("a: [", "is not YAML"),
        ("denser: {subnet: w2-d1}", "subnet 'w2-d1' cannot be read"),
        ("{}", "names neither `dataset` nor `index`"),
    ]:
        file.write_text(text)
        with pytest.raises(ConfigError) as caught:
            Pipeline.from_config(file)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="cannot read pipeline"):
        Pipeline.from_config(tmp_path / "absent.yaml")


def test_an_index_of_another_model_is_refused_before_any_query(
    pipeline: Pipeline, settings: dict[str, Any], tmp_path: Path
) -> None:
    other = ElasticDenser.from_pretrained(settings["denser"]["model"], pooling="mean")
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(IndexMismatchError):
        Pipeline.from_config(settings | {"denser": {"model": str(tmp_path / "other")}}, index=pipeline.index_path)
    with pytest.raises(IndexNotFoundError):
        Pipeline.from_config(settings, index=tmp_path / "nothing")


@pytest.mark.parametrize("fallback", [True, False])
def test_an_index_without_vectors_is_refused_before_any_query(
    settings: dict[str, Any], six_documents: Path, tmp_path: Path, fallback: bool
) -> None:
    library.build(load(str(six_documents)), tmp_path, None).close()
    with pytest.raises(IndexMismatchError, match="holds no vectors, which retriever 'dense' needs"):
        Pipeline.from_config(settings | {"fallback": fallback}, index=tmp_path)


def test_token_ids_are_those_of_the_ranker_also_without_a_denser(settings: dict[str, Any], six_documents: Path) -> None:
    with Pipeline.from_config(settings | {"retriever": "bm25"}, dataset=str(six_documents)) as opened:
        ranker = opened._parts.stage.second.ranker  # type: ignore[attr-defined]
        store, documents = opened._parts.generation.tokens, opened._parts.generation.documents
        assert store is not None
        assert store.tokenizer_fingerprint == ranker.tokens.fingerprint
        assert store.tokens("d0").tolist() == ranker.tokens.ids([documents.text("d0")], library.STORED_TOKENS)[0]


def test_without_a_model_the_cached_index_with_vectors_serves(
    pipeline: Pipeline, settings: dict[str, Any], six_documents: Path
) -> None:
    broken = settings | {"denser": {"model": "no-such-model"}}
    with Pipeline.from_config(broken, dataset=str(six_documents)) as opened:
        same = opened._parts.generation.manifest.tokenizer_fingerprint
        assert same == pipeline._parts.generation.manifest.tokenizer_fingerprint
        assert opened.index_path == pipeline.index_path


def test_a_damaged_cached_index_is_built_again(
    settings: dict[str, Any], six_documents: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Pipeline.from_config(settings, dataset=str(six_documents)) as opened:
        folder = opened._parts.generation.path
    (folder / "faiss.index").write_bytes(b"damaged")
    with Pipeline.from_config(settings, dataset=str(six_documents)) as opened:
        assert opened.generation == 2
        assert len(opened.search("cat")) == 6
    assert "the cached index is built again" in caplog.text


def test_an_index_that_another_process_builds_is_waited_for(
    settings: dict[str, Any], six_documents: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Pipeline.from_config(settings, dataset=str(six_documents)) as opened:
        index, current = opened.index_path, opened.index_path / "CURRENT"
    content = current.read_bytes()
    current.unlink()
    monkeypatch.setattr(library, "POLL_S", 0.01)
    with ThreadPoolExecutor(1) as pool:
        with writer_lock(index):
            answer = pool.submit(Pipeline.from_config, settings, dataset=str(six_documents))
            while "waiting for another process" not in caplog.text:
                assert not answer.done(), answer.exception()
                time.sleep(0.01)
            current.write_bytes(content)
        opened = answer.result()
    with opened:
        assert opened.generation == 1


def test_a_closed_pipeline_is_not_searched(settings: dict[str, Any], six_documents: Path) -> None:
    with Pipeline.from_config(settings, dataset=str(six_documents)) as opened:
        pass
    with pytest.raises(BackendError, match="the pipeline was closed"):
        opened.search("cat")


@pytest.mark.parametrize(("down", "left"), [("dense", "bm25"), ("bm25", "dense:w1.00-d4")])
def test_half_of_a_hybrid_answers_alone_where_it_may(
    settings: dict[str, Any], six_documents: Path, monkeypatch: pytest.MonkeyPatch, down: str, left: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise BackendError("no answer")

    def opened(fallback: bool) -> Pipeline:
        plain = settings | {"reranker": None, "retriever": "hybrid", "fallback": fallback}
        pipeline = Pipeline.from_config(plain, dataset=str(six_documents))
        branches = {stage.name: stage for stage in pipeline._parts.stage.stages["hybrid"].stages}  # type: ignore[attr-defined]
        monkeypatch.setattr(getattr(branches[down], "stage", branches[down]), "_search", fail)
        return pipeline

    with opened(fallback=False) as strict, pytest.raises(BackendError, match="no answer"):
        strict.search("cat on the mat")
    with opened(fallback=True) as lenient:
        hits = lenient.search("cat on the mat")
        assert len(hits) > 0
        assert str(hits.level) == left
        assert hits.degraded is not None
        assert hits.degraded.reasons == (f"{down}_down",)


def test_the_smallest_query_encoder_answers_while_bm25_is_down(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise BackendError("no answer")

    assert pipeline.parts.lucene is not None
    monkeypatch.setattr(pipeline.parts.lucene, "search", fail)
    hits = pipeline.search("cat on the mat", level="bm25")
    assert pipeline.parts.denser is not None
    assert str(hits.level) == f"dense:{pipeline.parts.denser.config.smallest}"
    assert [hit.doc_id for hit in hits] == [hit.doc_id for hit in pipeline.search("cat on the mat", level=hits.level)]
    assert hits.degraded is not None
    assert hits.degraded.reasons == ("bm25_down",)


def test_hybrid_joins_both(settings: dict[str, Any], six_documents: Path) -> None:
    plain = settings | {"reranker": None, "retriever": "hybrid"}
    with Pipeline.from_config(plain, dataset=str(six_documents)) as opened:
        hits = opened.search("cat on the mat", k=6)
        assert len(hits) == 6
        assert str(hits.level) == "hybrid:w1.00-d4"
        assert str(opened.search("cat", level="bm25").level) == "bm25"


@pytest.mark.parametrize("method", ["weighted", "rrf"])
def test_a_hybrid_has_one_order_however_many_hits_are_wanted(
    settings: dict[str, Any], six_documents: Path, method: str
) -> None:
    plain = settings | {"reranker": None, "retriever": "hybrid", "candidates": 2, "fusion": {"method": method}}
    with Pipeline.from_config(plain, dataset=str(six_documents)) as opened:
        for query in ("the cat and the dog in the sea", "a fish in the big red tree"):
            whole = [hit.doc_id for hit in opened.search(query, k=6)]
            assert len(whole) == 6
            for k in range(1, 6):
                assert [hit.doc_id for hit in opened.search(query, k=k)] == whole[:k]


def test_a_run_keeps_the_order_and_says_how_it_was_made(pipeline: Pipeline, tmp_path: Path) -> None:
    queries = [Query("q1", "cat on mat"), Query("q2", "where is the fish"), Query("q3", "red tree")]
    path = tmp_path / "run.trec"
    write(pipeline, queries, path, tag="test", k=5)
    run, metadata = read_run(path), read_metadata(path)
    answers = {hits.query.query_id: [hit.doc_id for hit in hits] for hits in pipeline.run(queries, 5)}
    assert {query_id: list(scores) for query_id, scores in run.items()} == answers
    assert metadata["levels"] == dict.fromkeys(["q1", "q2", "q3"], str(pipeline.level))
    assert metadata["rerank_depth"] == 4
    with pytest.raises(InputError, match="query 'bad' is empty"):
        write(pipeline, [Query("bad", " ")], path, tag="test")
    assert read_run(path) == run


def test_queries_are_encoded_in_the_precision_of_the_configuration(
    settings: dict[str, Any], six_documents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    encode = ElasticDenser.encode

    def noted(self: ElasticDenser, *args: Any, **options: Any) -> Any:
        asked.append(options["precision"])
        return encode(self, *args, **options)

    with Pipeline.from_config(settings | {"precision": "bf16"}, dataset=str(six_documents)) as pipeline:
        monkeypatch.setattr(ElasticDenser, "encode", noted)
        pipeline.search("cat")
    assert asked == ["bf16"]


def test_a_batch_refuses_a_level_that_a_search_would(pipeline: Pipeline, tmp_path: Path) -> None:
    queries, output = [Query("q", "cat")], tmp_path / "x.trec"
    for level, reason in (
        ("dense:w0.50-d2+rerank:w1.00:5000@0.50", "reranks more than the 6 candidates"),
        ("dense:w0.50-d9", "9 layers"),
    ):
        with pytest.raises(SubnetError, match=reason):
            write(pipeline, queries, output, tag="t", k=3, level=level, progress=False)
    assert not list(tmp_path.glob("x.trec*"))


def test_a_batch_without_a_denser_is_answered_by_bm25_where_that_is_allowed(
    settings: dict[str, Any], six_documents: Path, tmp_path: Path
) -> None:
    with Pipeline.from_config(settings, dataset=str(six_documents)) as opened:
        index = opened.index_path
    broken = settings | {"denser": {"model": str(tmp_path / "none")}, "reranker": None}
    with Pipeline.from_config(broken, dataset=str(six_documents), index=str(index)) as opened:
        assert opened.search("cat").degraded.reasons == ("dense_down",)
        with pytest.raises(BackendError, match="dense_down"):
            write(opened, [Query("q", "cat")], tmp_path / "x.trec", tag="t", k=3, progress=False)
        assert not list(tmp_path.glob("x.trec*"))
        write(opened, [Query("q", "cat")], tmp_path / "x.trec", tag="t", k=3, allow_degraded=True, progress=False)
    assert set(read_run(tmp_path / "x.trec")) == {"q"}


@pytest.mark.parametrize("deadline_ms", [float("inf"), float("nan"), 0, 1e9, "5", True])
def test_odd_deadlines_are_refused(pipeline: Pipeline, deadline_ms: Any) -> None:
    with pytest.raises(InputError, match="above 0, a day at most"):
        pipeline.search("cat", level="bm25", deadline_ms=deadline_ms)


def test_infinite_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="retriever_weight"):
        Pipeline.from_config(settings | {"reranker": settings["reranker"] | {"retriever_weight": float("inf")}})


def test_levels_of_a_batch_share_its_deadline(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []
    whole = pipeline._search

    def slow(*given: Any, **options: Any) -> Any:
        ends.append(given[2].deadline)
        time.sleep(0.01)
        return whole(*given, **options)

    monkeypatch.setattr(pipeline, "_search", slow)
    queries = [Query("a", "cat"), Query("b", "dog")]
    levels = [Level.parse("bm25"), Level.parse("dense:w0.50-d2")]
    pipeline.answers(queries, 3, levels[1], levels, deadline_ms=5000)
    assert len(ends) == 2
    assert ends[0] == ends[1]
