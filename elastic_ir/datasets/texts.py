"""A folder of text files, cut into passages along headings and paragraphs."""

from __future__ import annotations

import os
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from logging import getLogger
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from elastic_ir.datasets.base import Dataset, digest_of, key_of
from elastic_ir.datasets.lines import MAX_ID_CHARS, SMALL_BYTES
from elastic_ir.errors import DatasetError
from elastic_ir.records import Document
from elastic_ir.version import __version__

MAX_FILE_BYTES = 64 * 2**20
WORDS = 120
"""Of a passage at most: about as much as the models read well at once."""
MIN_CHARACTERS = 3

_log = getLogger(__name__)


class Block(NamedTuple):
    """A paragraph, or a heading of ``level`` 1 (the file's own title) and deeper."""

    text: str
    level: int | None = None


class TextFolder(Dataset):
    """Passages of at most ``WORDS`` words of the text files in a folder and the folders in it; no queries.

    A passage's id is its file's path from here, percent-encoded, and its place in it: ``guide/set%20up.md#3``. Its
    title is that of the file and the two nearest headings above it. Links, names that begin with a dot, files of
    other kinds, and (with a warning) those of more than ``MAX_FILE_BYTES`` are left out.

    Raises:
        DatasetError: if no file of a kind in ``KINDS`` is there.
    """

    def __init__(self, name: str) -> None:
        self.name, self._path, self._told = name, Path(name), set[str]()
        place = self._path.resolve()
        self.key = f"{key_of(place.name)}-{digest_of(place)[:8]}"
        if next(self._files(), None) is None:
            raise DatasetError(
                f"{name} has neither corpus.jsonl (the BEIR layout) nor a text in {', '.join(KINDS)}; wanted documents"
            )

    @property
    def count(self) -> int | None:
        """Passages of at most ``SMALL_BYTES`` of texts; None for more."""
        return sum(1 for _ in self.documents()) if self._bytes() <= SMALL_BYTES else None

    def documents(self) -> Iterator[Document]:
        """The passages by path, one file in memory at a time."""
        found = False
        for path, name in self._files():
            title = re.sub(r"[_\W]+", " ", path.stem).strip() or path.stem
            for number, (heading, text) in enumerate(passages(KINDS[path.suffix.lower()](self._text(path)), title), 1):
                found = True
                yield Document(f"{name}#{number}", text, heading)
        if not found:
            raise DatasetError(f"the texts in {self._path} are all blank; wanted a word at least")

    def fingerprint(self) -> str:
        """Digest of all texts; of their sizes and times of change when they have more than ``SMALL_BYTES``."""
        by_time = self._bytes() > SMALL_BYTES
        digests = [
            (name, (path.stat().st_size, path.stat().st_mtime_ns) if by_time else digest_of(self._text(path)))
            for path, name in self._files()
        ]
        return digest_of(__version__, *digests)

    def _bytes(self) -> int:
        return sum(path.stat().st_size for path, _ in self._files())

    def _files(self) -> Iterator[tuple[Path, str]]:
        """Path, and its name in ids, of every text, by name."""
        for folder, folders, names in os.walk(self._path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for path in (Path(folder, name) for name in sorted(names) if not name.startswith(".")):
                if path.suffix.lower() not in KINDS or path.is_symlink() or not path.is_file():
                    continue
                name = quote(path.relative_to(self._path).as_posix(), errors="replace")
                if path.stat().st_size > MAX_FILE_BYTES or len(name) > MAX_ID_CHARS - 10:
                    self._tell(f"{path} is left out: it has over {MAX_FILE_BYTES:,} bytes, or too long a name")
                    continue
                yield path, name

    def _text(self, path: Path) -> str:
        """What is in a file; bytes that are not UTF-8 (or UTF-16, if it says so) become U+FFFD."""
        try:
            raw = path.read_bytes()
        except OSError as exc:
            raise DatasetError(f"{path} cannot be read ({exc.strerror}); wanted a readable file") from exc
        coding = "utf-16" if raw.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig"
        try:
            text = raw.decode(coding)
        except UnicodeDecodeError as exc:
            self._tell(f"{path} is not UTF-8 at byte {exc.start}; such characters are replaced")
            text = raw.decode(coding, "replace")
        return text.replace("\x00", " ")

    def _tell(self, warning: str) -> None:
        """Once, however often the folder is read."""
        if warning not in self._told:
            self._told.add(warning)
            _log.warning(warning)


def passages(blocks: Iterator[Block], title: str) -> Iterator[tuple[str, str]]:
    """Title and text of each passage: paragraphs under one heading, as many as fit into ``WORDS``."""
    headings, kept, words = list[Block](), list[str](), 0

    def full() -> Iterator[tuple[str, str]]:
        text = "\n".join(kept)
        if len(text.strip()) >= MIN_CHARACTERS:
            yield ": ".join([title, *(heading.text for heading in headings[-2:])]), text
        kept.clear()

    for block in blocks:
        if block.level is not None:
            yield from full()
            words = 0
            headings = [above for above in headings if (above.level or 1) < block.level]
            if block.level == 1:
                title = block.text
            else:
                headings.append(block)
            continue
        for part in _parts(block.text):
            length = len(part.split())
            if words + length > WORDS:
                yield from full()
                words = 0
            kept.append(part)
            words += length
    yield from full()


def _parts(text: str) -> Iterator[str]:
    """``text``, or pieces of at most ``WORDS`` words of a longer one, which end with a sentence where they can."""
    words = text.split()
    if len(words) <= WORDS:
        yield text
        return
    while words:
        ends = [n for n in range(WORDS // 2, min(WORDS, len(words)) + 1) if words[n - 1][-1] in ".!?"]
        cut = len(words) if len(words) <= WORDS else (ends[-1] if ends else WORDS)
        yield " ".join(words[:cut])
        words = words[cut:]


def _paragraphs(text: str) -> Iterator[Block]:
    for paragraph in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        if paragraph.strip():
            yield Block(paragraph.strip("\n"))


_HASHES = re.compile(r"(#{1,6})\s+(.*?)\s*#*\s*$")
_RULE = re.compile(r"([=\-~^\"'`*+#:.])\1{2,}\s*$")


def _marked(text: str, rules: tuple[str, ...] = ()) -> Iterator[Block]:
    """Paragraphs and headings of Markdown or reStructuredText: ``# hashes``, or a rule under (and over) the heading.

    Levels of ruled headings are those of ``rules``, and behind them in the order in which they come.
    """
    kept, styles, over, fenced = list[str](), [*rules], "", False
    for line in [*text.replace("\r\n", "\n").split("\n"), ""]:
        fenced ^= line.lstrip().startswith(("```", "~~~"))
        hashes = None if fenced else _HASHES.match(line)
        rule = None if fenced else _RULE.match(line)
        if rule and not kept:
            over = rule[1]
        elif rule and len(kept) == 1 and len(line) >= len(kept[0].strip()):
            style = over + rule[1]
            styles += [] if style in styles else [style]
            yield Block(kept.pop().strip(), 1 + styles.index(style))
            over = ""
        elif hashes or not (fenced or line.strip()):
            if kept:
                yield Block("\n".join(kept))
            kept, over = [], ""
            if hashes:
                yield Block(hashes[2], len(hashes[1]))
        else:
            kept.append(line)
    if kept:
        yield Block("\n".join(kept))


def _markdown(text: str) -> Iterator[Block]:
    return _marked(text, ("=", "-"))


class _Page(HTMLParser):
    """Collects the blocks of a page; scripts, styles and navigation are left out."""

    _HIDDEN = frozenset({"script", "style", "nav", "template", "noscript", "svg"})
    _INLINE = frozenset(
        {"a", "abbr", "b", "cite", "code", "del", "dfn", "em", "font", "i", "img", "ins", "kbd", "mark", "q", "s",
         "samp", "small", "span", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr"}
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks, self._kept, self._hidden = list[Block](), list[str](), 0
        self._level: int | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self._HIDDEN:
            self._hidden += 1
        if tag not in self._INLINE:
            self._end()
        if tag == "title" or re.fullmatch(r"h[1-6]", tag):
            self._level = 1 if tag == "title" else int(tag[1])

    def handle_endtag(self, tag: str) -> None:
        if tag in self._HIDDEN:
            self._hidden = max(0, self._hidden - 1)
        if tag not in self._INLINE:
            self._end()

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._kept.append(data)

    def close(self) -> None:
        super().close()
        self._end()

    def _end(self) -> None:
        text = " ".join("".join(self._kept).split())
        if text:
            self.blocks.append(Block(text if self._level is None else text.rstrip("#¶ "), self._level))
        self._kept.clear()
        self._level = None


def _page(text: str) -> Iterator[Block]:
    page = _Page()
    page.feed(text)
    page.close()
    return iter(page.blocks)


KINDS: dict[str, Callable[[str], Iterator[Block]]] = {
    ".txt": _paragraphs,
    ".md": _markdown,
    ".markdown": _markdown,
    ".rst": _marked,
    ".html": _page,
    ".htm": _page,
}
"""Suffix of a file -> what reads its blocks."""
