"""What the service measures of itself, for Prometheus."""

from __future__ import annotations

import math
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from elastic_ir.level import Level
from elastic_ir.schedule import Ladder
from elastic_ir.serve.observer import Observer
from elastic_ir.version import __version__

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0)


class Metrics(Observer):
    """Counters and histograms of one service."""

    def __init__(self, ladder: Ladder) -> None:
        self._qualities = {rung.level: rung.quality if ladder.judged else math.nan for rung in ladder.rungs}
        self.registry = CollectorRegistry()
        r = self.registry
        Gauge("elastic_ir_build_info", "Version.", ["version"], registry=r).labels(__version__).set(1)
        self.requests = Counter("elastic_ir_requests", "Requests by path and status.", ["path", "status"], registry=r)
        self.durations = Histogram(
            "elastic_ir_request_duration_seconds", "Time of what was answered.", ["path"], buckets=SECONDS, registry=r
        )
        self._stages = Histogram(
            "elastic_ir_stage_duration_seconds", "Share of a query.", ["stage"], buckets=SECONDS, registry=r
        )
        self._batches = Histogram(
            "elastic_ir_batch_requests", "Requests served together.", buckets=(1, 2, 4, 8, 16, 32), registry=r
        )
        self._waits = Histogram("elastic_ir_queue_wait_seconds", "Time in the queue.", buckets=SECONDS, registry=r)
        self.queue_depth = Gauge("elastic_ir_queue_depth", "Requests in the queue.", registry=r)
        self.in_flight = Gauge(
            "elastic_ir_in_flight", "Requests being answered, those in the queue included.", registry=r
        )
        self.http = Gauge(
            "elastic_ir_http_request_seconds", "Processor time that HTTP takes for a request, lately.", registry=r
        )
        self._level = Gauge("elastic_ir_level", "1 for the level of the last batch.", ["level"], registry=r)
        self._answered = Counter("elastic_ir_answered", "Requests by the level that answered.", ["level"], registry=r)
        self._wanted = Counter(
            "elastic_ir_wanted_level", "Batches by the level that the policy wanted.", ["level"], registry=r
        )
        self.degraded = Counter("elastic_ir_degraded", "Answers that were less than asked for.", ["reason"], registry=r)
        self._dropped = Counter("elastic_ir_shed", "Requests refused or dropped unanswered.", ["reason"], registry=r)
        self._quality = Gauge(
            "elastic_ir_expected_quality", "nDCG@10 of the last batch's level, by the ladder; NaN: unknown.", registry=r
        )
        for level in self._qualities:
            self._level.labels(str(level)).set(0)
        for reason in ("overload", "share", "deadline", "abandoned", "unfinished"):
            self._dropped.labels(reason)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)

    def batch(self, levels: Mapping[Level, int], stage_ms: Mapping[str, float]) -> None:
        """A batch was answered, so many of it at each level."""
        self._batches.observe(sum(levels.values()))
        for level, count in levels.items():
            self._answered.labels(self._name(level)).inc(count)
        level = max(levels, key=lambda one: levels[one])
        for name, ms in stage_ms.items():
            self._stages.labels(name).observe(ms / 1000)
        for known in self._qualities:
            self._level.labels(str(known)).set(known == level)
        if level in self._qualities:
            self._quality.set(self._qualities[level])

    def waited(self, seconds: float) -> None:
        """A request waited so long for its batch."""
        self._waits.observe(seconds)

    def chosen(self, wanted: Level, acting: Level) -> None:
        """The policy wanted a level."""
        self._wanted.labels(self._name(wanted)).inc()

    def dropped(self, reason: str) -> None:
        """A request was refused or left the queue unanswered."""
        self._dropped.labels(reason).inc()

    def refused_unread(self, why: str) -> None:
        """A request was not taken up: ``behind``, ``overload`` or ``share``."""
        self.requests.labels("unread", 429 if why == "share" else 503).inc()
        self.dropped("share" if why == "share" else "overload")

    def _name(self, level: Level) -> str:
        """Levels off the ladder, which clients may name at will, share a label."""
        return str(level) if level in self._qualities else "other"
