import logging

import pytest
from contract import QUERIES, check_stage

from elastic_ir.errors import BackendError, ConfigError, InputError, ModelError
from elastic_ir.records import Degradation, Hit
from elastic_ir.retrieve import Fallback, Missing
from elastic_ir.stage import SearchContext, Stage


class Named(Stage):
    """Finds a document of its own name, or raises ``error``."""

    def __init__(self, name, error=None):
        self.name, self.error, self.closed, self.calls = name, error, False, 0

    def __call__(self, rankings, context):
        self.calls += 1
        if self.error is not None:
            raise self.error
        return [
            ranking._replace(hits=(Hit(self.name, 1.0),) if ranking.query.text.strip() else ()) for ranking in rankings
        ]

    def close(self):
        self.closed = True


def answered_by(stage, context=None):
    ranking = stage(QUERIES[:1], context or SearchContext())[0]
    return ranking.hits[0].doc_id, ranking.degraded


@pytest.mark.parametrize("error", [None, RuntimeError("down")])
def test_contract(error):
    check_stage(Fallback(Named("dense", error), Named("bm25")))


def test_the_primary_answers_while_it_can():
    bm25 = Named("bm25")
    assert answered_by(Fallback(Named("dense"), bm25)) == ("dense", ())
    assert bm25.calls == 0


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (RuntimeError("out of memory"), "out of memory"),
        (BackendError("FAISS failed"), "FAISS failed"),
        (OSError(), "OSError"),
    ],
)
def test_bm25_answers_when_dense_fails(error, detail, caplog):
    with caplog.at_level(logging.WARNING):
        doc_id, degraded = answered_by(Fallback(Named("dense", error), Named("bm25")))
    assert (doc_id, degraded) == ("bm25", (Degradation("dense_down", "dense", detail),))
    assert len(caplog.records) == 1
    assert caplog.records[0].name == "elastic_ir.retrieve.fallback"


def test_every_ranking_carries_the_note():
    results = Fallback(Named("dense", RuntimeError("x")), Named("bm25"))(QUERIES, SearchContext())
    assert all(result.degraded == (Degradation("dense_down", "dense", "x"),) for result in results)


def test_the_user_s_mistakes_are_not_hidden():
    for error in (InputError("bad k"), ConfigError("bad setting")):
        with pytest.raises(InputError, match="bad"):
            answered_by(Fallback(Named("dense", error), Named("bm25")))
    with pytest.raises(InputError, match="bad k"):
        answered_by(Fallback(Named("dense", RuntimeError("x")), Named("bm25", InputError("bad k"))))


def test_when_both_fail_both_are_named():
    stage = Fallback(Named("dense", RuntimeError("no memory")), Named("bm25", BackendError("no Java")))
    with pytest.raises(BackendError, match=r"no memory.*no Java") as caught:
        answered_by(stage)
    assert "no Java" in str(caught.value.__cause__)


def test_a_missing_primary_answers_with_its_error_each_time():
    stage = Fallback(Missing(ModelError("no such model")), Named("bm25"))
    missing = ("bm25", (Degradation("dense_down", "dense", "no such model"),))
    assert answered_by(stage) == answered_by(stage) == missing


def test_times_are_noted_under_the_stage_that_answered():
    context = SearchContext()
    answered_by(Fallback(Named("dense", RuntimeError("x")), Named("bm25")), context)
    assert set(context.latencies_ms) == {"bm25"}
    context = SearchContext()
    answered_by(Fallback(Named("dense"), Named("bm25")), context)
    assert set(context.latencies_ms) == {"dense"}


def test_close_closes_both():
    dense, bm25 = Named("dense"), Named("bm25")
    Fallback(dense, bm25).close()
    assert dense.closed
    assert bm25.closed
