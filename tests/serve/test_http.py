"""The service over HTTP: answers, refusals, tokens, swaps, and its end."""

from __future__ import annotations

import base64
import importlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from elastic_ir.cli import app
from elastic_ir.dense import ElasticDenser
from elastic_ir.errors import BackendError
from elastic_ir.pipeline import Pipeline
from elastic_ir.rerank import ElasticRanker
from elastic_ir.serve.messages import SearchAnswer


def post(service: Any, path: str = "/v1/search", **body: Any) -> httpx.Response:
    return httpx.post(f"{service.url}{path}", json=body, timeout=10)


def test_an_answer_says_how_it_came_about(service: Any) -> None:
    response = post(service, query="cat on mat", k=3)
    assert response.status_code == 200, response.text
    found = response.json()
    assert len(found["hits"]) == 3
    assert found["hits"][0]["text"]
    assert found["hits"][0]["retrieved"] is not None
    assert found["level"] == "dense:w1.00-d4+rerank:w1.00:4@1.00"
    assert found["degraded"] is None
    assert found["generation"] == 1
    SearchAnswer.model_validate_json(response.content)
    assert {"dense", "rerank"} <= set(found["stage_ms"])
    assert found["wait_ms"] <= found["latency_ms"]
    assert "rerank;dur=" in response.headers["server-timing"]
    assert len(response.headers["x-request-id"]) == 32
    named = httpx.post(f"{service.url}/v1/search", json={"query": "x cat"}, headers={"X-Request-ID": "mine-1"})
    assert named.headers["x-request-id"] == "mine-1"
    assert post(service, query="cat", text=False).json()["hits"][0]["text"] is None


def test_a_forced_level_answers_as_the_pipeline_does(service: Any, settings: dict[str, Any]) -> None:
    with Pipeline.from_config(settings, index=service.index) as offline:
        for level in ("bm25", "dense:w0.50-d2", "dense:w1.00-d4+rerank:w1.00:2@1.00"):
            found = post(service, query="cat on mat", k=6, level=level).json()
            wanted = offline.search("cat on mat", k=6, level=level)
            assert [hit["doc_id"] for hit in found["hits"]] == [hit.doc_id for hit in wanted]
            assert [hit["score"] for hit in found["hits"]] == pytest.approx([hit.score for hit in wanted], abs=1e-5)
            assert found["level"] == level


BODIES = {
    "not JSON": b"{",
    "nothing": b"",
    "NaN": b'{"query": "cat", "deadline_ms": NaN}',
    "1e400": b'{"query": "cat", "deadline_ms": 1e400}',
    "a huge number": b'{"query": "cat", "k": ' + b"9" * 5000 + b"}",
    "deep": b"[" * 100_000,
    "a lone surrogate": b'{"query": "\\ud800 cat"}',
    "other bytes": '{"query": "käse"}'.encode("latin-1"),
    "a mark before": b'\xef\xbb\xbf{"query": "cat"}',
    "another type": b'{"query": 7}',
    "an unknown key": b'{"query": "cat", "hits": 3}',
    "blank": b'{"query": "  "}',
    "too long": json.dumps({"query": "cat " * 5000}).encode(),
    "k=0": b'{"query": "cat", "k": 0}',
    "k as text": b'{"query": "cat", "k": "3"}',
    "no such level": b'{"query": "cat", "level": "dense:w9"}',
    "a level it has not": b'{"query": "cat", "level": "dense:w1.00-d12"}',
    "a list": b"[1]",
}


@pytest.mark.parametrize("name", BODIES)
def test_what_cannot_be_used_is_refused_and_the_next_is_answered(service: Any, name: str) -> None:
    kind = {"Content-Type": "application/json"}
    response = httpx.post(f"{service.url}/v1/search", content=BODIES[name], headers=kind, timeout=10)
    assert 400 <= response.status_code < 500, response.text
    assert response.json()["error"]
    assert post(service, query="cat").status_code == 200


def test_bodies_are_bounded_in_kind_and_size(service: Any) -> None:
    form = httpx.post(f"{service.url}/v1/search", data={"query": "cat"})
    assert form.status_code == 415
    large = httpx.post(
        f"{service.url}/v1/search", content=b" " * 3_000_000, headers={"Content-Type": "application/json"}
    )
    assert large.status_code == 413
    assert httpx.get(f"{service.url}/v1/search").status_code == 405
    assert httpx.get(f"{service.url}/nothing").status_code == 404


def test_malformed_requests_are_refused(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    bad, fine = importlib.import_module("fuzz").fuzz(service.url, 200, seed=1)
    assert not [status for status in bad if status.startswith("5")], bad
    assert fine == {"200": 2}


def test_embeddings_and_rerank_are_those_of_the_library(service: Any, settings: dict[str, Any]) -> None:
    denser = ElasticDenser.from_pretrained(settings["denser"]["model"])
    found = post(service, "/v1/embeddings", input=["cat on mat", "red tree"], subnet="w0.50-d2").json()
    vectors = np.array([row["embedding"] for row in found["data"]])
    from elastic_ir.subnet import Subnet

    wanted = denser.encode_query(["cat on mat", "red tree"], Subnet(0.5, 2))
    assert np.abs(vectors - wanted).max() < 1e-5
    form = {"encoding_format": "base64", "dimensions": 8, "model": "any", "user": "me"}
    coded = post(service, "/v1/embeddings", input="cat on mat", subnet="w0.50-d2", **form).json()
    first = np.frombuffer(base64.b64decode(coded["data"][0]["embedding"]), "<f4")
    assert np.abs(first - wanted[0, :8] / np.linalg.norm(wanted[0, :8])).max() < 1e-5
    assert coded["usage"]["prompt_tokens"] == len(denser.tokenize(["cat on mat"])[0])
    assert post(service, "/v1/embeddings", input="cat", dimensions=9_999).status_code == 422
    many = post(service, "/v1/embeddings", input=["cat"] * 1_000, subnet="w0.25-d1").json()["data"]
    assert [row["index"] for row in many] == list(range(1_000))
    assert post(service, "/v1/embeddings", input="cat", subnet="w0.50-d9").status_code == 404
    assert post(service, "/v1/embeddings", input="cat", subnet="w0.0001-d1").status_code == 200
    ranker = ElasticRanker.from_pretrained(settings["reranker"]["model"])
    documents = ["a dog ran", "the cat sat on the mat", "big red tree"]
    found = post(service, "/v1/rerank", query="cat on mat", documents=documents, top_n=2).json()["results"]
    scores = ranker.score("cat on mat", documents)
    assert [row["index"] for row in found] == np.argsort(-scores)[:2].tolist()
    assert [row["relevance_score"] for row in found] == pytest.approx(1 / (1 + np.exp(np.sort(-scores)[:2])))
    form = {"model": "any", "return_documents": True, "documents": [{"text": t, "title": "a"} for t in documents],
            "max_chunks_per_doc": None, "rank_fields": ["text"], "priority": 0, "top_n": 9_999}  # fmt: skip
    answer = post(service, "/v2/rerank", query="cat on mat", **form).json()["results"]
    short = post(service, "/v2/rerank", query="cat on mat", documents=documents, max_tokens_per_doc=1).json()["results"]
    scores = -np.sort(-ranker.score("cat on mat", [text.split()[0] for text in documents]))
    assert [row["relevance_score"] for row in short] == pytest.approx(1 / (1 + np.exp(-scores)))
    assert answer[0] == found[0] | {"document": {"text": documents[found[0]["index"]]}}


def test_what_it_tells_of_itself(service: Any) -> None:
    levels = httpx.get(f"{service.url}/v1/levels").json()
    assert levels["levels"][0]["level"] == "dense:w1.00-d4+rerank:w1.00:4@1.00"
    assert levels["slo_ms"] == 2000
    post(service, query="cat")
    metrics = httpx.get(f"{service.url}/metrics").text
    for name in ("requests_total", "request_duration_seconds_bucket", "stage_duration_seconds_bucket", "queue_depth",
                 "queue_wait_seconds_bucket", "in_flight", "level", "expected_quality", "shed_total"):  # fmt: skip
        assert f"\nelastic_ir_{name}" in metrics, name
    assert httpx.get(f"{service.url}/livez").json()["status"] == "alive"
    assert httpx.get(f"{service.url}/readyz").json() == {"status": "ready", "generation": 1, "detail": None}
    page = httpx.get(service.url)
    assert "<title>elastic_ir search</title>" in page.text
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert "/v1/search" in httpx.get(f"{service.url}/openapi.json").json()["paths"]


def test_a_token_is_asked_for(start_service: Callable[..., Any]) -> None:
    guarded = start_service(token="Right-1")
    for given in (None, "Bearer wrong", "Bearer Right-", "Bearer right-1", "Basic Right-1", "Bearer"):
        headers = {"Authorization": given} if given else {}
        response = httpx.post(f"{guarded.url}/v1/search", json={"query": "cat"}, headers=headers)
        assert response.status_code == 401, given
        assert response.headers["www-authenticate"] == "Bearer"
    assert httpx.get(f"{guarded.url}/metrics").status_code == 401
    assert httpx.get(f"{guarded.url}/livez").status_code == 200
    right = {"Authorization": "Bearer Right-1"}
    assert httpx.post(f"{guarded.url}/v1/search", json={"query": "cat"}, headers=right).status_code == 200
    with ThreadPoolExecutor(1) as pool:
        body = {"query": "cat", "documents": ["a cat sat on a mat " * 1000] * 80}
        at_work = pool.submit(httpx.post, f"{guarded.url}/v1/rerank", json=body, headers=right, timeout=30)
        time.sleep(0.5)
        guarded.process.terminate()
        assert at_work.result().status_code == 503
        assert at_work.result().json()["error"] == "the service is closing"
    assert guarded.process.wait(20) == 0
    log = guarded.log.read_text()
    assert "Right-1" not in log
    assert '"path": "/v1/search", "status": 401' in log
    assert "cat" not in log


def test_slow_and_idle_connections_are_dropped(service: Any) -> None:
    where = urlsplit(service.url)
    sockets = []
    for sent in (b"", b"POST /v1/search HTTP/1.1\r\nHost: x\r\n"):
        made = socket.create_connection((where.hostname, where.port), timeout=15)
        made.sendall(sent)
        sockets.append(made)
    begun = time.monotonic()
    for made in sockets:
        with suppress(ConnectionResetError):
            assert made.recv(10) == b""
        made.close()
    assert 2 < time.monotonic() - begun < 10
    assert post(service, query="cat").status_code == 200


def test_headers_without_end_are_refused(service: Any) -> None:
    where = urlsplit(service.url)
    with socket.create_connection((where.hostname, where.port), timeout=15) as made:
        with suppress(BrokenPipeError, ConnectionResetError):
            made.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"X-Long: y\r\n" * 20_000)
        with suppress(ConnectionResetError):
            assert made.recv(1000).startswith(b"HTTP/1.1 400")
    assert post(service, query="cat").status_code == 200


def test_a_new_generation_is_served_without_a_restart(
    start_service: Callable[..., Any], settings: dict[str, Any]
) -> None:
    changing = start_service("--log-queries")
    corpus = changing.folder / "six" / "corpus.jsonl"
    corpus.write_text(corpus.read_text() + '{"_id": "new", "title": "", "text": "a small blue bird"}\n')
    build = ["index", "--dataset", str(changing.folder / "six"), "--output", str(changing.index),
             "--model", settings["denser"]["model"]]  # fmt: skip
    subprocess.run([sys.executable, "-m", "elastic_ir.cli", *build], check=True, capture_output=True)
    until = time.monotonic() + 30
    while (found := post(changing, query="small blue bird", level="bm25").json())["generation"] == 1:
        assert time.monotonic() < until
        time.sleep(0.2)
    assert found["hits"][0]["doc_id"] == "new"
    assert '"query": "small blue bird"' in changing.log.read_text()
    changing.process.send_signal(signal.SIGHUP)
    assert post(changing, query="cat").status_code == 200
    changing.process.terminate()
    assert changing.process.wait(20) == 0


def test_an_address_that_is_taken_is_found_out_first(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        call = ["serve", "--index", str(tmp_path), "--port", str(taken.getsockname()[1])]
        found = CliRunner().invoke(app, call)
    assert isinstance(found.exception, BackendError)
    assert "--port 0 takes a free one" in str(found.exception)


def test_what_it_will_not_start_with(tmp_path: Path) -> None:
    call = ["serve", "--index", str(tmp_path), "--host", "0.0.0.0"]
    for options in (["--mode", "sometimes"], ["--mode", "fixed"], ["--slo-ms", "inf"]):
        assert CliRunner().invoke(app, [*call, *options]).exit_code != 0
