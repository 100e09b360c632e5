"""``Client``: a service's searches from Python, with a time-out and bounded retries."""

from __future__ import annotations

import ipaddress
import math
import random
import time
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from elastic_ir.errors import BackendError, ConfigError, InputError, OverloadedError

RETRY_BUDGET = 0.1
"""Retries a request, in the long run: a service that is overloaded must not be asked twice by everyone."""
LONGEST_WAIT_S, _A_DAY_S = 10.0, 86_400.0
SEARCH_S, WORK_S = 10.0, 70.0
"""Time-outs: of a search, and of embedding and reranking, for which the service gives itself 60 seconds."""


def check_url(url: str) -> None:
    """Refuse what is no address of a service.

    Raises:
        InputError: with an example.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        (parts.hostname or "").encode("idna")
    except ValueError:  # an odd port, address or name
        usable = False
    if not usable:
        raise InputError(f"address {url!r}; wanted e.g. http://127.0.0.1:8080")


def check_token(token: str | None) -> None:
    """Refuse a token that no header can hold.

    Raises:
        InputError: if it is not printable ASCII, or has white space around it.
    """
    if token is not None and not (token.isascii() and token.isprintable() and token == token.strip()):
        raise InputError(
            "the token has characters that no header can hold; wanted printable ASCII without outer spaces"
        )


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine's own address or name for itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Client:
    """Asks a service that ``elastic-ir serve`` runs.

    A request that was refused, or lost before an answer began, is tried again at most ``retries`` times, after the time
    the service names, and only while retries are under a tenth of all requests. One that takes too long is not: the
    service may be at work on it.

    Args:
        url: e.g. ``http://127.0.0.1:8080``.
        token: bearer token; None sends none.
        timeout_s: for connecting, for sending, and between two parts of an answer, in one try; None: 10, and 70 for the
            answer to ``embed`` and ``rerank``.
        retries: at most, for one call.

    Raises:
        ConfigError: if httpx is not installed. InputError: for an address or a token that cannot be one, or
            negative ``retries``.

    Example:
        >>> with Client("http://127.0.0.1:8080") as client:
        ...     answer = client.search("read a csv file", k=3)
    """

    def __init__(self, url: str, token: str | None = None, timeout_s: float | None = None, retries: int = 2) -> None:
        try:
            import httpx
        except ImportError as exc:
            raise ConfigError(
                "httpx is not installed; run pip install -e '.[serve]' in the checkout of elastic_ir"
            ) from exc

        check_url(url)
        check_token(token)
        if retries < 0:
            raise InputError(f"retries is {retries}; wanted 0 or more")
        if timeout_s is not None and not 0 < timeout_s < math.inf:
            raise InputError(f"timeout_s is {timeout_s}; wanted seconds above 0")
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            self._http = httpx.Client(base_url=url, headers=headers)
        except httpx.InvalidURL as exc:
            raise InputError(f"address {url!r}; wanted e.g. http://127.0.0.1:8080") from exc
        self._timeout_s, self._retries, self._allowance = timeout_s, retries, 1.0

    def search(
        self, query: str, k: int = 10, *, level: str | None = None, deadline_ms: float | None = None, text: bool = True
    ) -> dict[str, Any]:
        """The answer as the service gives it: ``hits``, ``level``, ``degraded``, ``stage_ms`` and more.

        Raises:
            InputError: for a question that the service cannot use.
            OverloadedError: if it refused every try.
            BackendError: if it cannot be reached, does not answer in time, or fails.
        """
        asked = {"query": query, "k": k, "text": text, "level": level, "deadline_ms": deadline_ms}
        return self._post("/v1/search", {key: value for key, value in asked.items() if value is not None}, SEARCH_S)

    def embed(self, texts: list[str], *, subnet: str | None = None, input_type: str = "query") -> list[list[float]]:
        """Unit vectors of ``texts``; ``subnet`` such as ``w0.50-d6``. Raises as ``search``."""
        asked = {"input": texts, "input_type": input_type} | ({} if subnet is None else {"subnet": subnet})
        return [row["embedding"] for row in self._rows("/v1/embeddings", asked, "data", {"embedding"})]

    def rerank(self, query: str, documents: list[str], *, budget: float | None = None) -> list[tuple[int, float]]:
        """Places and relevance (0 to 1) of ``documents``, best first. Raises as ``search``."""
        asked = {"query": query, "documents": documents} | ({} if budget is None else {"budget": budget})
        rows = self._rows("/v1/rerank", asked, "results", {"index", "relevance_score"})
        return [(row["index"], row["relevance_score"]) for row in rows]

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _rows(self, path: str, asked: dict[str, Any], key: str, wanted: set[str]) -> list[dict[str, Any]]:
        rows = self._post(path, asked, WORK_S).get(key)
        if not isinstance(rows, list) or not all(isinstance(row, dict) and wanted <= row.keys() for row in rows):
            raise BackendError(f"{self._http.base_url}: the answer has no {key!r} as wanted; is it elastic-ir serve?")
        return rows

    def _post(self, path: str, asked: dict[str, Any], answer_s: float) -> dict[str, Any]:
        import httpx

        patience_s = self._timeout_s or answer_s
        timeout = httpx.Timeout(self._timeout_s or SEARCH_S, read=patience_s)
        self._allowance = min(10.0, self._allowance + RETRY_BUDGET)
        for left in range(self._retries, -1, -1):
            wait_s, failure, begun = 0.1 * 2 ** (self._retries - left), "", False
            try:
                with self._http.stream("POST", path, json=asked, timeout=timeout) as response:
                    begun = True
                    response.read()
            except httpx.ReadTimeout as exc:
                raise BackendError(f"{self._http.base_url}: no answer within {patience_s:g} s") from exc
            except httpx.HTTPError as exc:
                error: Exception = BackendError(f"{self._http.base_url}: {type(exc).__name__}: {exc}; is it running?")
                if begun or not isinstance(exc, (httpx.NetworkError, httpx.ConnectTimeout, httpx.RemoteProtocolError)):
                    raise error from exc
            except httpx.InvalidURL as exc:
                raise InputError(f"address {self._http.base_url}: {exc}") from exc
            except ValueError as exc:
                raise InputError(f"the request is no JSON: {exc}") from exc
            else:
                if response.is_success:
                    return self._read(response)
                failure = _error(response)
                if response.status_code not in (429, 502, 503, 504):
                    kind = InputError if response.is_client_error else BackendError
                    raise kind(f"{self._http.base_url}: {failure} (status {response.status_code})")
                named = response.headers.get("retry-after", "")
                wait_s = min(float(named), _A_DAY_S) if named.isdecimal() else wait_s
                error = OverloadedError(f"{self._http.base_url}: {failure}", max(1, round(wait_s)))
            if not left or self._allowance < 1 or wait_s > LONGEST_WAIT_S:
                raise error
            self._allowance -= 1
            time.sleep(wait_s * random.uniform(1.0, 1.25))
        raise AssertionError("unreachable")

    def _read(self, response: Any) -> dict[str, Any]:
        try:
            found = response.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            kind = response.headers.get("content-type", "no type")
            raise BackendError(f"{self._http.base_url}: the answer is {kind}, no JSON object; is it elastic-ir serve?")
        return found


def _error(response: Any) -> str:
    try:
        found = response.json()
        return str(found["error"])
    except (ValueError, KeyError, TypeError):
        return f"status {response.status_code}"
