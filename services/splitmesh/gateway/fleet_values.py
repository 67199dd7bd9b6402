"""Owns the values that the fleet's state is read as: members with their health, and events. Computes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from splitmesh.wire.control import EdgeReport
from splitmesh.wire.messages import Heartbeat


class Health(StrEnum):
    ALIVE = "alive"
    DEGRADED = "degraded"
    """It is there, and something is not as it should be."""
    GONE = "gone"
    """Nothing was heard of it for too long, or it said that it ends."""


class EventKind(StrEnum):
    EDGE_JOINED = "edge-joined"
    EDGE_RESTARTED = "edge-restarted"
    """The same name with another run."""
    EDGE_FINISHED = "edge-finished"
    EDGE_GONE = "edge-gone"
    EDGE_BACK = "edge-back"
    WORKER_JOINED = "worker-joined"
    WORKER_RESTARTED = "worker-restarted"
    WORKER_DRAINING = "worker-draining"
    WORKER_GONE = "worker-gone"
    WORKER_BACK = "worker-back"
    BREAKER_OPENED = "breaker-opened"
    BREAKER_CLOSED = "breaker-closed"
    POLICY_CHANGED = "policy-changed"
    """Policy, deadline or uplink budget."""
    HIT_RATE_FELL = "hit-rate-fell"
    HIT_RATE_RECOVERED = "hit-rate-recovered"


@dataclass(frozen=True, slots=True)
class FleetEvent:
    number: int
    """Counts the events of all tenants from 1; grows strictly."""
    at_ns: int
    """On the clock of the `now_ns` that the fleet was given."""
    kind: EventKind
    member: str
    """Name of the edge or worker."""
    detail: str
    """For people."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Between the last two reports of an edge, by its own clock. All 0 before the second one."""

    over_s: float = 0.0
    captured_fps: float = 0.0
    settled_fps: Mapping[str, float] = field(default_factory=dict)
    """By outcome."""
    uplink_bps: float = 0.0


@dataclass(frozen=True, slots=True)
class EdgeState:
    """One edge at one moment."""

    edge_id: str
    health: Health
    why: str
    """That it is not alive, for people; "" if it is."""
    silent_ms: float
    """Since its last report."""
    joined_ns: int
    report: EdgeReport
    """The last one; not to be changed."""
    rates: Rates
    missed_reports: int
    """Of this run, by their numbers."""


@dataclass(frozen=True, slots=True)
class WorkerState:
    """One worker at one moment."""

    worker_id: str
    health: Health
    why: str
    """That it is not alive, for people; "" if it is."""
    silent_ms: float
    """Since its last heartbeat."""
    joined_ns: int
    heartbeat: Heartbeat
    """The last one."""
