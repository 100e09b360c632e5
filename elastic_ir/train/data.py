"""Training data: batches that depend only on the seed and the step, so that a resumed run sees the same ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import NamedTuple

from elastic_ir.datasets.lines import Line, read_lines
from elastic_ir.elastic import TokenBatch, Tokens
from elastic_ir.errors import ConfigError, DatasetError
from elastic_ir.train.recipe import ExampleSource, ListSource, Recipe, TextSource, TextStream

_PROMPT_TOKENS = 64
_SORTED_TOGETHER = 16
"""Batches cut from one window sorted by length: little is padded."""


class TrainingList(NamedTuple):
    """A query and texts to be scored against it."""

    query: str
    candidates: tuple[str, ...]


class Example(NamedTuple):
    """One sentence, or two, and the number of its label, or its number in a regression."""

    first: str
    second: str | None
    label: float


def sentences(examples: Sequence[Example]) -> tuple[list[str], list[str] | None]:
    """First and second sentences; None for the second where no example has one."""
    second = [one.second or "" for one in examples]
    return [one.first for one in examples], second if any(second) else None


class TextPool:
    """Texts of one stream, drawn once by their shares.

    Args:
        stream: names the sources.
        seed: decides what is drawn and in which order it is used.
        tokens: tokenizer.
        longest: most tokens of a sequence, special tokens included.
    """

    def __init__(self, stream: TextStream, seed: int, tokens: Tokens, longest: int) -> None:
        self.stream, self._seed, self._tokens, self._longest = stream, seed, tokens, longest
        random = Random(f"{seed}:pool")
        held = [(source, _read_texts(source)) for source in stream.texts]
        drawn = random.choices(held, [source.share for source in stream.texts], k=stream.pool)
        texts = [_span(random.choice(texts), source, random) for source, texts in drawn]
        self._roles = [source.role for source, _ in drawn]
        paired = [stream.pairs > 0 and random.random() < stream.pairs for _ in texts]
        parts = [_two_parts(text, random) if pair else (text, "") for text, pair in zip(texts, paired, strict=True)]
        self._ids = tokens.ids([one for one, _ in parts], stream.max_tokens)
        half = (longest - 3) // 2
        others = tokens.ids([other for _, other in parts], min(stream.max_tokens, half)) if stream.pairs else []
        self._others = {row: ids for row, ids in enumerate(others) if paired[row]}
        for row in self._others:
            self._ids[row] = self._ids[row][:half]
        self._planned: tuple[int, list[list[int]]] = -1, []

    def sequences(self, prompts: Mapping[str, str]) -> list[list[int]]:
        """The texts as complete token sequences, each after the prompt of its role; pairs have none."""
        before = {role: self._tokens.ids([prompt], _PROMPT_TOKENS)[0] for role, prompt in prompts.items()}
        return [
            self._tokens.pair(ids, self._others[row])
            if row in self._others
            else self._tokens.single([*before[role], *ids][: self._longest - 2])
            for row, (role, ids) in enumerate(zip(self._roles, self._ids, strict=True))
        ]

    def padded(self, sequences: Sequence[Sequence[int]], rows: Sequence[int]) -> TokenBatch:
        """Those ``rows`` of ``sequences``, as a batch."""
        chosen = [sequences[row] for row in rows]
        if not self._others:
            return self._tokens.pad(chosen)
        firsts = [
            len(self._ids[row]) + 2 if row in self._others else len(found)
            for row, found in zip(rows, chosen, strict=True)
        ]
        return self._tokens.pad(chosen, firsts)

    def rows(self, step: int) -> list[int]:
        """Numbers of the texts of the stream's own ``step``: alike in length, in random order; every text is used
        once before any is used again (but for what does not fill a batch)."""
        epoch, position = divmod(step, max(1, len(self._ids) // self.stream.batch))
        if epoch != self._planned[0]:
            self._planned = epoch, self._plan(epoch)
        return self._planned[1][position]

    def _plan(self, epoch: int) -> list[list[int]]:
        size = self.stream.batch
        batches = batches_of_alike([len(ids) for ids in self._ids], size, Random(f"{self._seed}:{epoch}"))
        return [batch for batch in batches if len(batch) == size] or batches


def batches_of_alike(lengths: Sequence[int], size: int, random: Random) -> list[list[int]]:
    """All rows in batches of ``size``, those of a batch alike in length, in random order; one may be smaller."""
    order = list(range(len(lengths)))
    random.shuffle(order)
    batches = []
    for first in range(0, len(order), size * _SORTED_TOGETHER):
        window = sorted(order[first : first + size * _SORTED_TOGETHER], key=lambda row: lengths[row])
        batches += [window[start : start + size] for start in range(0, len(window), size)]
    for batch in batches:
        random.shuffle(batch)
    random.shuffle(batches)
    return batches


def _span(text: str, source: TextSource, random: Random) -> str:
    if source.span_words is None:
        return text
    words = text.split()
    length = random.randint(*source.span_words)
    start = random.randrange(max(1, len(words) - length + 1))
    return " ".join(words[start : start + length])


def _two_parts(text: str, random: Random) -> tuple[str, str]:
    """Two parts of ``text``, each a quarter to three quarters of its words; they may overlap."""
    words = text.split()
    parts = []
    for _ in range(2):
        length = random.randint(max(1, len(words) // 4), max(1, 3 * len(words) // 4))
        start = random.randrange(max(1, len(words) - length + 1))
        parts.append(" ".join(words[start : start + length]))
    return parts[0], parts[1]


class TextStreams:
    """The pools of a recipe's streams, which take turns by their shares."""

    def __init__(self, recipe: Recipe, tokens: Tokens, longest: int) -> None:
        if not recipe.streams:
            raise ConfigError(f"a recipe of kind {recipe.kind} needs `streams:`, at least one with a file of texts")
        self.pools = [TextPool(stream, recipe.seed + i, tokens, longest) for i, stream in enumerate(recipe.streams)]
        self._turns = [number for number, stream in enumerate(recipe.streams) for _ in range(stream.share)]

    def rows(self, step: int) -> tuple[int, list[int]]:
        """The stream whose turn ``step`` is, and the rows of its pool."""
        rounds, turn = divmod(step, len(self._turns))
        number = self._turns[turn]
        own_step = rounds * self._turns.count(number) + self._turns[:turn].count(number)
        return number, self.pools[number].rows(own_step)


class Lists:
    """Seeded batches of candidate lists; every list is used once before any is used again."""

    def __init__(self, recipe: Recipe) -> None:
        if not recipe.lists:
            raise DatasetError("a ranker recipe needs `lists:`, at least one file of candidate lists")
        self.recipe = recipe
        self._lists = [item for source in recipe.lists for item in _read_lists(source)]
        self._shuffled: tuple[int, list[int]] = -1, []

    def batch(self, step: int) -> list[TrainingList]:
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


def _read_lists(source: ListSource) -> Iterator[TrainingList]:
    for line in _lines(source.path, source.limit):
        row = line.record()
        query, candidates = line.field(row, "query"), row.get("candidates")
        if not isinstance(candidates, list) or len(candidates) < 2 or not all(isinstance(c, str) for c in candidates):
            line.fail("wanted `candidates`, a list of at least two texts")
        yield TrainingList(query, tuple(candidates))


def read_examples(sources: Sequence[ExampleSource], labels: Sequence[str]) -> list[Example]:
    """Labelled examples; ``labels`` in the order of their numbers, none for a regression.

    Raises:
        DatasetError: naming file and line.
    """
    found: list[Example] = []
    for source in sources:
        before = len(found)
        for line in _lines(source.path, source.limit):
            row = line.record()
            first, second, label = line.field(row, "sentence1"), row.get("sentence2"), row.get("label")
            if second is not None and not isinstance(second, str):
                line.fail("wanted `sentence2`, a text")
            if isinstance(label, str) and label in labels:
                label = labels.index(label)
            if isinstance(label, bool) or not isinstance(label, int | float) or not math.isfinite(label):
                line.fail(f"found label {label!r}; wanted a number or one of {list(labels)}")
            if labels and label not in range(len(labels)):
                line.fail(f"found label {label!r}; wanted one of 0..{len(labels) - 1} ({', '.join(labels)})")
            found.append(Example(first, second or None, label))
        if len(found) == before:
            raise DatasetError(f"{source.path} has no line; wanted labelled texts")
    if not found:
        raise DatasetError("a recipe of kind classifier needs `examples:`, at least one file with a labelled text")
    return found


def _lines(path: str, limit: int | None) -> Iterator[Line]:
    return islice(read_lines(Path(path).expanduser()), limit)
