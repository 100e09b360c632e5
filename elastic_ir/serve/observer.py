"""What the engine tells of its work, and to whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from elastic_ir.level import Level


class Observer(Protocol):
    """What the engine tells of its work; called with its lock held or from its thread, so it must be quick."""

    def batch(self, levels: Mapping[Level, int], seconds: float, stage_ms: dict[str, float]) -> None:
        """A batch was answered, so many of it at each level."""

    def waited(self, seconds: float) -> None:
        """A request waited so long for its batch."""

    def chosen(self, wanted: Level, acting: Level) -> None:
        """The policy wanted one level, and this one acts (another where the engine only monitors)."""

    def dropped(self, reason: str) -> None:
        """A request got no answer: ``deadline``; ``abandoned`` before any document was scored for it, or later,
        ``unfinished``; refused: ``overload``, or ``share`` where only this client has too much in the queue."""


class Silent:
    """An observer that does not care."""

    def batch(self, levels: Mapping[Level, int], seconds: float, stage_ms: dict[str, float]) -> None:
        """Ignore it."""

    def waited(self, seconds: float) -> None:
        """Ignore it."""

    def chosen(self, wanted: Level, acting: Level) -> None:
        """Ignore it."""

    def dropped(self, reason: str) -> None:
        """Ignore it."""
