"""The retriever that a level names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from elastic_ir.records import Ranking
from elastic_ir.stage import SearchContext, Stage, timed


class ByLevel(Stage):
    """The one of ``stages`` (retriever -> stage) that the level in the context names.

    Args:
        stages: at least one; a level that names another raises KeyError, which ``Parts.check`` prevents.
        default: retriever of a search without a level.
    """

    composite = True

    def __init__(self, stages: Mapping[str, Stage], default: str) -> None:
        self.stages, self.default = dict(stages), default
        self.name = self.stages[default].name

    def __call__(self, rankings: Sequence[Ranking], context: SearchContext) -> list[Ranking]:
        return timed(self.stages[context.level.retriever if context.level else self.default], rankings, context)

    def close(self) -> None:
        for stage in self.stages.values():
            stage.close()
