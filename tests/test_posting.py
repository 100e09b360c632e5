"""The lean client of the load generator, against a server that answers as told."""

import asyncio
import socket
from collections.abc import Sequence

from elastic_ir.posting import BROKEN, GAVE_UP, Poster

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
LAST = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbusy"
PIECES = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"


Told = list[tuple[str, bytes]]


def posted(answers: Sequence[bytes | None], patience_s: float = 5.0) -> tuple[Told, int, list[bytes]]:
    """What becomes of one request per answer (None says nothing, b"" hangs up), one after the other; the connections
    they took, and what the server read."""
    asked: list[bytes] = []
    connections = 0
    left = iter(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while data := await reader.read(10_000):
            asked.append(data)
            answer = next(left)
            if answer is None:
                continue
            writer.write(answer)
            if not answer or answer is LAST:
                break
        writer.close()

    async def run() -> Told:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        poster = Poster(f"http://127.0.0.1:{port}/ask", {"X-Test": "1"})
        found: Told = []
        for _ in answers:
            done: asyncio.Future[tuple[str, bytes]] = asyncio.get_running_loop().create_future()
            poster.post(poster.request(b"hello"), patience_s, lambda *told, done=done: done.set_result(told))
            found.append(await done)
        await poster.close()
        server.close()
        await server.wait_closed()
        return found

    return asyncio.run(run()), connections, asked


def test_a_connection_is_kept() -> None:
    found, connections, asked = posted([OK, PIECES, OK])
    assert found == [("200", b"ok"), ("200", b"abc"), ("200", b"ok")]
    assert connections == 1
    head, _, body = asked[0].partition(b"\r\n\r\n")
    assert body == b"hello"
    assert head.startswith(b"POST /ask HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"X-Test: 1\r\nContent-Length: 5" in head


def test_a_connection_that_the_server_ends_is_opened_anew() -> None:
    found, connections, _ = posted([LAST, OK])
    assert found == [("503", b"busy"), ("200", b"ok")]
    assert connections == 2


def test_what_is_no_answer_is_said() -> None:
    found, connections, _ = posted([b"", b"not http\r\n\r\n", OK])
    assert found == [(BROKEN, b""), (BROKEN, b""), ("200", b"ok")]
    assert connections == 3
    found, _, _ = posted([None], patience_s=0.05)
    assert found == [(GAVE_UP, b"")]


def test_nobody_there() -> None:
    async def run() -> list[str]:
        found: list[str] = []
        poster = Poster("http://127.0.0.1:9/", {})
        poster.post(poster.request(b""), 5.0, lambda status, _: found.append(status))
        await poster.close()
        return found

    assert asyncio.run(run()) == [BROKEN]


def test_closing_does_not_wait_for_a_connection_that_is_never_made() -> None:
    async def run() -> list[str]:
        found: list[str] = []
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            poster = Poster(f"http://127.0.0.1:{full.getsockname()[1]}/", {})
            for _ in range(8):  # more than the system queues
                poster.post(poster.request(b""), 60.0, lambda status, _: found.append(status))
            await asyncio.sleep(0.1)
            await asyncio.wait_for(poster.close(), 5)
        return found

    assert asyncio.run(run()) == [BROKEN] * 8
