"""Ladders as JSON files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from elastic_ir.config import checked
from elastic_ir.durable import whole
from elastic_ir.errors import ConfigError
from elastic_ir.level import Level
from elastic_ir.schedule.ladder import Ladder, Rung

LARGEST = 10_000_000


class LadderLevel(BaseModel):
    """One level: nDCG@10 where it was chosen, with its interval, and milliseconds of batches of 1, 2, .. requests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: str
    quality: float = Field(allow_inf_nan=False)
    interval: tuple[float, float] | None = None
    p50_ms: tuple[float, ...] = Field(min_length=1)
    p95_ms: tuple[float, ...] = Field(min_length=1)


class LadderFile(BaseModel):
    """A ladder, and what it holds for: one SLO, one thread count, one machine, these models and data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slo_ms: float = Field(gt=0)
    threads: int = Field(gt=0)
    dataset: str
    machine: dict[str, Any]
    models: dict[str, str]
    levels: tuple[LadderLevel, ...] = Field(min_length=1)
    notes: dict[str, Any] = {}

    def check(self, machine: dict[str, Any], threads: int) -> None:
        """Refuse to serve on another machine, or with another thread count: the times would be others.

        Raises:
            ConfigError: naming what differs.
        """
        for key, found in (("machine", machine), ("threads", threads)):
            known = getattr(self, key)
            if known != found:
                raise ConfigError(f"the ladder is for {key} {known}, here {found}; make one here with elastic-ir sweep")

    def of(self, models: dict[str, str]) -> Ladder:
        """The ladder, if it was made with ``models`` (role -> fingerprint).

        Raises:
            ConfigError: naming the model that differs.
        """
        for role, known in self.models.items():
            if models.get(role) != known:
                found = models.get(role, "none")[:12]
                raise ConfigError(
                    f"the ladder was made with {role} {known[:12]}, here {found}; make one here with elastic-ir sweep"
                )
        return self.ladder()

    def timed(
        self,
        times: Mapping[str, tuple[Sequence[float], Sequence[float]]],
        machine: dict[str, Any],
        threads: int,
    ) -> LadderFile:
        """This ladder as measured over another collection.

        Args:
            times: level -> milliseconds (p50, p95) of batches of 1, 2, .. requests; where a level is slower than a
                better one, that one's count.
            machine: where they were measured.
            threads: that torch had.
        """
        found: list[LadderLevel] = []
        for level in self.levels:
            batch = len(level.p50_ms)
            p50, p95 = (tuple(column[:batch]) for column in times[level.level])
            if found:
                p50, p95 = (
                    tuple(map(min, mine, dearer)) for mine, dearer in ((p50, found[-1].p50_ms), (p95, found[-1].p95_ms))
                )
            found.append(level.model_copy(update={"p50_ms": p50, "p95_ms": p95}))
        return self.model_copy(update={"levels": tuple(found), "machine": machine, "threads": threads})

    def ladder(self, slo_ms: float | None = None) -> Ladder:
        """The ladder, checked; another ``slo_ms`` keeps all levels."""
        rungs = []
        for level in self.levels:
            if len(level.p50_ms) != len(level.p95_ms):
                raise ConfigError(f"level {level.level}: p50_ms and p95_ms are of different length")
            seconds, typical = (tuple(ms / 1000 for ms in times) for times in (level.p95_ms, level.p50_ms))
            rungs.append(Rung(Level.parse(level.level), level.quality, seconds, typical))
        return Ladder(tuple(rungs), (self.slo_ms if slo_ms is None else slo_ms) / 1000).checked()


def read_ladder(path: Path) -> LadderFile:
    """Read a ladder that ``elastic-ir sweep`` wrote.

    Raises:
        ConfigError: if it is missing or does not hold.
    """
    try:
        size = path.stat().st_size
        found = json.loads(path.read_text("utf-8")) if size <= LARGEST else None
    except OSError as exc:
        raise ConfigError(f"cannot read ladder {path}: {exc.strerror}; make one with elastic-ir sweep") from exc
    except ValueError as exc:
        raise ConfigError(f"ladder {path} is not JSON: {exc}") from exc
    if not isinstance(found, dict):
        raise ConfigError(f"ladder {path} holds no object, or over {LARGEST:,} bytes; wanted one that sweep wrote")
    ladder = checked(LadderFile, found, str(path))
    ladder.ladder()
    return ladder


def write_ladder(ladder: LadderFile, path: Path) -> None:
    """Write it whole or not at all."""
    ladder.ladder()
    with whole(path) as part:
        part.write_text(json.dumps(ladder.model_dump(mode="json"), indent=1) + "\n", "utf-8")
