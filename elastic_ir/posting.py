"""Many requests to one address, each sent at its moment, at as little cost as can be.

A generator that shares a small machine with the service must not be what is slow, so there are no sessions, tasks and
header dictionaries per request here: a connection is kept, and what goes over it is one write and one parse.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

import httptools

GAVE_UP, BROKEN = "gave up", "connection error"
_CLOSING_TURNS = 100
Done = Callable[[str, bytes], None]
"""Told the status ("200", .., or one of the two above) and the body."""


class Poster:
    """Posts to one URL over as many kept connections as there are requests at once; for the running event loop.

    Args:
        url: http or https; certificates are checked.
        headers: sent with every request, beside Host and Content-Length.
    """

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        parts = urlsplit(url)
        self._loop = asyncio.get_running_loop()
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host, self._port = parts.hostname or "", parts.port or (443 if self._tls else 80)
        named = {"Host": parts.netloc.rpartition("@")[2]} | headers
        lines = [f"POST {parts.path or '/'} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items())]
        self._head = "\r\n".join([*lines, "Content-Length: "]).encode("latin-1")
        self._idle: dict[_Connection, None] = {}
        self._open: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()

    def request(self, body: bytes) -> bytes:
        """What goes over the wire for ``body``."""
        return b"%s%d\r\n\r\n%s" % (self._head, len(body), body)

    def post(self, request: bytes, patience_s: float, done: Done) -> None:
        """Send ``request`` now; ``done`` is called once, after ``patience_s`` seconds at the latest."""
        exchange = _Exchange(request, done)
        exchange.timer = self._loop.call_later(patience_s, exchange.give_up)
        if self._idle:
            connection, _ = self._idle.popitem()
            connection.send(exchange)
        else:
            task = self._loop.create_task(self._connect(exchange))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
            task.add_done_callback(lambda task: exchange.end(BROKEN) if task.cancelled() else None)

    async def close(self) -> None:
        """Hang up everywhere, and do not wait long for the event loop to say so: of a connection that was given up
        while it was made uvloop never does."""
        for task in self._opening:
            task.cancel()
        for _ in range(_CLOSING_TURNS):
            if not self._opening and not self._open:
                break
            for connection in self._open:
                connection.close()
            await asyncio.sleep(0.001)

    async def _connect(self, exchange: _Exchange) -> None:
        try:
            _, connection = await self._loop.create_connection(
                lambda: _Connection(self._open, self._idle), self._host, self._port, ssl=self._tls
            )
        except OSError:
            exchange.end(BROKEN)
            return
        if exchange.ended:
            connection.close()
        else:
            connection.send(exchange)


class _Exchange:
    """A request and who waits for its answer."""

    def __init__(self, request: bytes, done: Done) -> None:
        self.request, self._done, self.ended = request, done, False
        self.timer: asyncio.TimerHandle | None = None
        self.connection: _Connection | None = None

    def give_up(self) -> None:
        """Hang up."""
        connection = self.connection
        self.end(GAVE_UP)
        if connection is not None:
            connection.close()

    def end(self, status: str, body: bytes = b"") -> None:
        """Tell what became of it, once."""
        if self.ended:
            return
        self.ended, self.connection = True, None
        if self.timer is not None:
            self.timer.cancel()
        self._done(status, body)


class _Connection(asyncio.Protocol):
    """One request at a time; among ``open`` from first to last, and among ``idle`` while it is free for the next."""

    def __init__(self, open: set[_Connection], idle: dict[_Connection, None]) -> None:
        self._open, self._idle = open, idle
        self._exchange: _Exchange | None = None
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name
        self._open.add(self)

    def send(self, exchange: _Exchange) -> None:
        """Send its request."""
        if self._transport.is_closing():
            exchange.end(BROKEN)
            return
        self._exchange, exchange.connection = exchange, self
        self._transport.write(exchange.request)

    def close(self) -> None:
        """Hang up at once."""
        self._idle.pop(self, None)
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_body(self, body: bytes) -> None:
        """Part of an answer."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        assert self._parser is not None
        status = str(self._parser.get_status_code())
        exchange, self._exchange = self._exchange, None
        body, self._body = b"".join(self._body), []
        if self._parser.should_keep_alive():
            self._idle[self] = None
        else:
            self._transport.close()
        if exchange is not None:
            exchange.end(status, body)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        self._idle.pop(self, None)
        self._parser = None  # it holds this object, and this it
        if self._exchange is not None:
            self._exchange.end(BROKEN)
