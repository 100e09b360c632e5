"""The Python client, and the load generator, on a real service; retries on one that refuses."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from elastic_ir import Client, client
from elastic_ir.cli import app
from elastic_ir.errors import BackendError, InputError, OverloadedError
from elastic_ir.level import Level
from elastic_ir.loadtest import Loaded, Sent, due_times, load
from elastic_ir.schedule import Ladder, Rung
from elastic_ir.serve.messages import MAX_DEADLINE_MS


class Refusing(BaseHTTPRequestHandler):
    """Refuses as often as it is told to, then answers."""

    left = 0
    asked = 0
    answer = b'{"hits": []}'

    def do_POST(self) -> None:
        kind = type(self)
        kind.asked += 1
        self.rfile.read(int(self.headers["content-length"]))
        refuse = kind.left > 0
        kind.left -= refuse
        body = b'{"error": "too much"}' if refuse else kind.answer
        self.send_response(503 if refuse else 200)
        self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def refusing() -> Iterator[str]:
    Refusing.answer = b'{"hits": []}'
    with serving(Refusing) as url:
        yield url


def test_odd_answers_and_settings_are_errors_of_ours(refusing: str) -> None:
    with Client(refusing, retries=0) as client:
        Refusing.answer = b'{"object": "list"}'
        with pytest.raises(BackendError, match="the answer has no 'data' as wanted"):
            client.embed(["cat"])
        Refusing.answer = b'{"results": [{"index": 0}]}'
        with pytest.raises(BackendError, match="the answer has no 'results' as wanted"):
            client.rerank("cat", ["a cat"])
    for url in (f"{refusing}\n", "http://[v1.x]"):
        with pytest.raises(InputError, match=r"wanted e\.g"):
            Client(url)
    for seconds in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="wanted seconds above 0"):
            Client(refusing, timeout_s=seconds)


def test_the_client_gives_what_the_service_gives(service: Any) -> None:
    with Client(service.url) as client:
        assert client.search("cat on mat", k=2, level="bm25")["level"] == "bm25"
        assert len(client.embed(["cat", "dog"], subnet="w0.50-d2")) == 2
        assert client.rerank("cat", ["a dog ran", "the cat sat"], budget=0.5)[0][0] in (0, 1)
        with pytest.raises(InputError, match="does not fit: k: "):
            client.search("cat", k=0)
    for url, token in (("127.0.0.1:80", None), (service.url, "schlüssel")):
        with pytest.raises(InputError, match="wanted"):
            Client(url, token)


def test_a_refused_request_is_tried_again_within_a_budget(refusing: str) -> None:
    with Client(refusing) as client:
        Refusing.left, Refusing.asked = 1, 0
        assert client.search("x") == {"hits": []}
        assert Refusing.asked == 2
        Refusing.left, Refusing.asked = 10**9, 0
        for _ in range(30):
            with pytest.raises(OverloadedError, match="too much"):
                client.search("x")
        assert Refusing.asked <= 30 + 4
        Refusing.left = 0


class Failing(BaseHTTPRequestHandler):
    """Is slow, hangs up before it answers, or in the middle of it."""

    how = ""
    asked = 0

    def do_POST(self) -> None:
        kind = type(self)
        kind.asked += 1
        self.rfile.read(int(self.headers["content-length"]))
        if kind.how == "silent":
            return
        if kind.how == "slow":
            time.sleep(0.6)
        self.send_response(200)
        self.send_header("Content-Length", "99" if kind.how == "broken off" else "12")
        self.end_headers()
        self.wfile.write(b'{"data": []}')

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.mark.parametrize(
    ("how", "asked", "message"),
    [("slow", 1, r"no answer within 0\.3 s$"), ("silent", 2, "is it running"), ("broken off", 1, "is it running")],
)
def test_only_what_had_no_answer_yet_is_tried_again(how: str, asked: int, message: str) -> None:
    Failing.how, Failing.asked = how, 0
    with (
        serving(Failing) as url,
        Client(url, timeout_s=0.3, retries=1) as asking,
        pytest.raises(BackendError, match=message),
    ):
        asking.embed(["cat"])
    assert Failing.asked == asked


def test_work_may_take_longer_than_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_DEADLINE_MS / 1000 < client.WORK_S
    monkeypatch.setattr(client, "SEARCH_S", 0.3)
    Failing.how = "slow"
    with serving(Failing) as url, Client(url) as asking:
        assert asking.embed(["cat"]) == []
        with pytest.raises(BackendError, match=r"no answer within 0\.3 s"):
            asking.search("cat")


def test_a_service_that_is_not_there_is_an_error() -> None:
    with Client("http://127.0.0.1:9", retries=0) as client, pytest.raises(BackendError, match="is it running"):
        client.search("x")


@pytest.mark.parametrize(
    "url", ["http://h:port", "http://h:99999", "http://[::1", "http://..", "ftp://h", "http://", "h:80"]
)
def test_odd_addresses_are_refused(url: str) -> None:
    with pytest.raises(InputError, match=r"wanted e\.g\. http://"):
        Client(url)


def test_what_cannot_be_asked_or_is_no_answer(refusing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="retries is -1"):
        Client(refusing, retries=-1)
    Refusing.left = 0
    with Client(refusing) as client:
        with pytest.raises(InputError, match="no JSON"):
            client.search("x", deadline_ms=float("nan"))
        with pytest.raises(InputError, match="no JSON"):
            client.search("\ud800")
        for answer in (b"<html>log in</html>", b"[]"):
            monkeypatch.setattr(Refusing, "answer", answer)
            with pytest.raises(BackendError, match="no JSON object; is it elastic-ir serve"):
                client.search("x")


def test_load_is_sent_when_it_is_due(service: Any, tmp_path: Path) -> None:
    queries = service.folder / "six" / "queries.jsonl"
    output, plot = tmp_path / "load.json", tmp_path / "load.png"
    call = ["load", service.url, "--arrivals", "poisson:20", "--queries", str(queries), "--duration", "2"]
    CliRunner().invoke(app, [*call, "--output", str(output), "--plot", str(plot)])
    figures = json.loads(output.read_text())
    assert figures["statuses"] == {"200": figures["offered"]}
    assert 20 < figures["offered"] < 60
    assert figures["latency_ms"]["p50"] <= figures["latency_ms"]["p99.9"]
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert figures["quality"] is None  # without a ladder nobody knows
    hung = load(service.url, "poisson:20", ["cat"], seconds=1, hang_up=(1.0, 0.0001))
    assert {one.status for one in hung.sent} == {"hung up"}


def test_load_goes_to_this_machine_only() -> None:
    with pytest.raises(InputError, match="not this machine"):
        load("http://192.0.2.1", "poisson:1", ["x"])
    with pytest.raises(BackendError, match="does not answer"):
        load("http://127.0.0.1:9", "poisson:1", ["x"], seconds=1)
    with pytest.raises(InputError, match=r"wanted e\.g\. http"):
        load("127.0.0.1:9", "poisson:1", ["x"])
    with pytest.raises(InputError, match="no queries"):
        load("http://127.0.0.1:9", "poisson:1", [])
    with pytest.raises(InputError, match="slo inf s"):
        load("http://127.0.0.1:9", "poisson:1", ["x"], slo_ms=float("inf"))


def test_a_late_generator_says_so() -> None:
    ladder = Ladder((Rung(Level("bm25"), 0.5, (0.01,)),), 0.25)
    sent = [Sent(float(row), 0.01, 0.02, "200", "bm25", False) for row in range(10)]
    found = Loaded("poisson:1", ladder, (*sent, Sent(10.0, 0.0, 0.001, "503", None, False)), 11.0)
    assert not found.valid
    figures = found.summary()
    assert figures["in_slo"] == pytest.approx(10 / 11)
    assert figures["utility"] == pytest.approx(0.5 * 10 / 11)
    assert figures["statuses"] == {"200": 10, "503": 1}
    assert figures["rate"] == 1.0


def test_requests_given_up_count_with_the_time_waited() -> None:
    ladder = Ladder((Rung(Level("bm25"), 0.5, (0.01,)),), 0.25)
    good, given_up = Sent(0.0, 0.0, 0.01, "200", "bm25", False), Sent(1.0, 0.0, 30.0, "timeout", None, False)
    refused = Sent(0.0, 0.0, 0.001, "503", None, False)
    latency_ms = Loaded("poisson:1", ladder, (*[good] * 9, given_up), 2.0).summary()["latency_ms"]
    assert (latency_ms["p50"], latency_ms["p99"]) == pytest.approx((10, 30_000), rel=0.01)
    broken = Loaded("poisson:1", ladder, (good, *[good._replace(status="connection error")] * 9), 2.0).summary()
    assert broken["latency_ms"]["p50"] == pytest.approx(600_000, rel=0.01)  # a service that is down is not a fast one
    nothing = Loaded("poisson:1", ladder, (refused,), 2.0).summary()
    assert (nothing["latency_ms"]["p99"], nothing["quality"]) == (None, None)
    assert json.loads(json.dumps(nothing, allow_nan=False))["goodput"] == 0
    with pytest.raises(InputError, match="no request due within 1 s"):
        due_times("poisson:0.0001", 1, 0)


def test_answers_off_the_ladder_are_answers() -> None:
    ladder = Ladder((Rung(Level("bm25"), 0.5, (0.01,)),), 0.25)
    good, refused = Sent(0.0, 0.0, 0.01, "200", "bm25", False), Sent(2.0, 0.0, 0.001, "503", None, False)
    stand_in = Sent(1.0, 0.0, 0.02, "200", "dense:w0.25-d2", True)
    found = Loaded("poisson:1", ladder, (good, stand_in, stand_in._replace(latency_s=0.3), refused), 2.0)
    figures = found.summary()
    assert (figures["goodput"], figures["in_slo"], figures["off_ladder"]) == (1, 0.5, pytest.approx(2 / 3))
    assert (figures["quality"], figures["utility"]) == (0.5, 0.125)  # what the stand-in is worth nobody knows
    assert (found.outcome.attainment, found.outcome.refused) == (0.5, 0.25)
    assert found.outcome.percentile(1.0) == 0.3
