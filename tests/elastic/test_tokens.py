"""Token batches."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elastic_ir.elastic import Tokens, load_checkpoint
from elastic_ir.elastic.tokens import by_token_budget


@pytest.fixture(scope="module")
def tokens(bert_folder: Path) -> Tokens:
    return load_checkpoint(bert_folder).tokens


@given(st.lists(st.integers(1, 600), max_size=80), st.integers(1, 4096))
def test_groups_hold_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    groups = list(by_token_budget(lengths, budget))
    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[row] for row in group) <= budget


def test_pairs_have_segments(tokens: Tokens) -> None:
    first, second = tokens.ids(["cat", "the dog ran"], 10)
    batch = tokens.pad([tokens.pair(first, second), tokens.pair(first, first)], [3, 3])
    assert batch.type_ids is not None
    assert batch.type_ids.tolist() == [[0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 0, 0]]
    assert batch.lengths.tolist() == [7, 5]


def test_white_space_takes_no_room(tokens: Tokens) -> None:
    text = "cat dog bird"
    assert tokens.ids(["\n" * 700 + text.replace(" ", " " * 200)], 16) == tokens.ids([text], 16)


@pytest.mark.parametrize("text", ["", "\ud800 lone", "\x00", "🐈" * 50, "a" * 200_000, "‮abc‍"])
def test_odd_texts_are_cut_and_never_fail(tokens: Tokens, text: str) -> None:
    assert len(tokens.ids([text], 16)[0]) <= 16
