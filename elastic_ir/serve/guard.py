"""Connections that must not cost anything: slow, idle, or too many."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS_S = 5.0
MOST_CONNECTIONS = 1_000
WATCH_S = 1.0


class GuardedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 that drops a connection whose request headers, or whose reader, take too long.

    uvicorn itself waits for the first headers of a connection forever, and for a client to read its answer.
    """

    headers_s: float = HEADERS_S
    most_connections: int = MOST_CONNECTIONS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse one connection too many; watch the others."""
        super().connection_made(transport)
        self._idle_since: float | None = self.loop.time()
        self._unread_since: float | None = None
        self._watch: asyncio.TimerHandle | None = None
        if len(self.connections) > self.most_connections:
            transport.abort()
            return
        self._watch = self.loop.call_later(WATCH_S, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching."""
        super().connection_lost(exc)
        if self._watch is not None:
            self._watch.cancel()

    def data_received(self, data: bytes) -> None:
        """Note since when a request's headers are awaited."""
        super().data_received(data)
        if self._answering():
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = self.loop.time()

    def on_response_complete(self) -> None:
        """The next request's headers are awaited from now on."""
        super().on_response_complete()
        self._idle_since = self.loop.time()

    def _answering(self) -> bool:
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _look(self) -> None:
        now = self.loop.time()
        unread = self.transport.get_write_buffer_size() > 0
        self._unread_since = (self._unread_since or now) if unread else None
        waiting = None if self._answering() else self._idle_since
        if any(since is not None and now - since > self.headers_s for since in (waiting, self._unread_since)):
            self.transport.abort()
            return
        self._watch = self.loop.call_later(WATCH_S, self._look)
