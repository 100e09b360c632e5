"""From a pipeline and a ladder to a running service."""

from __future__ import annotations

import gc
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import uvicorn
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from elastic_ir.client import check_token, is_loopback
from elastic_ir.errors import BackendError, ConfigError, ElasticIRError
from elastic_ir.index.classes import archive_classes
from elastic_ir.index.current import read_current
from elastic_ir.level import Level
from elastic_ir.machine import cores
from elastic_ir.pipeline import Pipeline
from elastic_ir.schedule import Ladder
from elastic_ir.serve.app import create_app
from elastic_ir.serve.around import authorised
from elastic_ir.serve.engine import Engine, Mode
from elastic_ir.serve.guard import GuardedProtocol
from elastic_ir.serve.loop import Lag
from elastic_ir.serve.metrics import Metrics
from elastic_ir.stage import described

logger = logging.getLogger("elastic_ir.serve")

WATCH_S = 2.0
LOADING_S = 10.0
"""Waited for at the end: a process that ends while one of its threads loads a model aborts."""
KEEP_ALIVE_S = 5
BEHIND, SOON_BEHIND = 0.2, 0.04
"""Shares of the SLO by which the event loop may be behind before requests are refused unread: at most, and while the
queue is full."""
SWITCH_S = 0.0005
"""Seconds after which a thread must let another run Python code. At the usual 5 ms the event loop would wait as long
for the engine's thread each time it has read or written."""
WARM_UP = ("what is this about", "how does it work", "a longer question of about a dozen words, as people ask them") * 3


class Service(NamedTuple):
    """What ``serve`` needs to know.

    Attributes:
        reopen: opens the pipeline anew, on the newest generation of its index.
        host: address to listen on; other machines are served only with a token.
        port: 0 takes a free one.
        mode: see ``Engine``.
        token: bearer token that clients must send; None asks for none.
        log_queries: write the text of queries to the log.
    """

    reopen: Callable[[], Pipeline]
    host: str = "127.0.0.1"
    port: int = 8080
    mode: Mode | Level = "enforce"
    token: str | None = None
    log_queries: bool = False


def serve(service: Service, pipeline: Pipeline, ladder: Ladder, started: Callable[[int], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT: what is in service is answered, what comes is refused.

    SIGHUP, or a newer ``CURRENT`` in the index folder, opens the index anew between two batches.

    Args:
        service: what, where and how.
        pipeline: what searches at first; closed at the end, or when another takes its place.
        ladder: measured levels and the SLO.
        started: called with the port when requests are taken.

    Raises:
        ConfigError: if other machines would be served without a token, or no level is fast enough for the SLO.
    """
    check_address(service)
    torch.set_num_interop_threads(1)
    sys.setswitchinterval(SWITCH_S)
    if pipeline.parts.lucene is not None:
        archive_classes(pipeline.parts.lucene.folder)
    metrics = Metrics(ladder)
    engine = Engine(pipeline, ladder, service.mode, metrics)
    if engine.least_s > ladder.slo_s:
        raise ConfigError(
            f"no level answers within {1000 * ladder.slo_s:.3g} ms on this machine; wanted an SLO of at least "
            f"{1000 * engine.least_s:.0f} ms (--slo-ms)"
        )
    engine.start(WARM_UP)
    gc.collect()
    gc.freeze()  # what is there now stays: to look through it for garbage every few seconds takes longer than a search
    lag = Lag()

    def behind() -> bool:
        """Whether requests come faster than they can be read, or than they can be read to be refused."""
        late = lag.seconds / ladder.slo_s
        return late > BEHIND or (late > SOON_BEHIND and engine.turns_away() is not None)

    one_core = cores() <= torch.get_num_threads()
    app = create_app(engine, metrics, service.token, service.log_queries, one_core=one_core, lag=lag)

    class Protocol(GuardedProtocol):
        """The connections of this service."""

        refuses = staticmethod(behind)
        turns_away = staticmethod(engine.announce)
        authorised = staticmethod(lambda given: authorised(given, service.token))
        refused = staticmethod(metrics.refused_unread)

    Protocol.lag = lag
    config = uvicorn.Config(
        app, host=service.host, port=service.port, http=Protocol, ws="none", access_log=False, log_level="warning",
        timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=max(1, round(2 * ladder.slo_s)), server_header=False,
    )  # fmt: skip
    Protocol.proxies = ProxyHeadersMiddleware(cast(Any, app), config.forwarded_allow_ips).trusted_hosts
    server = _Server(config)
    server.engine = engine
    ended, again = threading.Event(), threading.Event()
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda *_: None)  # uvicorn stops on them, and then raises them again: the end is no failure
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda *_: again.set())
    watcher = threading.Thread(target=_watch, args=(engine, service.reopen, again, ended), daemon=True)
    watcher.start()
    if started is not None:
        threading.Thread(target=_when_started, args=(server, started), daemon=True).start()
    try:
        server.run()
    finally:
        ended.set()
        watcher.join(LOADING_S)
        engine.close()


def check_address(service: Service) -> None:
    """Refuse to serve other machines without a token, or where nobody can listen.

    Raises:
        ConfigError: saying what to set. BackendError: if the address is taken.
    """
    if service.token is not None and not service.token.strip():
        raise ConfigError("the token is empty; set one of at least one character, or none")
    check_token(service.token)
    if service.token is None and not is_loopback(service.host):
        raise ConfigError(
            f"{service.host} is open to other machines; set a token in the environment variable ELASTIC_IR_TOKEN, or "
            "listen on 127.0.0.1"
        )
    try:
        family = socket.AF_INET6 if ":" in service.host else socket.AF_INET
        socket.create_server((service.host, service.port), family=family).close()
    except OSError as exc:
        raise BackendError(
            f"cannot listen on {service.host}:{service.port} ({exc.strerror or exc}); --port 0 takes a free one"
        ) from exc


class _Server(uvicorn.Server):
    """Tells ``engine`` first when the service ends."""

    engine: Engine

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more, and answer what waits."""
        self.engine.refuse()
        await super().shutdown(sockets)


def _when_started(server: uvicorn.Server, started: Callable[[int], None]) -> None:
    while not server.started and not server.should_exit:
        time.sleep(0.01)
    if server.started:
        started(server.servers[0].sockets[0].getsockname()[1])


def _watch(engine: Engine, reopen: Callable[[], Pipeline], again: threading.Event, ended: threading.Event) -> None:
    """Swap the pipeline when told to, or when the index has a newer generation."""
    failed = 0
    while not ended.wait(WATCH_S):
        newest = _newest(engine.pipeline.index_path)
        if not again.is_set() and newest in (engine.pipeline.generation, failed):
            continue
        again.clear()
        try:
            engine.swap(able(reopen(), engine))
        except Exception as exc:  # also where memory does not suffice for two: the one before goes on
            failed = newest
            logger.warning(
                "generation %d cannot be opened, %d goes on: %s", newest, engine.pipeline.generation, described(exc)
            )
            continue
        logger.info("generation %d answers from now on", engine.pipeline.generation)
        gc.unfreeze()
        gc.collect()
        gc.freeze()


def able(pipeline: Pipeline, engine: Engine) -> Pipeline:
    """``pipeline``, once all of it is there that the one before has, and what would start with the first search.

    Raises:
        BackendError: if one of its models could not be read. SubnetError: if it cannot run a level of the ladder.
    """
    try:
        if lost := sorted(set(engine.pipeline.models) - set(pipeline.models)):
            raise BackendError(f"its {lost[0]} cannot be had")
        pipeline.warm_up(*(rung.level for rung in engine.ladder.rungs))
    except BaseException:
        pipeline.close()
        raise
    return pipeline


def _newest(index: Path) -> int:
    """Number of the generation that ``CURRENT`` names; 0 where it cannot be read."""
    try:
        return int(read_current(index).name.rpartition("-")[2])
    except (ElasticIRError, OSError):
        return 0
