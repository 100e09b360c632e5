"""Training data: batches that depend only on the seed and the step, so that a resumed run sees the same ones."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from elastic_ir.errors import DatasetError
from elastic_ir.train.recipe import ListSource, Recipe, TextSource

_DRAWS = 8


class CandidateList(NamedTuple):
    """A query and texts to be scored against it."""

    query: str
    candidates: tuple[str, ...]


class Texts:
    """Seeded batches of texts drawn from the recipe's sources by their shares."""

    def __init__(self, recipe: Recipe) -> None:
        if not recipe.texts:
            raise DatasetError("a denser recipe needs `texts:`, at least one file of texts")
        self.recipe = recipe
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
        span = self.recipe.texts[source].span_words
        if span is None:
            return text
        words = text.split()
        length = random.randint(*span)
        start = random.randrange(max(1, len(words) - length + 1))
        return " ".join(words[start : start + length])


class Lists:
    """Seeded batches of candidate lists; every list is used once before any is used again."""

    def __init__(self, recipe: Recipe) -> None:
        if not recipe.lists:
            raise DatasetError("a ranker recipe needs `lists:`, at least one file of candidate lists")
        self.recipe = recipe
        self._lists = [item for source in recipe.lists for item in _read_lists(source)]

    def batch(self, step: int) -> list[CandidateList]:
        """The ``recipe.batch`` candidate lists of ``step``."""
        size, count = self.recipe.batch, len(self._lists)
        wanted = range(step * size, (step + 1) * size)
        return [self._lists[self._order(index // count)[index % count]] for index in wanted]

    def _order(self, epoch: int) -> list[int]:
        order = list(range(len(self._lists)))
        Random(f"{self.recipe.seed}:{epoch}").shuffle(order)
        return order


def _read_texts(source: TextSource) -> list[str]:
    texts = []
    for where, row in _rows(source.path, source.limit):
        text = row.get(source.field)
        if not isinstance(text, str):
            raise DatasetError(f"{where}: no text in field {source.field!r}")
        if text.strip():
            texts.append(text)
    if not texts:
        raise DatasetError(f"{source.path} holds no text in field {source.field!r}")
    return texts


def _read_lists(source: ListSource) -> Iterator[CandidateList]:
    for where, row in _rows(source.path, source.limit):
        query, candidates = row.get("query"), row.get("candidates")
        if not isinstance(query, str) or not isinstance(candidates, list) or len(candidates) < 2:
            raise DatasetError(f"{where}: wanted a query and at least two candidates")
        yield CandidateList(query, tuple(map(str, candidates)))


def _rows(path: str, limit: int | None) -> Iterator[tuple[str, dict[str, Any]]]:
    file = Path(path).expanduser()
    try:
        with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if limit is not None and number > limit:
                    return
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("not an object")
                yield f"{file}, line {number}", row
    except OSError as exc:
        raise DatasetError(f"cannot read training data {file}: {exc.strerror or exc}") from exc
    except ValueError as exc:
        raise DatasetError(f"{file}, line {number}: {exc}; wanted one JSON object a line") from exc
