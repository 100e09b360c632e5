"""What surrounds every request: its id, token, headers, metrics, a line in the log; and how errors are answered."""

from __future__ import annotations

import hmac
import json
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as ASGIMessage

from elastic_ir.errors import ElasticIRError, ExpiredError, InputError, OverloadedError, OverShareError, SubnetError
from elastic_ir.serve.body import BadRequestError
from elastic_ir.serve.loop import Cost
from elastic_ir.serve.metrics import Metrics

logger = logging.getLogger("elastic_ir.serve")

OPEN_PATHS = {"/livez", "/readyz", "/"}
"""Answered without a token: they show nothing of the documents."""
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'"
    "; img-src 'self' data:; frame-ancestors 'none'",
}
LOG = "elastic_ir.log"
"""Where a route adds to its request's line in the log."""
_RAW_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,64}")

Endpoint = Callable[[Request], Awaitable[Response]]


class Around:
    """Wraps ``app``; ``straight`` (path -> endpoint of a POST) is called without the way through its routing.

    That way costs more than handling the request, and as much as a BM25 search of a small collection.
    """

    def __init__(
        self, app: ASGIApp, straight: Mapping[str, Endpoint], metrics: Metrics, token: str | None, cost: Cost
    ) -> None:
        self.app, self.straight, self.metrics, self.token, self.cost = app, straight, metrics, token, cost

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status, path = time.perf_counter(), 500, scope["path"]
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
        scope[LOG] = {}

        async def answer(message: ASGIMessage) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                added = [] if path == "/docs" else _RAW_HEADERS
                message["headers"] = [*message["headers"], *added, (b"x-request-id", request_id.encode())]
            await send(message)

        endpoint = self.straight.get(path) if scope["method"] == "POST" else None
        try:
            if path not in OPEN_PATHS and not authorised(headers.get("authorization", ""), self.token):
                refusal = problem(401, "no valid bearer token; send Authorization: Bearer TOKEN")
                refusal.headers["WWW-Authenticate"] = "Bearer"
                await refusal(scope, receive, answer)
            elif endpoint is not None:
                response = await _answered(endpoint, Request(scope, receive))
                await response(scope, receive, answer)
            else:
                await self.app(scope, receive, answer)
        finally:
            self.cost.request()
            seconds = time.perf_counter() - started
            label = path if endpoint is not None else getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(label, status).inc()
            if label.startswith("/v1/") and status < 400:  # refusals are quick, and would hide how long answers take
                self.metrics.durations.labels(label).observe(seconds)
            if logger.isEnabledFor(logging.INFO):
                line = {"path": label, "status": status, "ms": round(1000 * seconds, 2), "id": request_id}
                logger.info(json.dumps(line | scope[LOG]))


async def _answered(endpoint: Endpoint, request: Request) -> Response:
    try:
        return await endpoint(request)
    except Exception as exc:
        return problem_of(exc)


def problem_of(error: Exception) -> Response:
    """What a client is told of ``error``."""
    if isinstance(error, BadRequestError):
        response = problem(error.status, error.error, error.detail)
        if error.status in (408, 413):
            response.headers["Connection"] = "close"
        return response
    if isinstance(error, InputError):
        return problem(404 if isinstance(error, SubnetError) else 422, str(error))
    if isinstance(error, (OverloadedError, ExpiredError)):
        response = problem(429 if isinstance(error, OverShareError) else 503, str(error))
        response.headers["Retry-After"] = str(error.retry_after_s)
        return response
    if isinstance(error, ElasticIRError):
        logger.error("request failed: %s", error)
        return problem(503, "the search failed; see the service's log")
    logger.error("request failed", exc_info=error)
    return problem(500, "an error of the service; see its log")


def problem(status: int, error: str, detail: object = None) -> JSONResponse:
    """An answer that says what went wrong."""
    return JSONResponse({"error": error, "detail": detail}, status)


def authorised(header: str, token: str | None) -> bool:
    """Whether the ``Authorization`` header holds the bearer ``token``; None asks for none."""
    if token is None:
        return True
    scheme, _, given = header.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.encode("utf-8", "replace"), token.encode("utf-8"))
