"""Folders of text files, cut into passages."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elastic_ir.datasets import load
from elastic_ir.datasets.passages import CHARACTERS, WORDS
from elastic_ir.errors import DatasetError
from elastic_ir.records import Document

MARKDOWN = """\
---
title: "The front"
---
Before all headings.

# The guide

First paragraph.

Second paragraph
of two lines.

## Set up C# #

```sh
# no heading

make demo
```

### On a Mac

<p align="center">Nothing <b>to</b> do.</p>

### How do I remove it?

Last words
---

- an item
- another

```make```

***
"""
RST = """\
=========
The guide
=========

First paragraph.

Set up
~~~~~~

Nothing to do.

Q
-

A.
"""
HTML = """\
<!doctype html><html><head><title>The front</title><style>p {color: red}</style></head>
<body><nav>Home</nav><h1>The<br>guide<a href="#x">¶</a></h1><h2><a><svg><path/></svg></a>Set <em>u</em>p in C #</h2>
<p>Nothing &amp; all<br>to <b>d</b>o.</p><script>var x = "<p>no</p>";</script><![odd]></body></html>
<ul><li>an item<li>another</ul>
"""


def documents(folder: Path, **files: str) -> list[Document]:
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text, "utf-8")
    return list(load(str(folder)).documents())


def test_markdown_is_cut_at_headings(tmp_path: Path) -> None:
    assert documents(tmp_path, guide_md=MARKDOWN) == [
        Document("guide.md#1", "Before all headings.", "The front"),
        Document("guide.md#2", "First paragraph.\nSecond paragraph\nof two lines.", "The guide"),
        Document("guide.md#3", "```sh\n# no heading\n\nmake demo\n```", "The guide: Set up C#"),
        Document("guide.md#4", "Nothing to do.", "The guide: Set up C#: On a Mac"),
        Document("guide.md#5", "", "The guide: Set up C#: How do I remove it?"),
        Document("guide.md#6", "- an item\n- another\n```make```", "The guide: Last words"),
    ]
    folded = documents(tmp_path, guide_md="---\n# of old\ntitle: >-\n  The: \n  front\ntags:\n- a\n\n---\nWords.")
    assert folded == [Document("guide.md#1", "Words.", "The: front")]
    noted = documents(tmp_path, guide_md="---\nnote: some words\n\nand others\n\n---\nMore.")
    assert "and others" in noted[-1].text
    ruled = documents(tmp_path, guide_md="---\nSome words.\n\n---\nMore.")
    assert ruled == [Document("guide.md#1", "Some words.\nMore.", "guide")]
    crossed = documents(tmp_path, guide_md=MARKDOWN.replace("\n", "\r\n"))
    assert crossed == documents(tmp_path, guide_md=MARKDOWN.replace("\n", "\r"))
    assert crossed == documents(tmp_path, guide_md=MARKDOWN)


def test_restructured_text_and_pages_likewise(tmp_path: Path) -> None:
    assert documents(tmp_path, a_rst=RST, b_html=HTML) == [
        Document("a.rst#1", "First paragraph.", "The guide"),
        Document("a.rst#2", "Nothing to do.", "The guide: Set up"),
        Document("a.rst#3", "A.", "The guide: Set up: Q"),
        Document("b.html#1", "Nothing & all\nto do.\nan item\nanother", "The guide: Set up in C #"),
    ]


def test_long_paragraphs_are_cut_at_sentences(tmp_path: Path) -> None:
    sentence = " ".join(["word"] * 49) + " end."
    found = documents(tmp_path, long_txt=f"{sentence} {sentence} {sentence}\n\n{sentence}\n\n{'x ' * 300}")
    assert [len(document.text.split()) for document in found] == [100, 100, WORDS, WORDS, 60]
    assert all(document.title == "long" for document in found)
    (tmp_path / "long.txt").unlink()
    found = documents(tmp_path, wide_md="# " + "h" * 999 + "\n" + "\u6587" * 1500 + "\u3002" * 600)
    assert [(len(document.text), len(document.title)) for document in found] == [(1000, 200), (1000, 200), (100, 200)]


@pytest.mark.parametrize(
    "text",
    ["# a" + " " * 50_000 + "b", "# a" + "#" * 50_000 + "b", "word " * 200_000, '<a b="c" ' * 20_000, "<!--" * 20_000,
     "<div>" * 20_000, "<a" + " a b=c" * 50_000 + ">", "---\n" + " \n" * 20_000, "---\na: b\n- c\n" * 5_000,
     "[a](" * 20_000, "> " * 20_000, "=\n" * 5_000, "---\n" * 5_000],
)  # fmt: skip
@pytest.mark.parametrize("name", ["d.txt", "d.md", "d.rst", "d.html"])
@pytest.mark.timeout(20)
def test_no_text_takes_long(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with suppress(DatasetError):
        list(load(str(tmp_path)).documents())


def test_of_tags_too_deep_the_words_stay(tmp_path: Path) -> None:
    (found,) = documents(
        tmp_path, deep_html="<p>first</p>" + "<div>" * 3_000 + "deep &amp; far" + "</div>" * 3_000 + "last"
    )
    assert found.text.split() == ["first", "deep", "&", "far", "last"]


def test_what_is_read_of_a_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("b/set up.TXT", "a.md", ".git/x.txt", "c.pdf", "b/.y.txt"):
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("some words")
    (tmp_path / "outside.txt").write_text("secret")
    (tmp_path / "docs" / "link.txt").symlink_to(tmp_path / "outside.txt")
    (tmp_path / "docs" / "z.txt").write_bytes(b"caf\xe9 \x00 au lait")
    (tmp_path / "docs" / "greek.html").write_bytes('<meta charset="iso-8859-7">\u03b1'.encode("iso-8859-7"))
    (tmp_path / "docs" / "wrong.html").write_bytes(b"<meta charset='undefined'><p>caf\xe9")
    for odd in (b"caf\xe8.txt", b"caf\xe9.txt"):
        (tmp_path / "docs" / os.fsdecode(odd)).write_text("odd")
    (tmp_path / "docs" / "wide.txt").write_bytes("breit".encode("utf-16"))
    dataset = load(str(tmp_path / "docs"))
    with caplog.at_level(logging.WARNING):
        assert {document.doc_id: document.text for document in dataset.documents()} == {
            "a.md#1": "some words",
            "wide.txt#1": "breit",
            "z.txt#1": "caf\xe9   au lait",
            "greek.html#1": "\u03b1",
            "wrong.html#1": "caf\xe9",
            "caf%E8.txt#1": "odd",
            "caf%E9.txt#1": "odd",
            "b/set%20up.TXT#1": "some words",
        }
        assert dataset.count == 8
    told = {record.getMessage().partition(" is ")[2] for record in caplog.records}
    assert told == {"not UTF-8; it is read as Windows-1252"}
    assert len(caplog.records) == 2
    before = dataset.fingerprint()
    (tmp_path / "docs" / "a.md").write_text("other words")
    assert load(dataset.name).fingerprint() != before


def test_a_folder_without_texts_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_text("x")
    with pytest.raises(DatasetError, match=r"has neither corpus.jsonl \(the BEIR layout\) nor a text in .txt, .md"):
        load(str(tmp_path))
    (tmp_path / "a.txt").write_text(" \n")
    with pytest.raises(DatasetError, match="are all blank"):
        list(load(str(tmp_path)).documents())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["d.txt", "d.md", "d.rst", "d.html"]),
    st.text("ab .#=-~`\n<>/![]|&;hp1", max_size=200) | st.binary(max_size=200),
)
def test_any_file_gives_passages_of_bounded_length(tmp_path: Path, name: str, content: str | bytes) -> None:
    for old in tmp_path.glob("d.*"):
        old.unlink()
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    try:
        found = list(load(str(tmp_path)).documents())
    except DatasetError as exc:
        assert "blank" in str(exc)  # noqa: PT017
    else:
        assert all(len(document.text.split()) <= WORDS for document in found)
        assert all(len(document.text) <= CHARACTERS + WORDS for document in found)
        assert len({document.doc_id for document in found}) == len(found)
