"""The report is one well-formed file that shows what it was given and runs nothing of it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from elastic_ir.errors import InputError, RunFileError
from elastic_ir.evaluate import Evaluation, Section, evaluate, write_report

EVIL = '<script>alert("x")</script>&'
VOID = {"meta"}
SHAPES = {"circle", "rect", "polygon", "path"}


class Page(HTMLParser):
    """Collects text and tags; fails on a tag closed out of turn."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    qrels = {"q1": {"a": 1}, EVIL: {"a": 1}, "q3": {"a": 1}}
    first = {"q1": {"a": 1.0}, EVIL: {"b": 2.0, "a": 1.0}, "q3": {"a": 1.0}}
    second = {"q1": {"b": 2.0, "a": 1.0}, EVIL: {"a": 1.0}}
    return evaluate(qrels, {"first": first, EVIL: second}, ["mrr", "map"])


def sidecar(level: str, ms: float, flops: float, **more: Any) -> dict[str, Any]:
    ids = ("q1", EVIL, "q3")
    return {
        "levels": dict.fromkeys(ids, level),
        "queries_ms": {query_id: ms * (1 + number) for number, query_id in enumerate(ids)},
        "flops": {level: flops},
        **more,
    }


@pytest.fixture
def section(evaluation: Evaluation) -> Section:
    mixed = sidecar("dense:w0.50-d2", 4.0, 2e9, generation=7, elastic_ir="9.9", machine={"system": EVIL})
    mixed["levels"]["q3"], mixed["flops"]["bm25"] = "bm25", 0.0
    first = sidecar("bm25", 1.0, 0.0, pipeline=EVIL, path=Path("x"))
    return Section(EVIL, evaluation, {"q1": "what is {this}", EVIL: EVIL}, {"first": first, EVIL: mixed})


def written(path: Path, *sections: Section) -> Page:
    write_report(sections, path, EVIL)
    page = Page(path.read_text(encoding="utf-8"))
    assert not page.open
    return page


def test_report_shows_figures_queries_and_provenance_escaped(tmp_path: Path, section: Section) -> None:
    page = written(tmp_path / "new" / "report.html", section)
    for shown in (EVIL, "what is {this}", "3 judged queries", "0.8333", "0.5000", "1 / 0 / 2", "+0.5000", "-1.0000"):
        assert shown in page.words, shown
    assert "generation 7" in page.words
    assert page.words.index("Largest wins") < page.words.index("Largest losses")


def test_report_loads_and_runs_nothing(tmp_path: Path, section: Section) -> None:
    page = written(tmp_path / "r.html", section)
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert {"script", "img", "link", "iframe", "object", "use", "image"}.isdisjoint(tag for tag, _ in page.tags)
    assert not any(name in {"href", "src", "xlink:href"} or name.startswith("on") for _, a in page.tags for name in a)
    assert not re.search(r"https?://|@import|url\(", html)
    assert any("default-src 'none'" in (meta.get("content") or "") for meta in page.all("meta"))


def test_report_can_be_read_without_seeing_it(tmp_path: Path, section: Section) -> None:
    page = written(tmp_path / "r.html", section, section._replace(title="another"))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert all(heading.get("scope") in ("col", "row") for heading in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert page.all("html")[0]["lang"] == "en"
    for svg in page.all("svg"):
        assert svg["role"] == "img"
        assert set((svg["aria-labelledby"] or "").split()) <= set(ids)
    targets = {link["href"] for link in page.all("a")}
    assert targets == {"#s0", "#s1"}


def test_drawings_are_there_only_where_the_sidecar_allows(tmp_path: Path, section: Section) -> None:
    full = written(tmp_path / "r.html", section)
    assert len(full.all("svg")) == 4  # latency front, FLOPs front, spread of latency, wins and losses
    lean = {
        run: {"levels": about["levels"], "latency_ms": {"mean": 2.5}} for run, about in (section.metadata or {}).items()
    }
    page = written(tmp_path / "r.html", section._replace(metadata=lean))
    assert len(page.all("svg")) == 2
    assert "GFLOPs" not in page.words
    assert "2.5" in page.words
    assert len(written(tmp_path / "r.html", section._replace(metadata=None)).all("svg")) == 1
    assert (
        len(written(tmp_path / "r.html", section._replace(metadata={"first": {"levels": [1], "flops": 3}})).all("svg"))
        == 1
    )


def test_intervals_judged_share_and_tests_are_shown(tmp_path: Path, evaluation: Evaluation) -> None:
    intervals = {run: {"mrr": (0.1234, 0.4321), "map": (0.2, 0.3)} for run in evaluation.means}
    changed = [
        c._replace(p_tukey=0.0417, effect_size=-0.73, p_noninferior=0.891, margin=0.05) for c in evaluation.comparisons
    ]
    known = replace(
        evaluation, intervals=intervals, judged_at_10=dict.fromkeys(intervals, 0.875), comparisons=tuple(changed)
    )
    page = written(tmp_path / "r.html", Section("d", known))
    for shown in ("0.1234 to 0.4321", "87.5%", "0.042", "-0.73", "0.891", "0.05"):
        assert shown in page.words, shown


def test_report_of_a_single_run_has_no_comparison(tmp_path: Path) -> None:
    page = written(tmp_path / "r.html", Section("One", evaluate({"q": {"a": 1}}, {"only": {"q": {"a": 1.0}}}, ["map"])))
    assert "only" in page.words
    assert "Largest" not in page.words


def test_report_survives_text_that_no_file_can_hold(tmp_path: Path, evaluation: Evaluation) -> None:
    write_report([Section("control \x00 \x1b", evaluation)], tmp_path / "r.html", "half \ud800 a character")
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<h1>half ? a character</h1>" in html
    assert "control \ufffd \ufffd" in html


@pytest.mark.parametrize("ending", [".html", ".md", ".tex", ".json"])
def test_every_form_has_the_figures(tmp_path: Path, section: Section, ending: str) -> None:
    path = tmp_path / f"r{ending}"
    write_report([section, section._replace(title="second")], path, "Both")
    text = path.read_text(encoding="utf-8")
    for shown in ("0.8333" if ending != ".json" else "0.8333333333333334", "second", "first", "Both"):
        assert shown in text, shown


def test_json_report_holds_points_levels_and_latencies(tmp_path: Path, section: Section) -> None:
    write_report([section], tmp_path / "r.json")
    [part] = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["sections"]
    assert part["points"][1] == {
        "run": EVIL, "quality": 0.5, "level": "dense:w0.50-d2", "latency_ms": 8.0, "flops": pytest.approx(4e9 / 3),
        "on_latency_front": False,
    }  # fmt: skip
    assert [(row["level"], row["queries"], row["means"]["mrr"]) for row in part["by_level"][EVIL]] == [
        ("dense:w0.50-d2", 2, 0.75),
        ("bm25", 1, 0.0),
    ]
    assert part["latency_ms"]["first"]["p50"] == 2.0
    assert part["evaluation"]["means"]["first"]["mrr"] == pytest.approx(5 / 6)


def test_markdown_keeps_its_tables_whole(tmp_path: Path, section: Section) -> None:
    texts = {"q1": "a | b\nc", EVIL: "`x`"}
    write_report([section._replace(queries=texts)], tmp_path / "r.md")
    blocks = re.findall(r"(?:^\|.*\n)+", (tmp_path / "r.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(blocks) >= 6
    for block in blocks:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block


@pytest.mark.parametrize("ending", ["html", "md"])
def test_every_form_of_report_shows_amounts_alike(tmp_path: Path, evaluation: Evaluation, ending: str) -> None:
    slow = {"first": sidecar("bm25", 4602.0, 0.0), EVIL: sidecar("dense:w1.00-d2", 1.25, 2.5e12)}
    write_report([Section("d", evaluation, metadata=slow)], tmp_path / f"r.{ending}")
    written = (tmp_path / f"r.{ending}").read_text(encoding="utf-8")
    for shown in ("9,204.0", "2.5", "2,500.0"):
        assert shown in written, shown
    assert "e+0" not in written


def test_report_that_cannot_be_written_is_an_error(tmp_path: Path, evaluation: Evaluation) -> None:
    (tmp_path / "file").touch()
    section = Section("title", evaluation)
    with pytest.raises(RunFileError, match="cannot be written"):
        write_report([section], tmp_path / "file" / "r.html")
    with pytest.raises(InputError, match=r"'\.pdf'; wanted one of \.html"):
        write_report([section], tmp_path / "r.pdf")
    with pytest.raises(InputError, match="no section"):
        write_report([], tmp_path / "r.html")


def test_a_halo_never_hides_the_words_it_is_for(tmp_path: Path, section: Section) -> None:
    """A stroke in the ground's colour covers thin letters unless it is painted before them."""
    page = written(tmp_path / "r.html", section)
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    strokes = re.findall(r"svg ([^{}]+) \{[^}]*stroke: var\(--ground\)", html)
    assert strokes == ["text[paint-order]"]
    assert {label["paint-order"] for label in page.all("text") if "paint-order" in label} == {"stroke"}
