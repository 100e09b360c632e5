"""``pydocs``: the docstrings of this Python and of numpy, pandas and scipy. Real text that every machine has."""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import NamedTuple, TypedDict

from elastic_ir.datasets.base import Dataset, digest_of, key_of
from elastic_ir.datasets.docstrings import package, standard_library
from elastic_ir.records import Document, Qrels, Query
from elastic_ir.version import __version__

MAX_DOCUMENTS = 15_000
MAX_WORDS = 64
MIN_WORDS = 3
KNOWN_ITEMS = 100
KNOWN_ITEM_DOCUMENTS = 2_000
KNOWN_ITEM_WORDS = 8
SEED = 1

PARTS: dict[str, Callable[[], dict[str, str]]] = {
    "stdlib": standard_library,
    "numpy": partial(package, "numpy"),
    "pandas": partial(package, "pandas"),
    "scipy": partial(package, "scipy"),
}
"""What is read, in this order, until there are ``MAX_DOCUMENTS``."""


class Pydocs(Dataset):
    """Docstrings, and 60 questions over the standard library in our own words (``pydocs``, ``pydocs/questions``).

    ``doc_id`` is the public dotted name (``csv.DictReader``); the title repeats it followed by its words
    (``csv Dict Reader``), so that both forms are found; the text is the docstring, cut at 64 words. What there
    is depends on the installed versions; the order does not change.
    """

    key = "pydocs"

    def __init__(self, name: str = "pydocs") -> None:
        self.name = name

    @property
    def count(self) -> int:
        return len(_collection())

    def documents(self) -> Iterator[Document]:
        yield from _collection()

    def fingerprint(self) -> str:
        return _versions(*PARTS)

    def queries(self) -> list[Query]:
        return [Query(question["query_id"], question["text"]) for question in _questions()]

    def qrels(self) -> Qrels:
        return {question["query_id"]: dict.fromkeys(question["relevant"], 1) for question in _questions()}


class KnownItems(Dataset):
    """A smoke test: 100 summary lines as queries, each to find the rest of its own docstring.

    A small collection of its own: 2,000 documents of the standard library, of which those that are looked for
    come without their summary line.
    """

    key = key_of("pydocs/known-items")

    def __init__(self, name: str = "pydocs/known-items") -> None:
        self.name = name

    @property
    def count(self) -> int:
        return len(_known_item_texts())

    def documents(self) -> Iterator[Document]:
        yield from (_document(name, text) for name, text in _known_item_texts().items())

    def fingerprint(self) -> str:
        return _versions("stdlib")

    def queries(self) -> list[Query]:
        return [Query(item.doc_id, item.summary) for item in _known_items()]

    def qrels(self) -> Qrels:
        return {item.doc_id: {item.doc_id: 1} for item in _known_items()}


class _KnownItem(NamedTuple):
    doc_id: str
    summary: str
    rest: str


class _Question(TypedDict):
    query_id: str
    text: str
    relevant: list[str]


@cache
def _collection() -> tuple[Document, ...]:
    documents: list[Document] = []
    for part in PARTS:
        documents += [_document(name, text) for name, text in _part(part).items()]
        if len(documents) >= MAX_DOCUMENTS:
            break
    return tuple(documents[:MAX_DOCUMENTS])


@cache
def _part(part: str) -> dict[str, str]:
    """Name -> whole docstring, by name, without short ones and without copies under the same last name."""
    docstrings = {name: text for name, text in PARTS[part]().items() if len(text.split()) >= MIN_WORDS}
    first: dict[tuple[str, str], str] = {}
    for name in sorted(docstrings, key=lambda name: (len(name), name)):
        first.setdefault((name.rpartition(".")[2], docstrings[name]), name)
    return {name: docstrings[name] for name in sorted(first.values())}


def _versions(*parts: str) -> str:
    """Digest of what the docstrings come from and of what reads them."""
    return digest_of(__version__, sys.version, *(_version(part) for part in parts))


def _version(part: str) -> str:
    try:
        return version(part)
    except PackageNotFoundError:  # the standard library, or not installed
        return ""


@cache
def _known_items() -> tuple[_KnownItem, ...]:
    """A fixed sample of the docstrings with a summary line, a blank line, and enough words after it."""
    items: dict[str, _KnownItem] = {}
    for name, text in _part("stdlib").items():
        summary, _, rest = text.partition("\n\n")
        told = "\n" not in summary and "->" not in summary and len(summary.split()) >= MIN_WORDS + 1
        if told and len(rest.split()) >= KNOWN_ITEM_WORDS:
            items.setdefault(summary, _KnownItem(name, summary, rest))
    sample = random.Random(SEED).sample(list(items.values()), min(KNOWN_ITEMS, len(items)))
    return tuple(sorted(sample))


@cache
def _known_item_texts() -> dict[str, str]:
    """The rests looked for, among a fixed sample of other docstrings; by name."""
    rest = {item.doc_id: item.rest for item in _known_items()}
    others = [(name, text) for name, text in _part("stdlib").items() if name not in rest]
    sample = random.Random(SEED).sample(others, min(KNOWN_ITEM_DOCUMENTS - len(rest), len(others)))
    return dict(sorted([*rest.items(), *sample]))


@cache
def _questions() -> list[_Question]:
    lines = (files("elastic_ir.datasets") / "pydocs_questions.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in lines.splitlines()]


def _document(name: str, text: str) -> Document:
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", name)
    plain = text.encode("utf-8", "replace").decode()  # a docstring may hold half a surrogate pair
    return Document(name, " ".join(plain.split()[:MAX_WORDS]), " ".join(dict.fromkeys([name, *words])))
