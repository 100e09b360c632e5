"""Requests that are refused unread."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import httpx
import pytest
import uvicorn
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from elastic_ir.serve.guard import GuardedProtocol, hung_up
from elastic_ir.serve.loop import Lag


class Mood:
    refuses = False
    turns_away: str | None = None
    told: ClassVar[list[str]] = []
    asked: ClassVar[list[str]] = []


async def app(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"good"})


@pytest.fixture
def url() -> Iterator[str]:
    Mood.refuses, Mood.turns_away, Mood.told, Mood.asked = False, None, [], []

    def answer(client: str) -> str | None:
        Mood.asked.append(client)
        return Mood.turns_away

    class Protocol(GuardedProtocol):
        lag = Lag()
        refuses = staticmethod(lambda: Mood.refuses)
        turns_away = staticmethod(answer)
        refused = staticmethod(Mood.told.append)
        proxies = ProxyHeadersMiddleware(app, "127.0.0.1").trusted_hosts

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, http=Protocol, ws="none", lifespan="off", log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


@pytest.mark.skipif(
    not hasattr(select, "POLLRDHUP"), reason="POLLRDHUP, which tells who has hung up, does not exist on this system"
)
def test_who_has_hung_up_is_known_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        served, _ = listening.accept()
        with served:
            left = hung_up(served.fileno())
            assert left is not None
            client.sendall(b"still here")
            assert not left()
            client.close()
            until = time.monotonic() + 30
            while not left():
                assert time.monotonic() < until


def test_a_refused_request_leaves_its_connection_usable(url: str) -> None:
    with httpx.Client(base_url=url, timeout=5) as client:
        assert client.post("/", content=b"x" * 100_000).text == "good"
        Mood.refuses = True
        for body in (b"", b"x" * 1000):
            refused = client.post("/", content=body)
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "1"
            assert "come again" in refused.json()["error"]
        assert client.get("/").text == "good"
        Mood.refuses = False
        assert client.post("/", content=b"y").text == "good"
    assert Mood.told == ["behind", "behind"]


def test_a_question_that_would_be_refused_is_not_taken_up_unless_it_asks_for_more(url: str) -> None:
    Mood.turns_away = "share"
    with httpx.Client(base_url=url, timeout=5) as client:
        refused = client.post("/v1/search", json={"query": "cat"})
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert "this client" in refused.json()["error"]
        assert client.post("/v1/search", json={"query": "cat", "deadline_ms": 5000}).text == "good"
        assert client.post("/v1/search", json={"query": "cat", "level": "bm25"}).text == "good"
        assert client.post("/v1/search", json={"query": "c" * 20_000}).text == "good"
        assert client.post("/v1/rerank", json={"query": "cat"}).text == "good"
        Mood.turns_away = "overload"
        assert client.post("/v1/search", content=b"").status_code == 503
        Mood.turns_away = None
        assert client.post("/v1/search", json={"query": "cat"}).text == "good"
    assert Mood.told == ["share", "overload"]


def test_the_client_is_who_a_proxy_on_this_machine_asks_for(url: str) -> None:
    with httpx.Client(base_url=url, timeout=5) as client:
        for said in ({}, {"X-Forwarded-For": "1.2.3.4, 5.6.7.8"}, {"X-Forwarded-For": ""}):
            client.post("/v1/search", json={"query": "cat"}, headers=said)
    assert Mood.asked == ["127.0.0.1", "5.6.7.8", "127.0.0.1"]


def test_a_refusal_ends_a_connection_of_the_old_protocol(url: str) -> None:
    Mood.refuses = True
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n")
        assert b"".join(iter(lambda: connection.recv(4096), b"")).startswith(b"HTTP/1.1 503 ")
