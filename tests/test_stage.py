import pytest
from contract import QUERIES, check_stage

from elastic_ir.errors import BackendError, ConfigError, InputError
from elastic_ir.records import Degradation, Hit, Query, Ranking
from elastic_ir.stage import ABANDONED, Chain, Cutoff, Fusion, SearchContext, Stage


class Fixed(Stage):
    """Finds the same documents for every query that is not blank."""

    def __init__(self, name, degraded=(), **scores):
        self.name, self.degraded, self.scores = name, degraded, scores
        self.seen, self.closed = [], False

    def __call__(self, rankings, context):
        self.seen.append(list(rankings))
        hits = tuple(Hit(doc_id, score) for doc_id, score in self.scores.items())
        return [
            ranking._replace(hits=hits if ranking.query.text.strip() else (), degraded=self.degraded)
            for ranking in rankings
        ]

    def close(self):
        self.closed = True


class Failing(Stage):
    def __init__(self, name="failing", error=None):
        self.name, self.error = name, error or BackendError("no answer")

    def __call__(self, rankings, context):
        raise self.error


def bm25(**notes):
    return Fixed("bm25", a=10.0, b=6.0, c=2.0, **notes)


def dense(**notes):
    return Fixed("dense", c=0.9, d=0.5, **notes)


def run(stage, context=None):
    [result] = stage([Ranking(Query("q", "text"))], context or SearchContext())
    return {hit.doc_id: hit.score for hit in result.hits}


STAGES = {
    "chain": lambda: bm25() >> Cutoff(2),
    "cutoff": lambda: Cutoff(2),
    "weighted": lambda: 0.5 * bm25(),
    "sum": lambda: bm25() + dense(),
    "rrf": lambda: Fusion([bm25(), dense()], method="rrf"),
    "rrf without dense": lambda: Fusion([bm25(), Failing("dense")], method="rrf"),
}


@pytest.mark.parametrize("name", STAGES)
def test_contract(name):
    check_stage(STAGES[name]())


def test_cutoff_keeps_the_first():
    assert [len(ranking.hits) for ranking in (Cutoff(2))(QUERIES, SearchContext())] == [2, 1, 0, 2]
    assert list(run(bm25() % 2)) == ["a", "b"]


def test_a_plain_sum_weighs_alike():
    assert run(bm25() + dense()) == pytest.approx({"a": 1.0, "c": 1.0, "b": 0.5, "d": 0.0})


def test_weights_apply_to_spread_scores_from_either_side():
    expected = {"c": 0.7, "a": 0.3, "b": 0.15, "d": 0.0}
    assert run(0.3 * bm25() + 0.7 * dense()) == pytest.approx(expected)
    assert run(bm25() * 0.3 + dense() * 0.7) == pytest.approx(expected)
    assert run(0.5 * (0.6 * bm25()) + 0.7 * dense()) == pytest.approx(expected)


def test_a_weight_alone_scales_the_scores():
    assert run(0.5 * bm25()) == {"a": 5.0, "b": 3.0, "c": 1.0}


def test_a_sum_of_three_is_one_fusion():
    third = Fixed("third", b=1.0, d=0.0)
    expected = {"a": 1.0, "b": 0.5 + 2.0, "c": 1.0, "d": 0.0}
    assert run(bm25() + dense() + 2 * third) == pytest.approx(expected)
    assert run(bm25() + (dense() + 2 * third)) == pytest.approx(expected)


def test_reciprocal_ranks():
    fused = Fusion([bm25(), dense()], method="rrf")
    assert run(fused) == pytest.approx({"c": 1 / 63 + 1 / 61, "a": 1 / 61, "d": 1 / 62, "b": 1 / 62})


def test_arithmetic_binds_tighter_than_the_chain():
    pipeline = 0.3 * bm25() + 0.7 * dense() >> Cutoff(1)
    assert isinstance(pipeline, Chain)
    assert run(pipeline) == {"c": 0.7}


def test_each_branch_is_given_the_input_and_notes_are_merged():
    first = bm25(degraded=(Degradation("query_cut", "bm25"),))
    second = dense(degraded=(Degradation("load", "dense"),))
    [result] = (first + second)(QUERIES[:1], SearchContext())
    assert first.seen == second.seen == [QUERIES[:1]]
    assert [note.reason for note in result.degraded] == ["query_cut", "load"]


@pytest.mark.parametrize(("error", "detail"), [(BackendError("no answer"), "no answer"), (OSError(), "OSError")])
def test_a_branch_that_fails_adds_nothing_but_a_note(error, detail):
    so_far = Degradation("query_cut", "pipeline")
    asked = [ranking._replace(degraded=(so_far,)) for ranking in QUERIES]
    note = Degradation("bm25_down", "bm25", detail)
    alone = Fusion([dense(degraded=(so_far,))])(asked, SearchContext())
    for stage in (Failing("bm25", error) + dense(), dense() + Failing("bm25", error)):
        results = stage(asked, SearchContext())
        assert [result.hits for result in results] == [result.hits for result in alone]
        assert all(set(result.degraded) == {so_far, note} for result in results)


def test_without_fallback_the_error_of_a_branch_goes_to_the_caller():
    assert run(Fusion([dense(), bm25()], fallback=False)) == run(dense() + bm25())
    with pytest.raises(BackendError, match="no answer"):
        run(Fusion([dense(), Failing("bm25")], fallback=False))


def test_when_all_branches_fail_all_are_named():
    with pytest.raises(BackendError, match=r"dense failed .*no memory.* bm25 failed .*no answer"):
        run(Failing("dense", RuntimeError("no memory")) + Failing("bm25"))


def test_the_users_mistakes_are_not_hidden_by_the_other_branch():
    with pytest.raises(InputError, match="bad k"):
        run(bm25() + Failing(error=InputError("bad k")))


def test_times_are_noted_for_leaves_only():
    context = SearchContext()
    run(0.5 * bm25() + dense() >> Cutoff(2), context)
    assert set(context.latencies_ms) == {"bm25", "dense", "top2"}


def test_close_reaches_every_leaf():
    leaves = [bm25(), dense(), bm25()]
    (0.5 * leaves[0] + leaves[1] >> 2 * leaves[2]).close()
    assert all(leaf.closed for leaf in leaves)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Fusion([bm25()], method="rff"), "did you mean 'rrf'"),
        (lambda: Fusion([]), "0 stages"),
        (lambda: Fusion([bm25(), dense()], weights=[1.0]), "2 stages with 1 weights"),
        (lambda: Fusion([bm25()], weights=[float("nan")]), "weight nan"),
        (lambda: -1 * bm25(), "weight -1"),
        (lambda: bm25() % 0, "cutoff at 0 hits"),
        (lambda: Fusion([bm25()], depth=0), "fusion of 0 hits"),
    ],
)
def test_what_cannot_be_fused_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_nothing_more_is_done_for_a_query_that_was_abandoned():
    gone = {"b"}
    after, fused = Fixed("rerank", a=1.0), Fixed("bm25", b=1.0)
    first = Fixed("dense", a=2.0)
    asked = [Ranking(Query(name, "text")) for name in "abc"]
    stage = Fusion([first, fused], method="rrf") >> after
    answers = stage(asked, SearchContext(abandoned=lambda query: query.query_id in gone))
    assert [[ranking.query.query_id for ranking in stage.seen[0]] for stage in (first, fused, after)] == [
        ["a", "c"]
    ] * 3
    assert [bool(ranking.hits) for ranking in answers] == [True, False, True]
    assert answers[1].degraded[0] == ABANDONED
    nobody = SearchContext(abandoned=lambda query: True)
    assert [ranking.degraded[0] for ranking in stage(asked, nobody)] == [ABANDONED] * 3
    assert len(after.seen) == 1
