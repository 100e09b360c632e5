"""Lint finds each planted fault by its code, and nothing in a clean file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from elastic_ir.cli import app
from elastic_ir.errors import RunFileError
from elastic_ir.evaluate import write_run
from elastic_ir.evaluate.lint import CODES, Known, lint
from elastic_ir.records import Hit, Query, Ranking

KNOWN = Known({"q1", "q2"}, {f"d{i}" for i in range(9)}, {"q1": {"d0": 1, "d1": 0, "d2": 1}, "q2": {"d3": 1, "d4": 0}})
CLEAN = [
    b"q1 Q0 d2 1 9.5 t",
    b"q1 Q0 d1 2 8.25 t",
    b"q1 Q0 d0 3 7 t",
    b"q2 Q0 d4 1 1e-3 t",
    b"q2 Q0 d3 2 -4 t",
]


def with_line(number: int, line: bytes) -> bytes:
    """The clean run with one line (from 1) replaced."""
    lines = [*CLEAN]
    lines[number - 1] = line
    return b"\n".join(lines) + b"\n"


WHOLE = b"\n".join(CLEAN) + b"\n"
FAULTS: dict[str, tuple[bytes, str, tuple[int, ...]]] = {
    "no lines": (b"", "empty", ()),
    "byte order mark": (b"\xef\xbb\xbf" + WHOLE, "bom", (1,)),
    "windows line ends": (WHOLE.replace(b"\n", b"\r\n"), "crlf", (1, 2, 3, 4, 5)),
    "cut last line end": (WHOLE[:-1], "no-final-newline", (5,)),
    "blank line": (with_line(2, CLEAN[1] + b"\n"), "blank-line", (3,)),
    "latin-1": (with_line(2, b"q1 Q0 d\xe9 2 8 t"), "encoding", (2,)),
    "no end of line": (with_line(2, b"x" * 70_000), "long-line", (2,)),
    "five columns": (with_line(2, b"q1 Q0 d1 2 8.25"), "columns", (2,)),
    "seven columns": (with_line(4, b"q2 Q0 d4 1 1e-3 my tag"), "columns", (4,)),
    "space in an id": (with_line(4, b"q2\tQ0\td 4\t1\t1e-3\tt"), "id-whitespace", (4,)),
    "no-break space in an id": (with_line(4, "q2 Q0 d\u00a04 1 1e-3 t".encode()), "odd-character", (4,)),
    "control character in an id": (with_line(4, b"q2 Q0 d4\x07 1 1e-3 t"), "odd-character", (4,)),
    "odd second column": (with_line(3, b"q1 1 d0 3 7 t"), "q0", (3,)),
    "two tags": (with_line(5, b"q2 Q0 d3 2 -4 u"), "mixed-tags", (5,)),
    "rank in words": (with_line(2, b"q1 Q0 d1 two 8.25 t"), "rank", (2,)),
    "rank that no reader of three columns takes": (b"q1\td2\t1\nq1\td1\t02\n", "rank", (2,)),
    "rank below 0": (with_line(2, b"q1 Q0 d1 -2 8.25 t"), "negative-rank", (2,)),
    "ranks from 0": (with_line(4, b"q2 Q0 d4 0 1e-3 t"), "rank-sequence", (4,)),
    "rank left out": (with_line(3, b"q1 Q0 d0 4 7 t"), "rank-sequence", (3,)),
    "ranks against scores": (with_line(1, b"q1 Q0 d2 7 9.5 t"), "rank-order", (1,)),
    "score in words": (with_line(3, b"q1 Q0 d0 3 low t"), "score", (3,)),
    "score only Python reads": (with_line(3, b"q1 Q0 d0 3 1_0 t"), "score", (3,)),
    "not a number": (with_line(3, b"q1 Q0 d0 3 NaN t"), "nan", (3,)),
    "infinite": (with_line(1, b"q1 Q0 d2 1 inf t"), "infinite", (1,)),
    "beyond float32": (with_line(1, b"q1 Q0 d2 1 1e39 t"), "float32-range", (1,)),
    "rising scores": (with_line(3, b"q1 Q0 d0 3 8.5 t"), "scores-increase", (3,)),
    "tie": (with_line(2, b"q1 Q0 d1 2 9.5 t"), "ties", (2,)),
    "tie in float32": (with_line(2, b"q1 Q0 d1 2 9.49999999 t"), "float32-ties", (2,)),
    "tie against trec_eval": (with_line(5, b"q2 Q0 d5 2 1e-3 t"), "tie-order", (5,)),
    "document twice": (with_line(3, b"q1 Q0 d2 3 7 t"), "duplicate", (3,)),
    "query twice": (WHOLE + b"q1 Q0 d5 1 3 t\n", "interleaved", (6,)),
    "too many hits": (WHOLE + b"q2 Q0 d5 3 -5 t\nq2 Q0 d6 4 -6 t\n", "too-many-hits", (7,)),
    "unknown query": (WHOLE + b"q9 Q0 d5 1 3 t\n", "unknown-query", (6,)),
    "query without hits": (b"\n".join(CLEAN[:3]) + b"\n", "missing-query", ()),
    "unknown document": (with_line(4, b"q2 Q0 d99 1 1e-3 t"), "unknown-document", (4,)),
    "nobody judged these": (
        b"q1 Q0 d8 1 9 t\nq1 Q0 d7 2 8 t\nq1 Q0 d0 3 7 t\nq2 Q0 d6 1 3 t\n",
        "unjudged",
        (),
    ),
}


def test_a_clean_run_has_no_finding(tmp_path: Path) -> None:
    path = tmp_path / "x.trec"
    path.write_bytes(WHOLE)
    report = lint(path, KNOWN)
    assert report.findings == ()
    assert (report.lines, report.queries, report.judged, report.ok) == (5, 2, 1.0, True)


def test_what_write_run_writes_is_clean_in_every_form(tmp_path: Path) -> None:
    hits = tuple(Hit(f"d{i}", 1.0 if i < 5 else 0.5) for i in range(9))  # ties, which it parts
    for name, form in (("x.trec", "trec"), ("x.trec.gz", "trec"), ("x.tsv", "msmarco")):
        write_run([Ranking(Query("q1", ""), hits), Ranking(Query("q2", ""), hits[::-1])], tmp_path / name, "t", form)
        assert lint(tmp_path / name, KNOWN._replace(qrels=None)).findings == (), name


@pytest.mark.parametrize("fault", FAULTS)
def test_every_planted_fault_is_found_by_its_code_and_line(tmp_path: Path, fault: str) -> None:
    content, code, lines = FAULTS[fault]
    path = tmp_path / "x.trec"
    path.write_bytes(content)
    report = lint(path, KNOWN, max_hits=3)
    found = {finding.code: finding for finding in report.findings}
    assert code in found
    assert found[code].lines == lines
    assert found[code].severity == CODES[code][0]
    assert report.ok == all(CODES[name][0] == "warning" for name in found)
    assert code in str(found[code])


def test_the_planted_faults_are_many_and_cover_the_codes() -> None:
    planted = {code for _, code, _ in FAULTS.values()}
    assert len(planted) >= 20
    assert CODES.keys() - planted == {"unreadable", "unjudged-query"}  # each has a test of its own


def test_a_damaged_gzip_is_found_and_a_missing_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.trec.gz").write_bytes(gzip.compress(WHOLE * 99)[:-9])
    codes = [finding.code for finding in lint(tmp_path / "x.trec.gz").findings]
    assert "unreadable" in codes
    with pytest.raises(RunFileError, match="none"):
        lint(tmp_path / "none.trec")


def test_qrels_alone_tell_unjudged_queries(tmp_path: Path) -> None:
    (tmp_path / "x.trec").write_bytes(WHOLE)
    report = lint(tmp_path / "x.trec", Known(qrels={"q1": {"d2": 1, "d7": 0}}))
    assert [finding.code for finding in report.findings] == ["unjudged-query", "unjudged"]
    assert report.judged == pytest.approx(1 / 3)
    assert report.ok


def test_a_finding_counts_all_and_shows_the_first_lines(tmp_path: Path) -> None:
    lines = [f"q1 Q0 d{i} {i + 1} {-i} t{i % 2}" for i in range(40)]
    (tmp_path / "x.trec").write_text("\n".join(lines) + "\n")
    [finding] = lint(tmp_path / "x.trec").findings
    assert (finding.code, finding.times, finding.lines) == ("mixed-tags", 20, (2, 4, 6, 8, 10))


def test_the_command_ends_with_1_on_errors_and_gives_json(tmp_path: Path, six_documents: Path) -> None:
    good, bad = tmp_path / "good.trec", tmp_path / "bad.trec"
    good.write_text("q1 Q0 d0 1 2 t\nq2 Q0 d3 1 2 t\nq3 Q0 d5 1 2 t\n")
    bad.write_text("q1 Q0 d0 1 nan t\n")
    arguments = ["runs", "lint", "--dataset", str(six_documents)]
    result = CliRunner().invoke(app, [*arguments, str(good)])
    assert (result.exit_code, result.stdout) == (0, f"{good}: 3 lines, 3 queries, 100.0% of the top 10 judged\n")
    result = CliRunner().invoke(app, [*arguments, str(good), str(bad), "--json"])
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found[str(good)]["findings"] == []
    assert [finding["code"] for finding in found[str(bad)]["findings"]] == ["nan", "missing-query"]
    queries = six_documents / "queries.jsonl"
    queries.write_text(queries.read_text() + '{"_id": "q4", "text": "of another split"}\n')
    good.write_text(good.read_text() + "q4 Q0 d5 1 2 t\n")
    result = CliRunner().invoke(app, [*arguments, str(good)])
    assert (result.exit_code, "warning: unjudged-query" in result.stdout) == (0, True)
    result = CliRunner().invoke(app, [*arguments, str(bad)])
    assert "error: nan: the score is NaN" in result.stdout


def test_documents_are_looked_for_where_there_are_no_queries(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text("# Page\n\na cat")
    run = tmp_path / "x.trec"
    run.write_text("q1 Q0 page.md#1 1 2 t\nq1 Q0 none.md#0 2 1 t\n")
    result = CliRunner().invoke(app, ["runs", "lint", "--dataset", str(tmp_path / "docs"), str(run)])
    assert result.exit_code == 1, result.exception
    assert "has no queries" in result.stderr
    assert "has no relevance judgments" in result.stderr
    assert [line.split(":")[1] for line in result.stdout.splitlines()[1:]] == [" unknown-document"]
    assert "(1 x, line 2); e.g. document 'none.md#0'" in result.stdout
