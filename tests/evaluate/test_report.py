"""The report is one well-formed file that shows what it was given and runs nothing of it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from elastic_ir.errors import RunFileError
from elastic_ir.evaluate import Evaluation, Section, evaluate, write_report

EVIL = '<script>alert("x")</script>&'
VOID = {"meta"}


class Page(HTMLParser):
    """Collects text and tags; fails on a tag closed out of turn."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.words = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [name for name, _ in attrs if name in {"href", "src"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    qrels = {"q1": {"a": 1}, EVIL: {"a": 1}, "q3": {"a": 1}}
    first = {"q1": {"a": 1.0}, EVIL: {"b": 2.0, "a": 1.0}, "q3": {"a": 1.0}}
    second = {"q1": {"b": 2.0, "a": 1.0}, EVIL: {"a": 1.0}}
    return evaluate(qrels, {"first": first, EVIL: second}, ["mrr", "map"])


def test_report_shows_figures_queries_and_provenance_escaped(tmp_path: Path, evaluation: Evaluation) -> None:
    path = tmp_path / "new" / "report.html"
    about = {"first": {"pipeline": EVIL, "path": path}}
    write_report([Section(EVIL, evaluation, {"q1": "what is {this}", EVIL: EVIL}, about)], path)
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert not page.open
    assert not page.links
    assert {"script", "img", "link", "iframe"}.isdisjoint(page.tags)
    assert "http://" not in html
    assert "https://" not in html
    for shown in (EVIL, "what is {this}", "3 judged queries", "0.8333", "0.5000", "1 / 0 / 2", "+0.5000", "-1.0000"):
        assert shown in page.words, shown
    assert page.words.index("Largest wins") < page.words.index("Largest losses")


def test_report_of_a_single_run_has_no_comparison(tmp_path: Path) -> None:
    only = evaluate({"q": {"a": 1}}, {"only": {"q": {"a": 1.0}}}, ["map"])
    write_report([Section("One", only)], tmp_path / "r.html")
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "only" in page.words
    assert "Largest" not in page.words


def test_report_survives_text_that_no_file_can_hold(tmp_path: Path, evaluation: Evaluation) -> None:
    write_report([Section("half \ud800 a character", evaluation)], tmp_path / "r.html")
    assert "<h1>half ? a character</h1>" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_report_that_cannot_be_written_is_a_run_file_error(tmp_path: Path, evaluation: Evaluation) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunFileError, match="cannot be written"):
        write_report([Section("title", evaluation)], tmp_path / "file" / "r.html")
