"""One retriever in place of another that cannot answer."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from elastic_ir.errors import BackendError, InputError
from elastic_ir.records import Degradation, Ranking
from elastic_ir.stage import SearchContext, Stage, described, timed

logger = logging.getLogger(__name__)


class Fallback(Stage):
    """``primary`` where it can answer, else ``secondary``, noted as degraded.

    An ``InputError`` is the caller's mistake and goes to the caller.

    Args:
        primary: what answers when all is well; its name and ``_down`` are the reason noted.
        secondary: what answers otherwise: BM25 for dense, the smallest query encoder for BM25.

    Raises:
        BackendError: on a call, if both fail.
    """

    composite = True

    def __init__(self, primary: Stage, secondary: Stage) -> None:
        self.primary, self.secondary = primary, secondary
        self.name = f"{primary.name}, else {secondary.name}"

    def __call__(self, rankings: Sequence[Ranking], context: SearchContext) -> list[Ranking]:
        try:
            return timed(self.primary, rankings, context)
        except InputError:
            raise
        except Exception as exc:
            failure = exc
        logger.warning("%s failed, %s answers: %s", self.primary.name, self.secondary.name, described(failure))
        try:
            results = timed(self.secondary, rankings, context)
        except InputError:
            raise
        except Exception as exc:
            raise BackendError(
                f"no retriever is left: {self.primary.name} failed ({described(failure)}), "
                f"then {self.secondary.name} ({described(exc)})"
            ) from exc
        name = self.primary.name
        note = Degradation(f"{name}_down", name, str(failure) or type(failure).__name__)
        return [result._replace(degraded=(*result.degraded, note)) for result in results]

    def close(self) -> None:
        self.primary.close()
        self.secondary.close()


class Missing(Stage):
    """A dense retriever that could not be made: every call raises ``error``."""

    name = "dense"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, rankings: Sequence[Ranking], context: SearchContext) -> list[Ranking]:
        raise self.error.with_traceback(None)  # or it would grow with every call
