"""What the engine tells of its work, and to whom."""

from __future__ import annotations

from collections.abc import Mapping

from elastic_ir.level import Level


class Observer:
    """Told of the engine's work, with the engine's lock held or from its thread, so it must be quick; this one does not
    care."""

    def batch(self, levels: Mapping[Level, int], stage_ms: Mapping[str, float]) -> None:
        """A batch was answered, so many of it at each level; stage name -> milliseconds."""

    def waited(self, seconds: float) -> None:
        """A request waited so long for its batch."""

    def chosen(self, wanted: Level, acting: Level) -> None:
        """The policy wanted one level, and this one acts (another where the engine only monitors)."""

    def dropped(self, reason: str) -> None:
        """A request got no answer: ``deadline``; ``abandoned`` before any document was scored for it, or later,
        ``unfinished``; refused: ``overload``, or ``share`` where only this client has too much in the queue."""
