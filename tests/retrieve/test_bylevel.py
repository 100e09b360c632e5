import pytest
from contract import check_stage

from elastic_ir.level import Level
from elastic_ir.records import Hit, Query, Ranking
from elastic_ir.retrieve import ByLevel
from elastic_ir.stage import SearchContext, Stage
from elastic_ir.subnet import Subnet


class Named(Stage):
    """Finds a document of its own name."""

    def __init__(self, name):
        self.name, self.closed = name, False

    def __call__(self, rankings, context):
        return [
            ranking._replace(hits=(Hit(self.name, 1.0),) if ranking.query.text.strip() else ()) for ranking in rankings
        ]

    def close(self):
        self.closed = True


@pytest.fixture
def stage():
    return ByLevel({name: Named(name) for name in ("dense", "hybrid", "bm25")}, "dense")


def test_contract(stage):
    check_stage(stage)


@pytest.mark.parametrize(
    ("level", "answered"),
    [(None, "dense"), (Level("bm25"), "bm25"), (Level("hybrid", Subnet(0.25, 2)), "hybrid")],
)
def test_the_level_names_the_retriever(stage, level, answered):
    context = SearchContext(level=level)
    assert stage([Ranking(Query("q", "x"))], context)[0].hits[0].doc_id == answered
    assert set(context.latencies_ms) == {answered}


def test_close_closes_all(stage):
    stage.close()
    assert all(one.closed for one in stage.stages.values())
