"""The checkpoints that come along are real: they find and rank, at every size they were trained for."""

from __future__ import annotations

import numpy as np
import pytest

from elastic_ir import ElasticDenser, ElasticRanker, Subnet
from elastic_ir.elastic.checkpoint import BUNDLED, bundled_names, load_checkpoint

QUERY = "how long do cats live"
DOCUMENTS = [
    "Domestic cats usually reach an age of twelve to eighteen years.",
    "The stock market fell sharply on Monday after the central bank raised rates.",
    "To install the package, run pip and restart the interpreter.",
    "Cats are carnivores and eat mostly meat.",
]


def test_both_come_along_small_and_with_their_papers() -> None:
    assert bundled_names() == ["elastic-denser-small", "elastic-ranker-small"]
    for name in bundled_names():
        assert (BUNDLED / name / "model.safetensors").stat().st_size < 50e6
        assert "licen" in (BUNDLED / name / "NOTICE").read_text("utf-8").lower()
        assert "nDCG@10" in (BUNDLED / name / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def denser() -> ElasticDenser:
    return ElasticDenser.from_pretrained("elastic-denser-small")


@pytest.mark.parametrize("name", ["w1.00-d12", "w1.00-d6", "w0.50-d6", "w1.00-d2", "w0.25-d2"])
def test_every_query_subnet_searches_the_full_models_vectors(denser: ElasticDenser, name: str) -> None:
    assert name == str(denser.config.full) or name in denser.config.trained
    documents = denser.encode_document(DOCUMENTS)
    scores = (denser.encode_query([QUERY], Subnet.parse(name)) @ documents.T)[0]
    assert set(np.argsort(-scores)[:2]) == {0, 3}


def test_the_ranker_ranks_at_full_size_and_under_a_budget() -> None:
    ranker = ElasticRanker.from_pretrained("elastic-ranker-small")
    assert ranker.score(QUERY, DOCUMENTS).argmax() == 0
    assert ranker.score(QUERY, DOCUMENTS, Subnet(0.5, 6)).argmax() in (0, 3)
    scores = ranker.score(QUERY, DOCUMENTS, budget=0.5)
    assert scores.argmax() in (0, 3)
    assert len(set(scores.tolist())) == len(DOCUMENTS)


def test_a_subnet_that_was_never_trained_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    config = load_checkpoint("elastic-denser-small").config
    for subnet in ("w0.50-d7", "w0.50-d7", "w0.50-d6", None):
        config.resolve(subnet and Subnet.parse(subnet))
    assert [record.getMessage().split(" and ")[0] for record in caplog.records] == ["subnet w0.50-d7 was never trained"]
