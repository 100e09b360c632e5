"""Connections that must not cost anything: slow, idle, or too many."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from elastic_ir.serve.loop import Lag

HEADERS_S = 5.0
HEADERS_BYTES = 65_536
MOST_CONNECTIONS = 1_000
WATCH_S = 1.0
HELD_BYTES = 16_384
"""Longest body of a request whose refusal waits for it."""
SEARCH = b"/v1/search"
_CHOOSES = b'"deadline_ms"', b'"level"'
"""What a question must not say to be refused as one that is due in the SLO at any level."""


LEFT = "elastic_ir.left"
"""Where a request's scope says how to find out whether its client has hung up."""


def hung_up(descriptor: int) -> Callable[[], bool] | None:
    """Tells, for one thread, whether the other side has closed the socket ``descriptor``.

    It asks the system and not the event loop, which hears of it later; None where the system does not tell.
    """
    if not hasattr(select, "POLLRDHUP"):
        return None
    asked = select.poll()
    asked.register(descriptor, select.POLLRDHUP)
    return lambda: any(found & (select.POLLRDHUP | select.POLLHUP | select.POLLERR) for _, found in asked.poll(0))


def _refusal(status: bytes, error: bytes) -> bytes:
    body = b'{"error":"%s","detail":null}' % error
    head = b"HTTP/1.1 %s", b"retry-after: 1", b"content-type: application/json", b"content-length: %d", b"", b"%s"
    return b"\r\n".join(head) % (status, len(body), body)


REFUSALS: dict[str, bytes] = {
    "behind": _refusal(b"503 Service Unavailable", b"more is sent than can be read; come again"),
    "overload": _refusal(b"503 Service Unavailable", b"the queue is full; come again later"),
    "share": _refusal(b"429 Too Many Requests", b"this client's part of the queue is full; send less at once"),
}
"""Why a request is not taken up -> the whole answer."""


class Proxies(Protocol):
    """Proxies that are believed when they say whom they ask for, as uvicorn's are."""

    def __contains__(self, host: str | None) -> bool: ...
    def get_trusted_client_address(self, x_forwarded_for: str) -> tuple[str, int]: ...


class Corked:
    """A transport whose writes of one turn of the event loop go out together: head and body cost one system call."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._pending: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Send ``data`` soon."""
        if not self._pending:
            self._loop.call_soon(self._flush)
        self._pending.append(data)

    def close(self) -> None:
        """Close, once everything is sent."""
        self._flush()
        self._transport.close()

    def get_write_buffer_size(self) -> int:
        """Bytes that are not sent yet."""
        return self._transport.get_write_buffer_size() + sum(map(len, self._pending))

    def _flush(self) -> None:
        data, self._pending = b"".join(self._pending), []
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 that drops a connection whose request headers, or whose reader, take too long.

    uvicorn itself waits for the first headers of a connection forever, takes any number of them, and waits for a client
    to read its answer.
    """

    headers_s: float = HEADERS_S
    most_connections: int = MOST_CONNECTIONS
    refuses: Callable[[], bool] = staticmethod(lambda: False)
    """Whether to answer 503 to a POST whatever it says: the cheapest answer there is."""
    turns_away: Callable[[str], str | None] = staticmethod(lambda client: None)
    """Why (a key of ``REFUSALS``) a question of this client would be refused now: it is then not taken up at all."""
    authorised: Callable[[str], bool] = staticmethod(lambda given: True)
    """Whether this ``Authorization`` header is right: what others send is no sign of load."""
    refused: Callable[[str], None] = staticmethod(lambda why: None)
    """Told why a request was not taken up."""
    proxies: Proxies | None = None
    """Whose ``X-Forwarded-For`` names the client; None: nobody's."""
    lag: Lag = Lag()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse one connection too many; watch the others."""
        super().connection_made(Corked(transport, self.loop))  # type: ignore[arg-type]
        connection = transport.get_extra_info("socket")
        self._left = None if connection is None else hung_up(connection.fileno())
        self._idle_since: float | None = self.loop.time()
        self._unread_since: float | None = None
        self._unparsed = 0
        self._why: str | None = None
        self._held: bytes | None = None
        self.lag.watch(self.loop)
        self._watch: asyncio.TimerHandle | None = None
        if len(self.connections) > self.most_connections:
            transport.abort()
            return
        self._watch = self.loop.call_later(WATCH_S, self._look)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        scope: Any = self.scope
        scope[LEFT] = self._left

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching."""
        super().connection_lost(exc)
        if self._watch is not None:
            self._watch.cancel()

    def data_received(self, data: bytes) -> None:
        """Note since when a request's headers are awaited, and refuse too many of them."""
        self._unparsed += len(data)
        super().data_received(data)
        if self._answering():
            self._idle_since = None
            return
        if self._idle_since is None:
            self._idle_since = self.loop.time()
        if self._unparsed > HEADERS_BYTES and not self.transport.is_closing():
            self.send_400_response("the request's headers are too long")

    def on_headers_complete(self) -> None:
        """Begin to answer, or not where the service cannot keep up."""
        self._unparsed = 0
        self._why = self._held = None
        free = not self._answering() and not self.pipeline and not self.expect_100_continue
        if free and self.parser.get_method() == b"POST":
            if self.refuses():
                self._why = "behind"
                return
            if self.url == SEARCH and self.authorised(self._header(b"authorization")):
                self._why = self.turns_away(self._asking())
            if self._why is not None:
                self._held = b""
                return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._unparsed = 0
        if self._why is None:
            super().on_body(body)
        elif self._held is not None:
            self._held += body
            if len(self._held) > HELD_BYTES:
                self._take_up(self._held)

    def on_message_complete(self) -> None:
        """A refused request is answered when it is whole, so that the next on this connection can be read."""
        if self._held is not None and any(word in self._held for word in _CHOOSES):
            self._take_up(self._held)
        if self._why is None:
            super().on_message_complete()
            return
        self.transport.write(REFUSALS[self._why])
        self.refused(self._why)
        self._idle_since, self._unparsed = self.loop.time(), 0
        if self.parser.get_http_version() == "1.0" or not self.parser.should_keep_alive():
            self.transport.close()

    def _asking(self) -> str:
        """The client's address, the same that the application is told."""
        peer = self.client[0] if self.client else ""
        if self.proxies is None or peer not in self.proxies:
            return peer
        said = self._header(b"x-forwarded-for")
        return (said and self.proxies.get_trusted_client_address(said)[0]) or peer

    def _header(self, wanted: bytes) -> str:
        """What the header ``wanted`` says; all of it where it comes several times."""
        return b", ".join(value for name, value in self.headers if name == wanted).decode("latin1")

    def _take_up(self, body: bytes) -> None:
        """Answer after all: what this one asks for may have its place."""
        self._why = self._held = None
        super().on_headers_complete()
        super().on_body(body)

    def on_response_complete(self) -> None:
        """The next request's headers are awaited from now on."""
        super().on_response_complete()
        self._idle_since, self._unparsed = self.loop.time(), 0

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
