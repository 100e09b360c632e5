"""Blocks of a text to passages: paragraphs packed under their headings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import NamedTuple

from elastic_ir.datasets.blocks import Block

WORDS, CHARACTERS = 120, 1_000
"""Of a passage at most: about as much as the models read well at once."""
HEADING = 200
"""Characters kept of a heading: it is in the title of all passages under it."""
_ENDS = ".!?。"


class Passage(NamedTuple):
    """``title`` is the text's, and the two nearest headings; ``text`` is empty where nothing is under a heading."""

    title: str
    text: str


def passages(blocks: Iterable[Block], title: str) -> Iterator[Passage]:
    """Paragraphs under one heading, as many as fit into ``WORDS`` and ``CHARACTERS``; ``title`` until one is found."""
    headings, kept, bare = list[tuple[int, str]](), list[str](), False

    def packed() -> Iterator[Passage]:
        if kept:
            yield Passage(": ".join([title, *(heading for _, heading in headings[-2:])]), "\n".join(kept))
            kept.clear()

    def told(level: int) -> Iterator[Passage]:
        """What is kept, or a heading without anything under it, where one of ``level`` follows."""
        if bare and level <= (headings[-1][0] if headings else 1):
            kept.append("")
        yield from packed()

    for text, level in blocks:
        if level is not None:
            yield from told(level)
            headings = [above for above in headings if above[0] < level]
            if level <= 1:
                title = text[:HEADING]
            else:
                headings.append((level, text[:HEADING]))
            bare = level > 0
            continue
        for piece in _pieces(text):
            if kept and not _fits(*kept, piece):
                yield from packed()
            kept.append(piece)
            bare = False
    yield from told(1)


def _fits(*texts: str) -> bool:
    return sum(map(len, texts)) <= CHARACTERS and sum(len(text.split()) for text in texts) <= WORDS


def _pieces(text: str) -> Iterator[str]:
    """``text``, or pieces of a longer one, which end with a sentence where they can."""
    if _fits(text):
        yield text
        return
    words = [word[at : at + CHARACTERS] for word in text.split() for at in range(0, len(word), CHARACTERS)]
    start = 0
    while start < len(words):
        lengths = accumulate(len(word) + 1 for word in words[start : start + WORDS])
        end = start + sum(length <= CHARACTERS + 1 for length in lengths)
        if end < len(words):
            middle = (start + end + 1) // 2
            end = next((cut for cut in range(end, middle, -1) if words[cut - 1][-1] in _ENDS), end)
        yield " ".join(words[start:end])
        start = end
