"""BM25 in place of a dense retriever that cannot answer."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from elastic_ir.errors import BackendError, InputError
from elastic_ir.records import Degradation, Ranking
from elastic_ir.stage import SearchContext, Stage, timed

logger = logging.getLogger(__name__)

RETRY_S = 30.0
"""How long a primary that could not be made is left alone."""


class Fallback(Stage):
    """``primary`` where it can answer, else ``secondary``, noted as degraded.

    A level that asks for ``bm25`` goes to ``secondary`` at once and is no degradation. An ``InputError``
    is the caller's mistake and goes to the caller.

    Args:
        primary: a stage, or a callable that makes it when first needed; where that fails it is tried again
            after 30 seconds.
        secondary: what answers otherwise: BM25.

    Raises:
        BackendError: on a call, if both fail.
    """

    composite = True

    def __init__(self, primary: Stage | Callable[[], Stage], secondary: Stage) -> None:
        self.primary = primary if isinstance(primary, Stage) else Late(primary)
        self.secondary = secondary
        self.name = f"{self.primary.name}, else {secondary.name}"

    def __call__(self, rankings: Sequence[Ranking], context: SearchContext) -> list[Ranking]:
        if context.level is not None and context.level.retriever == "bm25":
            return timed(self.secondary, rankings, context)
        try:
            return timed(self.primary, rankings, context)
        except InputError:
            raise
        except Exception as exc:
            failure = exc
        logger.warning("%s failed, %s answers: %s", self.primary.name, self.secondary.name, _described(failure))
        try:
            results = timed(self.secondary, rankings, context)
        except InputError:
            raise
        except Exception as exc:
            raise BackendError(
                f"no retriever is left: {self.primary.name} failed ({_described(failure)}), "
                f"then {self.secondary.name} ({_described(exc)})"
            ) from exc
        note = Degradation("dense_down", "dense", str(failure) or type(failure).__name__)
        return [result._replace(degraded=(*result.degraded, note)) for result in results]

    def close(self) -> None:
        self.primary.close()
        self.secondary.close()


class Late(Stage):
    """A stage made when first called; where that fails, the same error answers for the next 30 seconds."""

    name = "dense"
    composite = True

    def __init__(self, make: Callable[[], Stage]) -> None:
        self._make = make
        self._stage: Stage | None = None
        self._failure: tuple[float, Exception] | None = None
        self._making = threading.Lock()

    def __call__(self, rankings: Sequence[Ranking], context: SearchContext) -> list[Ranking]:
        with self._making:
            if self._stage is None:
                self._stage = self._made()
        return timed(self._stage, rankings, context)

    def _made(self) -> Stage:
        if self._failure is not None and time.monotonic() < self._failure[0] + RETRY_S:
            raise self._failure[1].with_traceback(None)
        try:
            return self._make()
        except Exception as exc:
            self._failure = time.monotonic(), exc
            raise

    def close(self) -> None:
        if self._stage is not None:
            self._stage.close()


def _described(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}"
