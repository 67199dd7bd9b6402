"""Owns the metrics of a gateway, and their label values. Names are `splitmesh_gateway_<noun>_<unit>`."""

from __future__ import annotations

from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from splitmesh.telemetry.metrics import LATENCY_BUCKETS_S, BoundedNames
from splitmesh.telemetry.process import spans_dropped

_MOST_TENANTS = 64


class DoorName(StrEnum):
    """By which way a request came."""

    GRPC = "grpc"
    WEB = "web"


class GatewayMetrics:
    """What a gateway exposes. One per registry; methods are called on the event loop."""

    def __init__(self, registry: CollectorRegistry) -> None:
        r = registry
        self._tenants = BoundedNames(_MOST_TENANTS)
        self._reasons = BoundedNames(64)
        self.frames_total = Counter(
            "splitmesh_gateway_frames", "Frames answered or refused, by outcome", ["tenant", "outcome"], registry=r
        )
        self.frame_seconds = Histogram(
            "splitmesh_gateway_frame_seconds", "Arrival to answer", buckets=LATENCY_BUCKETS_S, registry=r
        )
        self.in_flight_frames = Gauge("splitmesh_gateway_in_flight_frames", "Frames under way", registry=r)
        self.calls_total = Counter(
            "splitmesh_gateway_calls", "gRPC calls that ended, by status", ["method", "code"], registry=r
        )
        self.refusals_total = Counter(
            "splitmesh_gateway_refusals", "Requests turned away at a door", ["door", "reason"], registry=r
        )
        self.missed_events_total = Counter(
            "splitmesh_gateway_missed_events", "Events that slow readers of a watch missed", registry=r
        )
        self.reconnects_total = Counter("splitmesh_reconnects", "Connections made again", ["what"], registry=r)
        self.spans_dropped = spans_dropped(r)

    def frame(self, *, tenant: str, outcome: str, seconds: float) -> None:
        """outcome: "answered", or the name of a frame's error in lower case. The time counts of answers alone."""
        self.frames_total.labels(self._tenants(tenant), outcome).inc()
        if outcome == "answered":
            self.frame_seconds.observe(seconds)

    def call(self, method: str, code: str) -> None:
        self.calls_total.labels(method, code).inc()

    def refused(self, door: DoorName, reason: str) -> None:
        self.refusals_total.labels(door.value, self._reasons(reason)).inc()
