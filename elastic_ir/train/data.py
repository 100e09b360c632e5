"""Training data: batches that depend only on the seed and the step, so that a resumed run sees the same ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from random import Random
from typing import NamedTuple

from elastic_ir.datasets.lines import Line, read_lines
from elastic_ir.errors import DatasetError
from elastic_ir.train.recipe import ListSource, Recipe, TextSource

_DRAWS = 8


class CandidateList(NamedTuple):
    """A query and texts to be scored against it."""

    query: str
    candidates: tuple[str, ...]


class Texts:
    """Seeded batches of texts drawn from the recipe's sources by their shares, each with its role's prompt.

    Args:
        recipe: names the sources.
        prompts: role -> text put before every text of it.
    """

    def __init__(self, recipe: Recipe, prompts: Mapping[str, str]) -> None:
        if not recipe.texts:
            raise DatasetError("a denser recipe needs `texts:`, at least one file of texts")
        self.recipe, self._prompts = recipe, prompts
        self._texts = [_read_texts(source) for source in recipe.texts]
        self._shares = [source.share for source in recipe.texts]

    def batch(self, step: int) -> list[str]:
        """The ``recipe.batch`` texts of ``step``, alike in length (a window of a larger draw): little is padded."""
        random = Random(f"{self.recipe.seed}:{step}")
        chosen = random.choices(range(len(self._texts)), self._shares, k=self.recipe.batch * _DRAWS)
        drawn = sorted((self._draw(source, random) for source in chosen), key=lambda text: (len(text), text))
        start = random.randrange(_DRAWS) * self.recipe.batch
        return drawn[start : start + self.recipe.batch]

    def _draw(self, source: int, random: Random) -> str:
        text = random.choice(self._texts[source])
        prompt, span = self._prompts[self.recipe.texts[source].role], self.recipe.texts[source].span_words
        if span is None:
            return prompt + text
        words = text.split()
        length = random.randint(*span)
        start = random.randrange(max(1, len(words) - length + 1))
        return prompt + " ".join(words[start : start + length])


class Lists:
    """Seeded batches of candidate lists; every list is used once before any is used again."""

    def __init__(self, recipe: Recipe) -> None:
        if not recipe.lists:
            raise DatasetError("a ranker recipe needs `lists:`, at least one file of candidate lists")
        self.recipe = recipe
        self._lists = [item for source in recipe.lists for item in _read_lists(source)]
        self._shuffled: tuple[int, list[int]] = -1, []

    def batch(self, step: int) -> list[CandidateList]:
        """The ``recipe.batch`` candidate lists of ``step``."""
        size, count = self.recipe.batch, len(self._lists)
        wanted = range(step * size, (step + 1) * size)
        return [self._lists[self._order(index // count)[index % count]] for index in wanted]

    def _order(self, epoch: int) -> list[int]:
        if epoch != self._shuffled[0]:
            order = list(range(len(self._lists)))
            Random(f"{self.recipe.seed}:{epoch}").shuffle(order)
            self._shuffled = epoch, order
        return self._shuffled[1]


def _read_texts(source: TextSource) -> list[str]:
    texts = [line.field(line.record(), source.field) for line in _lines(source.path, source.limit)]
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise DatasetError(f"{source.path} holds no text in field {source.field!r}")
    return texts


def _read_lists(source: ListSource) -> Iterator[CandidateList]:
    for line in _lines(source.path, source.limit):
        row = line.record()
        query, candidates = line.field(row, "query"), row.get("candidates")
        if not isinstance(candidates, list) or len(candidates) < 2 or not all(isinstance(c, str) for c in candidates):
            line.fail("wanted `candidates`, a list of at least two texts")
        yield CandidateList(query, tuple(candidates))


def _lines(path: str, limit: int | None) -> Iterator[Line]:
    return islice(read_lines(Path(path).expanduser()), limit)
