"""``elastic-ir simulate`` and the ladder's file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ladders import ladder
from typer.testing import CliRunner

from elastic_ir.cli import app
from elastic_ir.errors import ConfigError, InputError
from elastic_ir.schedule import Admission
from elastic_ir.schedule.arrivals import arrivals
from elastic_ir.schedule.compare import policies, tune_thresholds
from elastic_ir.schedule.ladderfile import LadderFile, LadderLevel, read_ladder, write_ladder
from elastic_ir.schedule.simulate import simulate


@pytest.fixture
def file(tmp_path: Path) -> Path:
    levels = tuple(
        LadderLevel(
            level=str(rung.level), quality=rung.quality, p50_ms=tuple(1000 * t for t in rung.typical or ()),
            p95_ms=tuple(1000 * t for t in rung.seconds),
        )
        for rung in ladder().rungs
    )  # fmt: skip
    path = tmp_path / "ladder.json"
    write_ladder(LadderFile(slo_ms=250, threads=1, dataset="d", machine={}, models={}, levels=levels), path)
    return path


def test_a_ladder_is_read_as_it_was_written(file: Path) -> None:
    found = read_ladder(file).ladder()
    assert [rung.level for rung in found.rungs] == [rung.level for rung in ladder().rungs]
    assert found.rungs[0].seconds == pytest.approx(ladder().rungs[0].seconds)
    assert read_ladder(file).ladder(100).slo_s == 0.1


def test_a_damaged_ladder_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="make one with elastic-ir sweep"):
        read_ladder(tmp_path / "none.json")
    good = json.loads(file.read_text())
    for change, message in (
        ({"slo_ms": -1}, "slo_ms"), ({"level": 1}, "unknown key 'level'"), ({"levels": good["levels"][::-1]}, "better"),
    ):  # fmt: skip
        file.write_text(json.dumps(good | change))
        with pytest.raises(ConfigError, match=message):
            read_ladder(file)
    file.write_text("[1]")
    with pytest.raises(ConfigError, match="no object"):
        read_ladder(file)
    file.write_text("{")
    with pytest.raises(ConfigError, match="not JSON"):
        read_ladder(file)


def test_ladders_that_cannot_be_simulated_are_refused(file: Path) -> None:
    call = ["simulate", "--ladder", str(file), "--arrivals", "poisson:20", "--requests", "50"]
    endless = CliRunner().invoke(app, [*call, "--slo-ms", "inf"])
    assert isinstance(endless.exception, ConfigError)
    crossed = json.loads(file.read_text())
    crossed["levels"][2]["p50_ms"] = crossed["levels"][0]["p50_ms"]
    file.write_text(json.dumps(crossed))
    assert "by the median" in str(CliRunner().invoke(app, call).exception)


def test_what_nobody_answered_is_null(file: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "rows.json"
    call = ["simulate", "--ladder", str(file), "--slo-ms", "1", "--arrivals", "poisson:20", "--requests", "50"]
    result = CliRunner().invoke(app, [*call, "--policy", "full", "--seeds", "1", "--output", str(output)])
    assert result.exit_code == 0, result.output
    [row] = json.loads(output.read_text(), parse_constant=pytest.fail)["rows"]
    assert (row["quality"], row["p99_ms"], row["utility"]) == (None, None, 0)
    for option in ("--output", "--plot"):
        again = CliRunner().invoke(app, [*call, option, str(tmp_path)])
        assert isinstance(again.exception, InputError)
        assert "is a folder" in str(again.exception)


def test_no_schedule_beats_the_bound_of_few_requests(file: Path, tmp_path: Path) -> None:
    output = tmp_path / "rows.json"
    call = ["simulate", "--ladder", str(file), "--arrivals", "poisson:400", "--requests", "20", "--output", str(output)]
    assert CliRunner().invoke(app, call).exit_code == 0
    found = json.loads(output.read_text())
    assert max(row["utility"] for row in found["rows"]) <= found["fluid_bound"]


def test_thresholds_are_tuned_to_the_arrivals() -> None:
    known = ladder()
    admission = Admission(known)
    times = arrivals("poisson:60", 3000, 5)
    tuned = simulate(known, tune_thresholds(known, times, admission), times, admission=admission)
    assert tuned.attainment > 0.99
    with pytest.raises(InputError, match="unknown policy 'elastik'; did you mean 'elastic'"):
        policies(known, ["elastik"], times, admission)
    assert set(policies(known, ["static", "aimd", "bm25"], times, admission)) == {
        "aimd", *(f"static {rung.level}" for rung in known.rungs)
    }  # fmt: skip


def test_the_command_prints_a_table_and_writes_figures_and_a_picture(file: Path, tmp_path: Path) -> None:
    output, plot = tmp_path / "out.json", tmp_path / "out.png"
    asked = ["simulate", "--ladder", str(file), "--arrivals", "step:5:60:5", "--requests", "2000", "--seeds", "2"]
    result = CliRunner().invoke(app, [*asked, "--policy", "elastic,full", "--output", str(output), "--plot", str(plot)])
    assert result.exit_code == 0, result.output
    assert "fluid bound" in result.output
    rows = {row["policy"]: row for row in json.loads(output.read_text())["rows"]}
    assert rows["elastic"]["attainment"] > 0.99 > rows["full"]["attainment"]
    assert rows["elastic"]["utility"] > rows["full"]["utility"]
    assert plot.read_bytes().startswith(b"\x89PNG")
