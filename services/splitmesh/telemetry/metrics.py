"""Owns the metrics of edges and workers. Names are `splitmesh_<noun>_<unit>`.

Label values are those of `telemetry.labels`, so that no input can grow the number of series.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.policy.breaker import BreakerState
from splitmesh.policy.point import Place
from splitmesh.telemetry.labels import (
    Asked,
    BoundedNames,
    PoolEvent,
    Reconnected,
    RequestOutcome,
    Side,
    TenantOutcome,
    Told,
)
from splitmesh.telemetry.process import process_tasks, spans_dropped

__all__ = [
    "LATENCY_BUCKETS_S",
    "STAGE_BUCKETS_S",
    "Asked",
    "BoundedNames",
    "CloudMetrics",
    "EdgeMetrics",
    "Metrics",
    "PoolEvent",
    "Reconnected",
    "RequestOutcome",
    "Side",
    "TenantOutcome",
    "Told",
]

LATENCY_BUCKETS_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 2.0)
STAGE_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


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
        self.power_watts = Gauge("splitmesh_power_watts", "Predicted average power, by the power model", registry=r)
        self._families = BoundedNames(32)
        self.audits_total = Counter("splitmesh_audits", "Answers held against the whole model's", registry=r)
        self._audits = 0
        self.error_ratio = Gauge(
            "splitmesh_error_ratio", "Error found in audits over the plan's", ["points", "content"], registry=r
        )
        self.pool_events_total = Counter(
            "splitmesh_pool_events",
            "Requests by how their worker was chosen, second requests, workers ejected",
            ["event"],
            registry=r,
        )
        self._pool_events: dict[PoolEvent, int] = dict.fromkeys(PoolEvent, 0)
        self.told_bytes_total = Counter(
            "splitmesh_told_bytes", "Payloads that belong to no frame, by what they are", ["what"], registry=r
        )
        self.commands_total = Counter(
            "splitmesh_commands", "Commands to this edge, by what became of them", ["result"], registry=r
        )
        self.decode_errors_total = Counter("splitmesh_decode_errors", "Pictures not decodable", registry=r)
        self.reconnects_total = Counter("splitmesh_reconnects", "Connections made again", ["what"], registry=r)
        self.ring_dropped_frames_total = Counter(
            "splitmesh_ring_dropped_frames", "Frames dropped because the capture ring was full", registry=r
        )
        self.in_flight_frames = Gauge("splitmesh_in_flight_frames", "Frames captured and not settled", registry=r)
        process_tasks(r)
        self.spans_dropped = spans_dropped(r)
        for outcome in Outcome:
            self.frames_total.labels(outcome.value)
        for event in PoolEvent:
            self.pool_events_total.labels(event.value)
        for what in Told:
            self.told_bytes_total.labels(what.value)
        for result in Asked:
            self.commands_total.labels(result.value)
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

    def audited(self, audits: int, ratios: Mapping[str, Mapping[str, float]]) -> None:
        """audits: of the whole run. ratios: as `policy.fidelity.ContentFidelity.ratios`."""
        self.audits_total.inc(audits - self._audits)
        self._audits = audits
        for points, contents in ratios.items():
            for content, ratio in contents.items():
                self.error_ratio.labels(self._families(points), content).set(ratio)

    def pool(self, counts: Mapping[PoolEvent, int]) -> None:
        """`counts`: of the whole run; to be called from one thread."""
        for event in PoolEvent:
            self.pool_events_total.labels(event.value).inc(counts.get(event, 0) - self._pool_events[event])
            self._pool_events[event] = counts.get(event, 0)

    def told(self, what: Told, size_bytes: int) -> None:
        self.told_bytes_total.labels(what.value).inc(size_bytes)

    def asked(self, result: Asked) -> None:
        self.commands_total.labels(result.value).inc()

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
        self._tenants = BoundedNames(64)
        self.tenant_requests_total = Counter(
            "splitmesh_tenant_requests", "Requests of a tenant, by how they ended", ["tenant", "outcome"], registry=r
        )
        self.tenant_compute_seconds_total = Counter(
            "splitmesh_tenant_compute_seconds", "Time of slots that served a tenant", ["tenant"], registry=r
        )
        self.tenant_predicted_wait_seconds = Gauge(
            "splitmesh_tenant_predicted_wait_seconds",
            "Predicted wait of a tenant's next request, for its turn and its quotas",
            ["tenant"],
            registry=r,
        )
        self._told: dict[str, tuple[dict[TenantOutcome, int], float]] = {}
        self._answered: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        process_tasks(r)
        self.spans_dropped = spans_dropped(r)
        self.span_requests_total = Counter(
            "splitmesh_span_requests", "Questions for a frame's spans, by what became of them", ["result"], registry=r
        )
        self.heartbeats_total = Counter("splitmesh_heartbeats", "Heartbeats published", registry=r)
        self.reconnects_total = Counter("splitmesh_reconnects", "Connections made again", ["what"], registry=r)

    def answered(
        self, *, model: str, cut: str, queue_s: float, decode_s: float, service_s: float, trace_id: str | None = None
    ) -> None:
        """Count an answered request. `cut` "" means the whole model."""
        exemplar = {"trace_id": trace_id} if trace_id else None
        labels = (self._models(model), self._cuts(cut or "whole"))
        if labels not in self._answered:  # to look labels up costs more than to count
            requests = self.requests_total.labels(*labels, RequestOutcome.ANSWERED.value)
            self._answered[labels] = requests, self.service_seconds.labels(*labels)
        requests, service = self._answered[labels]
        requests.inc()
        self.queue_seconds.observe(queue_s, exemplar)
        self.decode_seconds.observe(decode_s, exemplar)
        service.observe(service_s, exemplar)

    def nacked(self, *, model: str, cut: str, code: str) -> None:
        """Count a refusal; `code` is a NackCode's name or value ("overloaded")."""
        self.requests_total.labels(self._models(model), self._cuts(cut or "whole"), RequestOutcome.NACKED.value).inc()
        self.nacks_total.labels(self._codes(code)).inc()

    def cancelled(self, *, model: str, cut: str) -> None:
        """Count a request that the edge cancelled and that gets no reply."""
        self.requests_total.labels(
            self._models(model), self._cuts(cut or "whole"), RequestOutcome.CANCELLED.value
        ).inc()

    def spans_asked(self, result: Asked) -> None:
        self.span_requests_total.labels(result.value).inc()

    def tenant(
        self, tenant: str, *, counts: Mapping[TenantOutcome, int], compute_s: float, predicted_wait_s: float
    ) -> None:
        """`counts` of its requests and `compute_s` of slots that served it: of the whole run; from one thread."""
        name = self._tenants(tenant)
        before, before_s = self._told.get(tenant, ({}, 0.0))
        for outcome in TenantOutcome:
            added = counts.get(outcome, 0) - before.get(outcome, 0)
            self.tenant_requests_total.labels(name, outcome.value).inc(added)
        self.tenant_compute_seconds_total.labels(name).inc(compute_s - before_s)
        self.tenant_predicted_wait_seconds.labels(name).set(predicted_wait_s)
        self._told[tenant] = dict(counts), compute_s

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
