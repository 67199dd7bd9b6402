"""Owns every metric that splitmesh exposes, and their label values. Names are `splitmesh_<noun>_<unit>`.

Label values are enums, or names that pass through a `BoundedNames`, so that no input can grow the number of series.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.policy.breaker import BreakerState
from splitmesh.policy.point import Place

LATENCY_BUCKETS_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 2.0)
STAGE_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


class Side(StrEnum):
    """Whose speed a γ describes."""

    EDGE = "edge"
    CLOUD = "cloud"


class Reconnected(StrEnum):
    """What came back."""

    SOURCE = "source"
    BROKER = "broker"


class PoolEvent(StrEnum):
    """Where a request of an edge went, and what became of the workers that it could go to."""

    CHOSEN = "chosen"
    """To the worker that was expected to answer soonest."""
    QUEUE_GROUP = "queue-group"
    """To whichever worker the broker picks: none was known, or the chosen one had gone."""
    HOME = "home"
    """To the worker that has its stream open."""
    HEDGED = "hedged"
    """A second time, to another worker."""
    HEDGE_WON = "hedge-won"
    EJECTED = "ejected"


class RequestOutcome(StrEnum):
    ANSWERED = "answered"
    NACKED = "nacked"
    CANCELLED = "cancelled"


class BoundedNames:
    """Passes the first `limit` distinct names; later ones become "other". Thread-safe."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, name: str) -> str:
        if name in self._seen:
            return name
        with self._lock:
            if len(self._seen) >= self._limit:
                return "other"
            self._seen.add(name)
            return name


def _process_tasks(registry: CollectorRegistry) -> None:
    """Count the tasks of the loop that this is called in, whenever somebody looks; 0 outside of one."""
    tasks = Gauge("splitmesh_process_tasks", "asyncio tasks that have not ended", registry=registry)
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    tasks.set_function(lambda: len(asyncio.all_tasks(loop)))


class EdgeMetrics:
    """What an edge exposes. Methods may be called from any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        r = registry
        self._points = BoundedNames(64)
        self.captured_total = Counter("splitmesh_captured_frames", "Frames taken from the source", registry=r)
        self.frames_total = Counter("splitmesh_frames", "Frames settled, by outcome", ["outcome"], registry=r)
        self.deadline_hits_total = Counter("splitmesh_deadline_hits", "Frames answered in time", registry=r)
        self.deadline_misses_total = Counter("splitmesh_deadline_misses", "Frames late, shed or expired", registry=r)
        self.frame_latency_seconds = Histogram(
            "splitmesh_frame_latency_seconds",
            "Capture to result, by where the frame was answered",
            ["place"],
            buckets=LATENCY_BUCKETS_S,
            registry=r,
        )
        self.decisions_total = Counter(
            "splitmesh_decisions", "Decisions, by place and operating point", ["place", "point"], registry=r
        )
        self.uplink_bytes_total = Counter("splitmesh_uplink_bytes", "Payload bytes handed to the bus", registry=r)
        self.link_bandwidth_bps = Gauge("splitmesh_link_bandwidth_bps", "Estimated uplink, bit/s", registry=r)
        self.link_base_seconds = Gauge("splitmesh_link_base_seconds", "Delay of an empty message", registry=r)
        self.uplink_backlog_bytes = Gauge("splitmesh_uplink_backlog_bytes", "Bytes not acknowledged", registry=r)
        self.breaker_state = Gauge("splitmesh_breaker_state", "1 for the breaker's state", ["state"], registry=r)
        self.gamma_ratio = Gauge("splitmesh_gamma_ratio", "Measured over profiled model time", ["side"], registry=r)
        self.pool_events_total = Counter(
            "splitmesh_pool_events",
            "Requests by how their worker was chosen, second requests, workers ejected",
            ["event"],
            registry=r,
        )
        self._pool_events: dict[PoolEvent, int] = dict.fromkeys(PoolEvent, 0)
        self.decode_errors_total = Counter("splitmesh_decode_errors", "Pictures not decodable", registry=r)
        self.reconnects_total = Counter("splitmesh_reconnects", "Connections made again", ["what"], registry=r)
        self.ring_dropped_frames_total = Counter(
            "splitmesh_ring_dropped_frames", "Frames dropped because the capture ring was full", registry=r
        )
        self.in_flight_frames = Gauge("splitmesh_in_flight_frames", "Frames captured and not settled", registry=r)
        _process_tasks(r)
        self.spans_dropped = Gauge("splitmesh_spans_dropped_spans", "Spans lost to a full or slow disk", registry=r)
        for outcome in Outcome:
            self.frames_total.labels(outcome.value)
        for event in PoolEvent:
            self.pool_events_total.labels(event.value)
        self.breaker(BreakerState.CLOSED)

    def settled(self, record: FrameRecord) -> None:
        """Count a settled frame: outcome, deadline, latency (with its trace as exemplar) and uplink bytes."""
        self.frames_total.labels(record.outcome.value).inc()
        (self.deadline_hits_total if record.deadline_hit else self.deadline_misses_total).inc()
        if record.latency_ms is not None:
            exemplar = {"trace_id": record.trace_id} if record.trace_id else None
            place = _PLACE_OF_OUTCOME[record.outcome].value
            self.frame_latency_seconds.labels(place).observe(record.latency_ms / 1e3, exemplar)
        if record.uplink_bytes:
            self.uplink_bytes_total.inc(record.uplink_bytes)

    def decided(self, place: Place, point: str) -> None:
        self.decisions_total.labels(place.value, self._points(point)).inc()

    def link(self, *, bandwidth_bps: float, base_s: float, backlog_bytes: float) -> None:
        self.link_bandwidth_bps.set(bandwidth_bps)
        self.link_base_seconds.set(base_s)
        self.uplink_backlog_bytes.set(backlog_bytes)

    def breaker(self, state: BreakerState) -> None:
        for each in BreakerState:
            self.breaker_state.labels(each.value).set(1 if each is state else 0)

    def pool(self, counts: Mapping[PoolEvent, int]) -> None:
        """`counts`: of the whole run; to be called from one thread."""
        for event in PoolEvent:
            self.pool_events_total.labels(event.value).inc(counts.get(event, 0) - self._pool_events[event])
            self._pool_events[event] = counts.get(event, 0)

    def gamma(self, side: Side, ratio: float) -> None:
        self.gamma_ratio.labels(side.value).set(ratio)

    def reconnected(self, what: Reconnected) -> None:
        self.reconnects_total.labels(what.value).inc()


class CloudMetrics:
    """What a worker exposes. Methods may be called from any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        r = registry
        self._models = BoundedNames(16)
        self._cuts = BoundedNames(64)
        self._codes = BoundedNames(16)
        self.requests_total = Counter(
            "splitmesh_requests", "Requests taken, by how they ended", ["model", "cut", "outcome"], registry=r
        )
        self.nacks_total = Counter("splitmesh_nacks", "Refusals, by code", ["code"], registry=r)
        self.queue_seconds = Histogram(
            "splitmesh_queue_seconds", "Arrival to start of service", buckets=STAGE_BUCKETS_S, registry=r
        )
        self.decode_seconds = Histogram(
            "splitmesh_decode_seconds", "Time to decode a payload", buckets=STAGE_BUCKETS_S, registry=r
        )
        self.service_seconds = Histogram(
            "splitmesh_service_seconds", "Model time", ["model", "cut"], buckets=STAGE_BUCKETS_S, registry=r
        )
        self.queue_depth_requests = Gauge("splitmesh_queue_depth_requests", "Requests waiting", registry=r)
        self.predicted_wait_seconds = Gauge(
            "splitmesh_predicted_wait_seconds", "Predicted wait of a request that arrives now", registry=r
        )
        _process_tasks(r)
        self.heartbeats_total = Counter("splitmesh_heartbeats", "Heartbeats published", registry=r)
        self.reconnects_total = Counter("splitmesh_reconnects", "Connections made again", ["what"], registry=r)

    def answered(
        self, *, model: str, cut: str, queue_s: float, decode_s: float, service_s: float, trace_id: str | None = None
    ) -> None:
        """Count an answered request. `cut` "" means the whole model."""
        exemplar = {"trace_id": trace_id} if trace_id else None
        labels = (self._models(model), self._cuts(cut or "whole"))
        self.requests_total.labels(*labels, RequestOutcome.ANSWERED.value).inc()
        self.queue_seconds.observe(queue_s, exemplar)
        self.decode_seconds.observe(decode_s, exemplar)
        self.service_seconds.labels(*labels).observe(service_s, exemplar)

    def nacked(self, *, model: str, cut: str, code: str) -> None:
        """Count a refusal; `code` is a NackCode's name or value ("overloaded")."""
        self.requests_total.labels(self._models(model), self._cuts(cut or "whole"), RequestOutcome.NACKED.value).inc()
        self.nacks_total.labels(self._codes(code)).inc()

    def cancelled(self, *, model: str, cut: str) -> None:
        """Count a request that the edge cancelled and that gets no reply."""
        self.requests_total.labels(
            self._models(model), self._cuts(cut or "whole"), RequestOutcome.CANCELLED.value
        ).inc()

    def load(self, *, queue_depth: int, predicted_wait_s: float) -> None:
        self.queue_depth_requests.set(queue_depth)
        self.predicted_wait_seconds.set(predicted_wait_s)

    def reconnected(self, what: Reconnected) -> None:
        self.reconnects_total.labels(what.value).inc()


class Metrics:
    """The one place to get metrics: `.edge` or `.cloud` registers its family on first use.

    One process is one role; both on one registry raise ValueError (they share `splitmesh_reconnects`).
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()

    @cached_property
    def edge(self) -> EdgeMetrics:
        return EdgeMetrics(self.registry)

    @cached_property
    def cloud(self) -> CloudMetrics:
        return CloudMetrics(self.registry)


_PLACE_OF_OUTCOME = {
    Outcome.LOCAL: Place.LOCAL,
    Outcome.SPLIT: Place.SPLIT,
    Outcome.FRAME: Place.FRAME,
    Outcome.RESUMED: Place.SPLIT,
    Outcome.TRACKED: Place.TRACK,
    Outcome.SHED: Place.TRACK,
    Outcome.EXPIRED: Place.TRACK,
}
