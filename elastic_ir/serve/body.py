"""Reading a request's JSON body: bounded in bytes, time and depth, and refused with what is wrong."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

MAX_BODY = 2_000_000
BODY_S = 5.0

Message = TypeVar("Message", bound=BaseModel)


class BadRequestError(Exception):
    """A request that is answered with ``status`` (4xx) and why."""

    def __init__(self, status: int, error: str, detail: object = None) -> None:
        super().__init__(error)
        self.status, self.error, self.detail = status, error, detail


async def read(request: Request, form: type[Message], limit: int = MAX_BODY, seconds: float = BODY_S) -> Message:
    """The body of ``request`` as a ``form``.

    Raises:
        BadRequestError: 408 when it does not arrive in ``seconds``, 413 over ``limit`` bytes, 415 for another type than
            JSON, 400 for what is not JSON, 422 for JSON of another form.
    """
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise BadRequestError(415, f"content type {kind[:100]!r}; wanted application/json")
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise BadRequestError(413, f"the body has more than {limit:,} bytes; send fewer or shorter texts")
    except TimeoutError:
        raise BadRequestError(408, f"the body did not arrive within {seconds:g} seconds") from None
    except ClientDisconnect:
        raise BadRequestError(400, "the client went away") from None
    return parse(bytes(body), form)


def parse(body: bytes, form: type[Message]) -> Message:
    """``body`` as a ``form``.

    Raises:
        BadRequestError: 400 for what is not JSON, 422 for JSON of another form.
    """
    try:
        return form.model_validate_json(body)
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_context=False, include_input=False)
    if errors[0]["type"] == "json_invalid":
        raise BadRequestError(400, f"the body is not JSON: {errors[0]['msg'][:200]}")
    problems = [{"where": ".".join(map(str, error["loc"]))[:200], "problem": error["msg"]} for error in errors[:10]]
    first = ": ".join(filter(None, problems[0].values()))
    raise BadRequestError(422, f"the body does not fit: {first}", problems)
