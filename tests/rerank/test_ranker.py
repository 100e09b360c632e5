"""The ranker's steps against scoring each candidate alone."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from elastic_ir.dense import ElasticDenser
from elastic_ir.elastic import ElasticScorer, load_checkpoint
from elastic_ir.errors import ConfigError, InputError, ModelError, SubnetError
from elastic_ir.rerank import ElasticRanker, RankerSettings
from elastic_ir.rerank.scored import Scored, replay
from elastic_ir.rerank.work import CandidateList
from elastic_ir.subnet import Subnet

QUERY = "where is the cat"
DOCUMENTS = [
    "the cat sat on the mat", "a dog ran", "the bird flew in the sky", "cat", "", "a fish swam in the big blue sea",
    "dog and cat", "red tree",
]  # fmt: skip


@pytest.fixture(scope="module")
def ranker(cross_encoder_folder: Path) -> ElasticRanker:
    """Exits after 1, 2 and 4 layers, all with the trained head."""
    checkpoint = load_checkpoint(cross_encoder_folder)
    config = checkpoint.config.model_copy(update={"exits": (1, 2, 4)})
    state = dict(checkpoint.state)
    for name in [name for name in state if name.startswith("heads.4.")]:
        state[name.replace(".4.", ".1.")] = state[name] * 0.5
        state[name.replace(".4.", ".2.")] = state[name] * 0.9
    model = ElasticScorer(config)
    model.load_state_dict(state)
    return ElasticRanker(model, checkpoint.tokens, RankerSettings(max_length=32))


def alone(ranker: ElasticRanker, depth: int, width: float = 1.0) -> np.ndarray:
    tokens = ranker.tokens
    query, *documents = tokens.ids([QUERY, *DOCUMENTS], 30)
    with torch.inference_mode():
        return np.array(
            [
                ranker.model(tokens.pad([tokens.pair(query, d)], [len(query) + 2]), Subnet(width, depth)).item()
                for d in documents
            ]
        )


@pytest.mark.parametrize(("depth", "width"), [(1, 1.0), (2, 0.5), (4, 1.0), (4, 0.25)])
def test_scores_are_distinct_and_ordered_as_scored_alone(ranker: ElasticRanker, depth: int, width: float) -> None:
    scores = ranker.score(QUERY, DOCUMENTS, Subnet(width, depth))
    assert len(set(scores.tolist())) == len(DOCUMENTS)
    assert np.abs(scores - alone(ranker, depth, width)).max() <= 1e-5


@pytest.mark.parametrize("batch_tokens", [1, 24, 4096])
def test_carried_states_score_as_from_scratch(ranker: ElasticRanker, batch_tokens: int) -> None:
    ids = ranker.tokens.ids(DOCUMENTS, 30)
    steps = ranker.plan(0.5, len(DOCUMENTS))
    scored = ranker.score_candidates(QUERY, ids, steps, batch_tokens=batch_tokens)
    for number, (_, subnet) in enumerate(steps):
        rows = scored.steps == number + 1
        assert rows.any()
        assert np.abs(scored.scores[rows] - alone(ranker, subnet.depth)[rows]).max() <= 1e-5
    assert (scored.steps == 2).sum() == steps[1].candidates


@pytest.mark.parametrize("rule", ["prefix", "spaced"])
def test_recomputed_layers_score_as_from_scratch(ranker: ElasticRanker, rule: str) -> None:
    config = ranker.config.model_copy(update={"depth_rule": rule, "own": ("w0.50-d2",)})
    model = ElasticScorer(config)
    missing = model.load_state_dict(ranker.model.state_dict(), strict=False).missing_keys
    assert all(name.startswith("encoder.own.") for name in missing)
    own = model.encoder.own_part(Subnet(0.5, 2))
    assert own is not None
    own.start_from(model.encoder)
    with torch.no_grad():
        own.embedding_shift += 0.1
    other = ElasticRanker(model, ranker.tokens, ranker.settings.model_copy(update={"cascade": ("w0.50-d2",)}))
    ids = other.tokens.ids(DOCUMENTS, 30)
    steps = other.plan(0.5, len(DOCUMENTS))
    assert [str(step.subnet) for step in steps] == ["w0.50-d2", "w1.00-d4"]
    scored = other.score_candidates(QUERY, ids, steps)
    for number, (_, subnet) in enumerate(steps):
        rows = scored.steps == number + 1
        assert np.abs(scored.scores[rows] - alone(other, subnet.depth, subnet.width)[rows]).max() <= 1e-5
    first, last = (other.config.flops(step.subnet, 20, 20, 1) for step in steps)
    assert other.flops(steps, 20) == pytest.approx(steps[0].candidates * first + steps[1].candidates * last)


@pytest.mark.parametrize("budget", [0.1, 0.3, 0.5, 0.9, 1.0])
def test_a_plan_can_be_replayed_from_scores(ranker: ElasticRanker, budget: float) -> None:
    ids = ranker.tokens.ids(DOCUMENTS, 30)
    steps = ranker.plan(budget, len(DOCUMENTS))
    scores = {step.subnet: alone(ranker, step.subnet.depth).astype(np.float32) for step in steps}
    found, wanted = replay(steps, scores), ranker.score_candidates(QUERY, ids, steps)
    assert np.array_equal(found.steps, wanted.steps)
    assert np.array_equal(found.order(), wanted.order())
    assert np.allclose(found.scores, wanted.scores, atol=1e-5, equal_nan=True)


def test_deeper_candidates_stay_above(ranker: ElasticRanker) -> None:
    ids = ranker.tokens.ids(DOCUMENTS, 30)
    scored = ranker.score_candidates(QUERY, ids, ranker.plan(0.3, len(DOCUMENTS)))
    final = scored.final()
    assert list(np.argsort(-final)) == list(scored.order())
    steps = scored.steps[np.argsort(-final)]
    assert list(steps) == sorted(steps, reverse=True)
    unscored = [row for row in scored.order() if scored.steps[row] == 0]
    assert unscored == sorted(unscored)


def test_a_final_score_is_distinct_even_for_ties() -> None:
    scored = Scored(np.array([1, 1, np.nan, 5, 1], np.float32), np.array([2, 2, 0, 1, 2], np.int32))
    final = scored.final()
    assert len(set(final.tolist())) == 5
    assert list(np.argsort(-final)) == [0, 1, 4, 3, 2]


def test_a_long_document_is_scored_by_its_best_window(ranker: ElasticRanker) -> None:
    long = " ".join(["dog"] * 24 + ["the cat sat on the mat"])
    ids = ranker.tokens.ids([long], 100)
    room = 32 - len(ranker.tokens.ids([QUERY], 30)[0]) - 3
    windows = [ids[0][start : start + room] for start in range(0, len(ids[0]), room)]
    assert len(windows) == 2
    full = ranker.plan(1.0, 1)
    best = max(ranker.score_candidates(QUERY, [window], full).scores[0] for window in windows)
    assert ranker.score_candidates(QUERY, ids, full).scores[0] == pytest.approx(best, abs=1e-5)


def test_stopping_returns_the_best_order_so_far(ranker: ElasticRanker) -> None:
    asked = iter([False, False, True])
    ids = ranker.tokens.ids(DOCUMENTS, 30)
    scored = ranker.score_candidates(QUERY, ids, ranker.plan(1.0, 8), batch_tokens=24, stop=lambda: next(asked))
    assert 0 < (scored.steps > 0).sum() < len(DOCUMENTS)
    assert sorted(scored.order()) == list(range(8))


def test_a_document_of_which_only_some_windows_are_scored_is_not_scored(ranker: ElasticRanker) -> None:
    ids = ranker.tokens.ids(["cat", "the big blue sea " * 20], 100)
    asked = iter([False, False, True])
    steps = ranker.plan(1.0, 2, Subnet(1.0, 1))
    scored = ranker.score_candidates(QUERY, ids, steps, batch_tokens=32, stop=lambda: next(asked))
    assert scored.steps.tolist() == [1, 0]
    assert scored.stopped


def test_nothing_is_scored_where_the_work_ends_while_texts_are_read(ranker: ElasticRanker) -> None:
    scores = ranker.score(QUERY, DOCUMENTS, stop=lambda: True)
    assert np.argsort(-scores, kind="stable").tolist() == list(range(len(DOCUMENTS)))


@pytest.mark.parametrize(("batch_tokens", "states_tokens"), [(1, 1), (24, 100), (4096, 10**6)])
def test_lists_scored_together_score_as_alone(
    ranker: ElasticRanker, batch_tokens: int, states_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elastic_ir.rerank.ranker.STATES_TOKENS", states_tokens)
    ids = ranker.tokens.ids(DOCUMENTS, 30)
    lists = [
        CandidateList(QUERY, ids, ranker.plan(0.5, len(ids))),
        CandidateList("dog", ids[:3], ranker.plan(1.0, 3), prior=[0.5, -1.0, 2.0]),
        CandidateList("red tree", [], ()),
        CandidateList("big fish", ids[::-1], ranker.plan(0.4, len(ids))),
    ]
    for asked, found in zip(lists, ranker.score_lists(lists, batch_tokens=batch_tokens), strict=True):
        wanted = ranker.score_candidates(asked.query, asked.documents, asked.steps, prior=asked.prior)
        assert np.array_equal(found.steps, wanted.steps)
        assert np.allclose(found.scores, wanted.scores, atol=1e-5, equal_nan=True)
        assert not found.stopped


def test_only_lists_with_work_left_are_stopped(ranker: ElasticRanker) -> None:
    asked = iter([False, False, True])
    ids = ranker.tokens.ids(DOCUMENTS, 30)
    whole, screened = (
        CandidateList(QUERY, ids[:2], ranker.plan(1.0, 2)),
        CandidateList(QUERY, ids, ranker.plan(0.5, 8)),
    )
    first, second = ranker.score_lists([whole, screened], stop=lambda: next(asked))
    assert (first.stopped, second.stopped) == (False, True)
    assert first.steps.tolist() == [1, 1]
    assert set(second.steps.tolist()) == {1}


def test_save_and_load(ranker: ElasticRanker, tmp_path: Path) -> None:
    ranker.save_pretrained(tmp_path)
    again = ElasticRanker.from_pretrained(tmp_path)
    assert again.settings == ranker.settings
    assert np.array_equal(again.score(QUERY, DOCUMENTS), ranker.score(QUERY, DOCUMENTS))


def test_a_score_that_is_not_finite_is_no_score(ranker: ElasticRanker) -> None:
    damaged = copy.deepcopy(ranker)
    damaged.model.heads["4"].score.bias.fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        damaged.score(QUERY, DOCUMENTS)


def test_wrong_input(ranker: ElasticRanker, bert_folder: Path) -> None:
    with pytest.raises(SubnetError, match="exits after 1, 2, 4"):
        ranker.score(QUERY, DOCUMENTS, Subnet(1.0, 3))
    with pytest.raises(InputError, match="budget"):
        ranker.score(QUERY, DOCUMENTS, budget=2.0)
    with pytest.raises(InputError, match="empty"):
        ranker.score("  ", DOCUMENTS)
    with pytest.raises(InputError, match="wanted a question and a list of documents"):
        ranker.score(QUERY, "the cat")
    with pytest.raises(InputError, match="found NoneType among the documents"):
        ranker.score(QUERY, ["the cat", None])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="precision 'fp16' is unknown"):
        ranker.score(QUERY, DOCUMENTS, precision="fp16")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="score head"):
        ElasticRanker.from_pretrained(bert_folder)
    for cascade, reason in ((["w1.00-d9"], "w1.00-d9"), (["w1.00-d2", "w1.00-d1"], "the cheapest first")):
        with pytest.raises(ModelError, match=reason):
            ElasticRanker(ranker.model, ranker.tokens, RankerSettings(cascade=tuple(cascade)))
    assert ranker.score(QUERY, []).shape == (0,)
    assert ElasticDenser.from_pretrained(bert_folder).dimension == 16
