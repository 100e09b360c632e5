"""The HTTP side: FastAPI routes around an ``Engine``; the event loop only reads, queues and writes."""

from __future__ import annotations

import asyncio
import math
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse
from numpy.typing import NDArray
from pydantic import BaseModel
from pydantic_core import to_json
from starlette.types import ASGIApp

from elastic_ir.elastic.tokens import packed
from elastic_ir.errors import ElasticIRError, ExpiredError, OverloadedError
from elastic_ir.level import Level
from elastic_ir.serve import messages as m
from elastic_ir.serve.around import LOG, OPEN_PATHS, Around, problem, problem_of
from elastic_ir.serve.body import BadRequestError, read
from elastic_ir.serve.engine import PART_TOKENS, Engine
from elastic_ir.serve.guard import LEFT
from elastic_ir.serve.loop import Cost, Lag
from elastic_ir.serve.mailbox import Mailbox
from elastic_ir.serve.metrics import Metrics
from elastic_ir.serve.queue import Task
from elastic_ir.subnet import Subnet
from elastic_ir.version import __version__

PART_CHARACTERS = 4 * PART_TOKENS
"""Of the texts to embed, before searches that wait are answered."""
MOST_OVERHEAD = 0.05
"""Share of the SLO that HTTP counts for at most: a service that counted with more might refuse all, and so never learn
that it takes less again."""
TEXT_CHARACTERS = 20
"""As long as a text is to be taken where there is nothing in it: it has a prompt and special tokens."""
PAGE = Path(__file__).parent / "page.html"
Answer = TypeVar("Answer")


def create_app(
    engine: Engine,
    metrics: Metrics,
    token: str | None = None,
    log_queries: bool = False,
    *,
    one_core: bool = False,
    lag: Lag | None = None,
) -> ASGIApp:
    """The service over a started ``engine``.

    Args:
        engine: answers; closed with the application.
        metrics: shown at ``/metrics``.
        token: bearer token that clients must send; None asks for none.
        log_queries: write the text of queries to the log.
        one_core: HTTP takes its time from the models: the engine counts with it.
        lag: of the event loop, for which deadlines are shortened; None: not known.
    """

    def costs(seconds: float) -> None:
        metrics.http.set(seconds)
        if one_core:
            engine.add_overhead(min(seconds, MOST_OVERHEAD * engine.ladder.slo_s))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(engine.close)

    app = FastAPI(
        title="elastic_ir", version=__version__, lifespan=lifespan, docs_url="/docs", redoc_url=None,
        description="Retrieve-then-rerank search whose compute stretches with the load.",
    )  # fmt: skip
    slo_s = engine.ladder.slo_s

    mailbox = Mailbox()

    async def told(_: Request, error: Exception) -> Response:
        return problem_of(error)

    for kind in (BadRequestError, ElasticIRError, Exception):
        app.add_exception_handler(kind, told)

    @app.exception_handler(404)
    @app.exception_handler(405)
    async def nothing_here(_: Request, error: Any) -> Response:
        response = problem(error.status_code, f"{error.detail}; see /docs")
        response.headers.update(error.headers or {})
        return response

    @app.post("/v1/search", **_form(m.SearchRequest, m.SearchAnswer))
    async def search(request: Request) -> Response:
        """Search; without a level the load decides how much work is spent."""
        arrived = time.perf_counter()
        asked = await read(request, m.SearchRequest)
        level = _level(engine, asked.level)
        if log_queries:
            request.scope[LOG]["query"] = asked.query
        seconds = slo_s if asked.deadline_ms is None else asked.deadline_ms / 1000
        late = lag.seconds if lag else 0.0
        task = engine.search(
            asked.query, asked.k, seconds, level, text=asked.text, client=_client(request), late=late,
            hung_up=request.scope.get(LEFT),
        )  # fmt: skip
        hits = await _answer(request, task, mailbox, metrics)
        latency_ms = 1000 * (time.perf_counter() - arrived)
        wait_ms = 1000 * task.waited_s
        answer = m.SearchAnswer.plain(hits, text=asked.text, k=asked.k, wait_ms=wait_ms, latency_ms=latency_ms)
        for reason in hits.degraded.reasons if hits.degraded else ():
            metrics.degraded.labels(reason).inc()
        request.scope[LOG] |= {"level": answer["level"], "wait_ms": answer["wait_ms"]}
        response = Response(to_json(answer), media_type="application/json")
        stages = {"wait": answer["wait_ms"]} | answer["stage_ms"]
        response.headers["Server-Timing"] = ", ".join(f"{_word(name)};dur={ms:.1f}" for name, ms in stages.items())
        return response

    @app.post("/v1/embeddings", **_form(m.EmbeddingsRequest, m.EmbeddingsAnswer))
    async def embeddings(request: Request) -> Response:
        """Vectors of texts, in the form of OpenAI."""
        asked = await read(request, m.EmbeddingsRequest)
        denser = engine.pipeline.parts.denser
        if denser is None:
            raise BadRequestError(404, "this pipeline has no denser; it serves BM25 only")
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        subnet = None if asked.subnet is None else denser.config.resolve(Subnet.parse(asked.subnet))
        encode = denser.encode_query if asked.input_type == "query" else denser.encode_document
        prompt = denser.settings.query_prompt if asked.input_type == "query" else denser.settings.document_prompt
        precision = engine.pipeline.config.precision

        def work(between: Callable[[], bool]) -> tuple[NDArray[np.float32], int]:
            found, used = [], 0
            for part in packed(texts, lambda text: len(text) + TEXT_CHARACTERS, PART_CHARACTERS):
                between()
                found.append(encode(part, subnet, precision=precision, truncate_dim=asked.dimensions))
                used += sum(map(len, denser.tokenize(part, prompt=prompt)))
            return np.concatenate(found), used

        def body(vectors: NDArray[np.float32], used: int) -> bytes:
            rows = map(_base64, vectors) if asked.encoding_format == "base64" else vectors.tolist()
            return to_json({
                "object": "list", "model": denser.name, "usage": {"prompt_tokens": used, "total_tokens": used},
                "data": [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)],
            })  # fmt: skip

        found = await _answer(request, _run(engine, work, request), mailbox, metrics)
        return Response(await asyncio.to_thread(body, *found), media_type="application/json")

    @app.post("/v1/rerank", **_form(m.RerankRequest, m.RerankAnswer))
    @app.post("/v2/rerank", **_form(m.RerankRequest, m.RerankAnswer))
    async def rerank(request: Request) -> Response:
        """Documents in the order of their relevance, in the form of Cohere."""
        asked = await read(request, m.RerankRequest)
        ranker = engine.pipeline.parts.ranker
        if ranker is None:
            raise BadRequestError(404, "this pipeline has no reranker")
        texts = [text if isinstance(text, str) else text.text for text in asked.documents]
        precision = engine.pipeline.config.precision

        def work(between: Callable[[], bool]) -> NDArray[np.float32]:
            return ranker.score(
                asked.query, texts, budget=asked.budget, document_tokens=asked.max_tokens_per_doc, precision=precision,
                batch_tokens=PART_TOKENS, stop=between,
            )  # fmt: skip

        task = _run(engine, work, request)
        scores = (await _answer(request, task, mailbox, metrics)).astype(np.float64)
        relevance = np.exp(-np.logaddexp(0, -scores))
        results = [
            m.RerankResult(
                index=row, relevance_score=relevance[row],
                document=m.DocumentText(text=texts[row]) if asked.return_documents else None,
            )
            for row in np.argsort(-scores, kind="stable")[: asked.top_n].tolist()
        ]  # fmt: skip
        answer = m.RerankAnswer(results=results)
        return Response(answer.model_dump_json(exclude_none=True), media_type="application/json")

    @app.get("/v1/levels", responses=_PROBLEMS)
    async def levels() -> m.Levels:
        """The ladder, dearest first, and the level of the last batch."""
        served = [
            m.ServedLevel(
                level=str(rung.level), quality=rung.quality if engine.ladder.judged else None,
                p50_ms=1000 * (rung.typical or rung.seconds)[0], p95_ms=1000 * rung.seconds[0],
            )
            for rung in engine.ladder.rungs
        ]  # fmt: skip
        return m.Levels(slo_ms=1000 * slo_s, mode=str(engine.mode), now=str(engine.state.level), levels=served)

    @app.get("/livez")
    async def livez() -> m.Health:
        """The process answers."""
        return m.Health(status="alive")

    @app.get("/readyz", responses={503: {"model": m.Health}})
    async def readyz(response: Response) -> m.Health:
        """The models are warm and the engine is at work."""
        if not engine.running:
            response.status_code = 503
            return m.Health(status="closing")
        return m.Health(status="ready", generation=engine.pipeline.generation)

    @app.get("/metrics", response_class=Response, responses=_PROBLEMS | {200: {"content": {"text/plain": {}}}})
    async def show_metrics() -> Response:
        """Prometheus exposition."""
        state = engine.state
        metrics.queue_depth.set(state.queued)
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> HTMLResponse:
        """A page to search, and to watch load, level and latency."""
        return HTMLResponse(PAGE.read_text("utf-8"))

    app.openapi = lambda: _schema(app, engine, token is not None)  # type: ignore[method-assign]
    return Around(app, {"/v1/search": search}, metrics, token, Cost(costs))


_PROBLEMS: dict[int | str, dict[str, Any]] = {401: {"model": m.Problem}}


def _form(asked: type[BaseModel], answered: type[BaseModel]) -> dict[str, Any]:
    """What OpenAPI says of a route that reads its body itself."""
    statuses = (400, 401, 404, 408, 413, 415, 422, 429, 503)
    return {
        "response_model": None,
        "responses": {200: {"model": answered}} | {status: {"model": m.Problem} for status in statuses},
        "openapi_extra": {
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{asked.__name__}"}}},
            }
        },
    }


def _schema(app: FastAPI, engine: Engine, guarded: bool) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        known = schema["components"].setdefault("schemas", {})
        for form in (m.SearchRequest, m.EmbeddingsRequest, m.RerankRequest):
            known[form.__name__] = form.model_json_schema(ref_template="#/components/schemas/{model}")
            known |= known[form.__name__].pop("$defs", {})
        deadline = known["SearchRequest"]["properties"]["deadline_ms"]["anyOf"][0]
        deadline["minimum"] = math.ceil(1000 * engine.least_s)
        if guarded:
            schema["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
            for path, methods in schema["paths"].items():
                for method in methods.values():
                    method["security"] = [] if path in OPEN_PATHS else [{"bearer": []}]
        app.openapi_schema = schema
    return app.openapi_schema


def _client(request: Request) -> str:
    return "" if request.client is None else request.client.host


def _run(engine: Engine, work: Callable[[Callable[[], bool]], Answer], request: Request) -> Task[Answer]:
    seconds = m.MAX_DEADLINE_MS / 1000
    return engine.run(work, seconds, client=_client(request), hung_up=request.scope.get(LEFT))


def _base64(vector: NDArray[np.float32]) -> str:
    return b64encode(vector.astype("<f4").tobytes()).decode("ascii")


def _level(engine: Engine, text: str | None) -> Level | None:
    return None if text is None else engine.pipeline.checked_level(text)


async def _answer(request: Request, task: Task[Answer], mailbox: Mailbox, metrics: Metrics) -> Answer:
    """Wait for ``task`` as long as the client does."""
    answered = mailbox.wait_for(task.answer)

    def leave(_: object) -> None:
        task.abandon()
        answered.cancel()

    gone = asyncio.ensure_future(_disconnected(request))
    gone.add_done_callback(leave)
    metrics.in_flight.inc()
    try:
        found = await answered
    except asyncio.CancelledError:
        if not task.abandoned:  # the server ends
            task.abandon()
            raise OverloadedError("the service is closing", 1) from None
    except ExpiredError:
        if not task.abandoned:
            raise
    else:
        if not task.abandoned:
            return found
    finally:
        metrics.in_flight.dec()
        gone.remove_done_callback(leave)
        gone.cancel()
    raise BadRequestError(499, "the client went away")


async def _disconnected(request: Request) -> None:
    """Returns when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _word(name: str) -> str:
    """A stage's name as a token of ``Server-Timing``."""
    return "".join(c if c.isalnum() else "-" for c in name).strip("-") or "stage"
