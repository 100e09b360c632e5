"""Malformed requests to a running service: none may get a 5xx, and the next good one must be answered.

Requests are made by damaging good ones, byte by byte and by known tricks, and go over raw sockets: a client library
would refuse to send most of them. The seed makes a run repeatable.

elastic-ir serve --port 8080 &
python benchmarks/fuzz.py http://127.0.0.1:8080 --requests 10000
"""

from __future__ import annotations

import argparse
import json
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from measured import store

PATIENCE_S = 0.3
"""How long an answer is waited for: a request that never ends gets none before the service's own time-out."""
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_GOOD: dict[str, dict[str, Any]] = {
    "/v1/search": {"query": "where is the cat", "k": 3},
    "/v1/embeddings": {"input": ["where is the cat", "red tree"]},
    "/v1/rerank": {"query": "where is the cat", "documents": ["a dog ran", "the cat sat on the mat"]},
}
_VALUES = (
    None, True, -1, 0, 2**63, -(2**200), 1.5, [], {}, [[]], "", " ",
    "\x00", "\u202e", "cat " * 50, "\ud800", ["cat"] * 1_001,
    {"query": {"query": {}}}, 1e308, "1e400", "../../etc/passwd",
    "<script>", "' OR 1=1 --", "w1.00-d99", "dense:w0-d0",
)  # fmt: skip
_LINES = (
    b"GET / HTTP/9.9", b"GET  / HTTP/1.1", b"get / HTTP/1.1", b"/ HTTP/1.1",
    b"GET /", b"\x16\x03\x01\x02\x00", b"PRI * HTTP/2.0",
    b"GET /../../etc/passwd HTTP/1.1", b"GET /%00 HTTP/1.1", b"GET /%ff%fe HTTP/1.1", b"GET http://other/ HTTP/1.1",
    b"GET /" + b"a" * 70_000 + b" HTTP/1.1", b"CONNECT other:443 HTTP/1.1",
    b"TRACE / HTTP/1.1", b"DELETE /v1/search HTTP/1.1",
    b"OPTIONS * HTTP/1.1", b"POST /v1/search?%s=%n HTTP/1.1", b"GET /\r\n\r\n HTTP/1.1", b"\x00" * 40,
)  # fmt: skip
_HEADERS = (
    b"Content-Length: -1", b"Content-Length: 1e3", b"Content-Length: 99999999999999999999", b"Content-Length: 5, 6",
    b"Content-Length: 3\r\nContent-Length: 4", b"Transfer-Encoding: chunked\r\nContent-Length: 5",
    b"Transfer-Encoding: gzip",
    b"Transfer-Encoding: chunked", b"no colon here", b" folded: yes",
    b": nameless", b"X: " + b"y" * 100_000, b"X-Y: \x00\x01",
    b"Content-Type: text/plain", b"Content-Type: application/json; charset=\xff",
    b"Content-Encoding: gzip", b"Expect: 100-continue",
    b"X-Request-ID: a\tb", b"X-Request-ID: " + b"z" * 5000, b"Authorization: Bearer \xff\xfe",
    b"Connection: upgrade\r\nUpgrade: websocket",
    b"Host: a\r\nHost: b", b"\r\n".join(b"H%d: x" % i for i in range(300)),
)  # fmt: skip
_BODIES = (
    b"[" * 100_000, b'{"query":' * 2000, b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}", b'"cat"', b"null", b"",
    b'{"query": NaN}', b'{"query": "cat", "k": 1e400}', b'{"k": ' + b"9" * 6000 + b"}", b'{"query": "\\ud800"}',
    b'{"query": "cat", "query": 1}', b'{"__proto__": {}}', b'{"query": "cat", "deadline_ms": Infinity}',
    b'{"query": "cat", "deadline_ms": 1e-320}',
)  # fmt: skip


def request(line: bytes, headers: list[bytes], body: bytes) -> bytes:
    """What goes over the wire."""
    return b"\r\n".join([line, *headers, b"", body])


def malformed(seed: int) -> Iterator[bytes]:
    """Damaged requests, without end."""
    rng = random.Random(seed)
    while True:
        path = rng.choice(list(_GOOD))
        line, body = b"POST %s HTTP/1.1" % path.encode(), json.dumps(_GOOD[path]).encode()
        kind = rng.choice(("line", "header", "body", "value", "bytes", "cut", "chunks"))
        if kind == "line":
            line = rng.choice(_LINES)
        elif kind == "body":
            body = rng.choice(_BODIES)
        elif kind == "value":
            key = rng.choice([*_GOOD[path], "level", "deadline_ms", "subnet", "budget", "top_n", "unknown"])
            body = json.dumps(_GOOD[path] | {key: rng.choice(_VALUES)}).encode()
        elif kind == "bytes":
            body = _damaged(rng, body)
        headers = [b"Host: x", b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
        if kind == "header":
            headers.insert(rng.randrange(len(headers) + 1), rng.choice(_HEADERS))
        if kind == "chunks":
            size = rng.choice((b"%x" % len(body), b"-1", b"zz", b"ffffffffffffffffff", b"5;" + b"e" * 70_000))
            headers[-1], body = (
                b"Transfer-Encoding: chunked",
                size + b"\r\n" + body + rng.choice((b"\r\n0\r\n\r\n", b"")),
            )
        sent = request(line, headers, body)
        if kind == "cut":
            sent = sent[: rng.randrange(len(sent))]
        yield _damaged(rng, sent) if rng.random() < 0.15 else sent


def _damaged(rng: random.Random, text: bytes) -> bytes:
    """``text`` with a few bytes replaced, dropped or doubled."""
    found = bytearray(text)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(found) + 1)
        found[place : place + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 4))
    return bytes(found)


def answer(url: str, sent: bytes) -> str:
    """The status of the first answer to ``sent``; ``closed`` or ``none`` where there is none."""
    where = urlsplit(url)
    with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
        found = b""
        with suppress(ConnectionError):
            connection.sendall(sent)
        connection.settimeout(PATIENCE_S)
        try:
            while (status := _STATUS.search(found)) is None:
                if not (more := connection.recv(4096)):
                    return "closed"
                found += more
        except TimeoutError:
            return "none"
        except ConnectionError:
            return "closed"
        return status[1].decode()


def good(url: str) -> str:
    """The status of a good search."""
    body = json.dumps(_GOOD["/v1/search"]).encode()
    headers = [b"Host: x", b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
    for _ in range(100):
        found = answer(url, request(b"POST /v1/search HTTP/1.1", headers, body))
        if found != "none":
            return found
    return "none"


def fuzz(url: str, count: int, seed: int = 0, clients: int = 8) -> tuple[Counter[str], Counter[str]]:
    """Send ``count`` malformed requests, and a good one after every 100th; the statuses of both."""
    bad: Counter[str] = Counter()
    fine: Counter[str] = Counter()
    requests = malformed(seed)
    with ThreadPoolExecutor(clients) as pool:
        while chunk := list(islice(requests, min(100, count - bad.total()))):
            bad.update(pool.map(lambda sent: answer(url, sent), chunk))
            fine[good(url)] += 1
    return bad, fine


def main() -> None:
    """Print and store what came back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    started = time.perf_counter()
    bad, fine = fuzz(arguments.url, arguments.requests, arguments.seed)
    seconds = time.perf_counter() - started
    lines = ["| answer | malformed | good, after every 100 |", "|---|---|---|"]
    lines += [f"| {status} | {bad[status]:,} | {fine[status]:,} |" for status in sorted(bad | fine)]
    lines += ["", f"{bad.total():,} requests in {seconds:.0f} s; `none`: the service still waits for the rest of one."]
    command = f"python benchmarks/fuzz.py URL --requests {arguments.requests} --seed {arguments.seed}"
    store("fuzz", command, {"malformed": dict(bad), "good": dict(fine), "seconds": seconds}, "\n".join(lines))
    failed = sum(count for status, count in bad.items() if status.startswith("5")) + fine.total() - fine["200"]
    raise SystemExit(f"{failed} answers were wrong" if failed else 0)


if __name__ == "__main__":
    main()
