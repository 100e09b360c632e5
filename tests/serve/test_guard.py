"""Requests that are refused unread."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uvicorn

from elastic_ir.serve.guard import GuardedProtocol
from elastic_ir.serve.loop import Lag


class Mood:
    refuses = False


async def app(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"good"})


@pytest.fixture
def url() -> Iterator[str]:
    Mood.refuses = False
    protocol = type("Protocol", (GuardedProtocol,), {"refuses": staticmethod(lambda: Mood.refuses), "lag": Lag()})
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, http=protocol, ws="none", lifespan="off", log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


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
