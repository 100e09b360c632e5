"""Texts to blocks: the headings and paragraphs of Markdown, HTML, reStructuredText and plain text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from html import unescape
from typing import Any, NamedTuple

import yaml


class Block(NamedTuple):
    """A paragraph; or a heading of ``level`` 1 and deeper, or 0 for a title that stands beside the text."""

    text: str
    level: int | None = None


def plain(text: str) -> Iterator[Block]:
    """Paragraphs are parted by blank lines."""
    for paragraph in re.split(r"\n[^\S\n]*\n", text):
        if paragraph.strip():
            yield Block(paragraph.strip("\n"))


_RULE = re.compile(r"([!-/:-@\[-`{-~])\1*\s*$")


def restructured(text: str) -> Iterator[Block]:
    """Headings have a rule under them, or under and over; the first kind of rule is that of the title."""
    kept, styles, over = list[str](), list[str](), ""
    for line in [*text.split("\n"), ""]:
        rule = _RULE.match(line)
        if rule and not kept:
            over = rule[1]
        elif rule and len(kept) == 1 and len(line.rstrip()) >= min(4, len(kept[0].strip())):
            style = over + rule[1]
            styles += [] if style in styles else [style]
            yield Block(kept.pop().strip(), 1 + styles.index(style))
            over = ""
        elif line.strip():
            kept.append(line)
        else:
            if kept:
                yield Block("\n".join(kept))
            kept, over = [], ""


_FRONT = re.compile(
    r"---[^\S\n]*\n((?:(?:\w[\w.-]*[^\S\n]*:|#|-(?!--)|[ \t]+\S).*\n|[^\S\n]*\n)+)(?:---|\.\.\.)[^\S\n]*(?:\n|$)"
)
MAX_FRONT = 10_000


@cache
def _markdown() -> Any:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table")
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser


def markdown(text: str) -> Iterator[Block]:
    """As CommonMark has it, and tables; of settings that stand before, between two ``---``, the ``title`` is taken."""
    if front := _FRONT.match(text):
        settings = None
        with suppress(yaml.YAMLError, ValueError):
            settings = yaml.safe_load(front[1][:MAX_FRONT])
        if isinstance(settings, dict) and isinstance(title := settings.get("title"), str) and title.strip():
            yield Block(" ".join(title.split()), 0)
        text = text[front.end() :]
    lines, tokens = text.split("\n"), _markdown().parse(text)
    for place, token in enumerate(tokens):
        if token.level or token.map is None or token.nesting < 0 or token.type == "hr":
            continue
        if token.type == "html_block":
            yield from page(token.content)
        elif token.type == "heading_open":
            if heading := tokens[place + 1].content.strip():
                yield Block(heading, int(token.tag[1:]))
        elif found := "\n".join(lines[slice(*token.map)]).strip("\n"):
            yield Block(found)


_HIDDEN = {"script", "style", "nav", "template", "noscript", "svg"}
_HEADINGS = {f"h{level}": level for level in range(1, 7)} | {"title": 0}
_INLINE = {
    "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "del", "dfn", "em", "font", "i", "img", "ins",
    "kbd", "label", "mark", "q", "rb", "rt", "ruby", "s", "samp", "small", "span", "strike", "strong", "sub", "sup",
    "svg", "time", "tt", "u", "var", "wbr",
}  # fmt: skip
_TAG = re.compile(r"<[^<>]*>")
_LARGE_TAG = re.compile(r"<[^<>]{20000,}>")
_END = re.compile(r"</(?:html|body)\s*>", re.I)
_ANCHORS = {"#", "\u00b6"}
"""Texts of the links to headings themselves."""


def page(text: str) -> Iterator[Block]:
    """Of HTML, as lenient as browsers read it; scripts, styles and navigation are left out.

    Where tags are in each other more than 2,000 deep, all of them are only left out.
    """
    from lxml import etree

    text = _END.sub(" ", _LARGE_TAG.sub(" ", text))  # of many attributes the parser makes hard work
    parser = etree.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)
    root = etree.fromstring(text.encode("utf-8", "replace"), parser) if text.strip() else None
    if any(entry.level == etree.ErrorLevels.FATAL for entry in parser.error_log):
        yield from plain(unescape(_TAG.sub("\n\n", text)))
    elif root is not None:
        yield from _walked(etree.iterwalk(root, events=("start", "end")))


def _walked(walk: Any) -> Iterator[Block]:
    kept = list[str]()
    level: int | None = None

    def ended() -> Iterator[Block]:
        if found := " ".join("".join(kept).split()):
            yield Block(found, level)
        kept.clear()

    for event, node in walk:
        turn = (event == "start") == (level is None)  # into a heading, or out of it
        if node.tag in _HEADINGS and turn:
            yield from ended()
            level = _HEADINGS[node.tag] if event == "start" else None
        elif node.tag not in _INLINE:
            if level is None:
                yield from ended()
            kept.append(" ")
        text = (node.text if event == "start" else node.tail) or ""
        if event == "start" and node.tag in _HIDDEN:
            walk.skip_subtree()
        elif event == "end" or node.tag != "a" or text.strip() not in _ANCHORS:
            kept.append(text)
    yield from ended()


KINDS: dict[str, Callable[[str], Iterator[Block]]] = {
    ".txt": plain,
    ".md": markdown,
    ".markdown": markdown,
    ".rst": restructured,
    ".html": page,
    ".htm": page,
}
"""Suffix of a file -> what reads its blocks."""
