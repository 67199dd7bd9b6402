"""Owns what is known of each tenant's edges and workers: who is there, how they fare, and what happened.

Reports and heartbeats go in with `now_ns`, states and events come out. Holds no clock and no connection. Tenants
don't see, and can't push out, each other's members and events.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from splitmesh.gateway.fleet_roster import Roster
from splitmesh.gateway.fleet_values import EdgeState, EventKind, FleetEvent, Health, Rates, WorkerState
from splitmesh.wire.control import EdgeReport
from splitmesh.wire.messages import Heartbeat

EDGE_GONE_MS = 3_500.0
"""Three reports in a row are missing."""
EDGE_LATE_MS = 1_800.0
WORKER_GONE_MS = 1_000.0
"""Five heartbeats in a row are missing."""
WORKER_LATE_MS = 500.0
LONG_WAIT_MS = 100.0
"""Predicted by a worker; half of a usual deadline."""
LOW_HIT_RATE = 0.85
GOOD_HIT_RATE = 0.95
"""Between the two it neither fell nor recovered."""
_FORGET_MS = 600_000.0
_ALONE = frozenset({"local-only", "track"})
"""Policies whose breaker says nothing: they use no cloud."""


@dataclass(slots=True)
class _Edge:
    report: EdgeReport
    heard_ns: int
    joined_ns: int
    rates: Rates = field(default_factory=Rates)
    earlier_run: str = ""
    missed_reports: int = 0
    low: bool = False
    """The hit rate fell and has not recovered."""


@dataclass(slots=True)
class _Worker:
    heartbeat: Heartbeat
    heard_ns: int
    joined_ns: int


class _Tenant:
    def __init__(self, max_edges: int, max_workers: int, max_events: int) -> None:
        self.edges: Roster[_Edge] = Roster(max_edges)
        self.workers: Roster[_Worker] = Roster(max_workers)
        self.events: deque[FleetEvent] = deque(maxlen=max_events)


class Fleet:
    """All bounds but `max_tenants` are per tenant. A tenant once seen stays: tenants are those of the gateway's own
    settings, not whoever sends."""

    def __init__(
        self, *, max_edges: int = 10_000, max_workers: int = 1_000, max_events: int = 500, max_tenants: int = 256
    ) -> None:
        self._bounds = (max_edges, max_workers, max_events)
        self._max_tenants = max_tenants
        self._tenants: dict[str, _Tenant] = {}
        self._number = 0
        self.turned_away = 0
        """Messages of newcomers for whom there was no room."""

    # -- what was heard -------------------------------------------------------------------------------------------

    def on_report(self, tenant: str, report: EdgeReport, now_ns: int) -> None:
        """`report` must have been checked (`wire.control.report_from`), and is kept: don't change it afterwards."""
        found = self._tenant(tenant)
        if found is None:
            return
        name = report.edge_id
        edge = found.edges.get(name)
        if edge is None:
            if not found.edges.admit(name, _Edge(report, now_ns, now_ns)):
                self.turned_away += 1
                return
            detail = f"{report.model} by {report.policy}, deadline {report.deadline_ms:.0f} ms"
            self._tell(found, now_ns, EventKind.EDGE_JOINED, name, detail)
        elif _is_old(edge, report):
            return
        else:
            if report.run_id != edge.report.run_id:
                self._tell(found, now_ns, EventKind.EDGE_RESTARTED, name, f"run {report.run_id}")
            elif found.edges.is_gone(name):
                detail = f"after {(now_ns - edge.heard_ns) / 1e9:.1f} s"
                self._tell(found, now_ns, EventKind.EDGE_BACK, name, detail)
            found.edges.heard(name, now_ns)
            self._compare(found, edge, report, now_ns)
            _follow(edge, report)
        if report.finished:
            found.edges.leave(name)
            self._tell(found, now_ns, EventKind.EDGE_FINISHED, name, f"{report.captured} frames")

    def on_heartbeat(self, tenant: str, heartbeat: Heartbeat, now_ns: int) -> None:
        found = self._tenant(tenant)
        if found is None:
            return
        name = heartbeat.worker_id
        worker = found.workers.get(name)
        if worker is None:
            if not found.workers.admit(name, _Worker(heartbeat, now_ns, now_ns)):
                self.turned_away += 1
                return
            models = ", ".join(hosted.model for hosted in heartbeat.models)
            self._tell(found, now_ns, EventKind.WORKER_JOINED, name, f"serves {models or 'nothing'}")
            return
        before = worker.heartbeat
        if heartbeat.seq < before.seq:
            worker.joined_ns = now_ns
            self._tell(found, now_ns, EventKind.WORKER_RESTARTED, name, "")
        elif found.workers.is_gone(name):
            detail = f"after {(now_ns - worker.heard_ns) / 1e9:.1f} s"
            self._tell(found, now_ns, EventKind.WORKER_BACK, name, detail)
        if heartbeat.draining and not before.draining:
            detail = f"{heartbeat.queue_depth} requests wait there"
            self._tell(found, now_ns, EventKind.WORKER_DRAINING, name, detail)
        found.workers.heard(name, now_ns)
        worker.heartbeat = heartbeat

    def advance(self, now_ns: int) -> None:
        """Time has passed: who has been silent for too long is gone. To be called a few times a second."""
        for found in self._tenants.values():
            for name, _ in found.edges.lose(now_ns - _ns(EDGE_GONE_MS)):
                self._tell(found, now_ns, EventKind.EDGE_GONE, name, f"silent for {EDGE_GONE_MS / 1e3:g} s")
            for name, worker in found.workers.lose(now_ns - _ns(WORKER_GONE_MS)):
                why = "drained" if worker.heartbeat.draining else f"silent for {WORKER_GONE_MS / 1e3:g} s"
                self._tell(found, now_ns, EventKind.WORKER_GONE, name, why)
            found.edges.forget(now_ns - _ns(_FORGET_MS))
            found.workers.forget(now_ns - _ns(_FORGET_MS))

    # -- what is known --------------------------------------------------------------------------------------------

    def edges(self, tenant: str, now_ns: int) -> list[EdgeState]:
        """By name. Who went is among them for ten minutes."""
        found = self._tenants.get(tenant)
        return [] if found is None else [_edge_state(found, *item, now_ns) for item in found.edges.items()]

    def edge(self, tenant: str, edge_id: str, now_ns: int) -> EdgeState | None:
        found = self._tenants.get(tenant)
        edge = None if found is None else found.edges.get(edge_id)
        return None if found is None or edge is None else _edge_state(found, edge_id, edge, now_ns)

    def workers(self, tenant: str, now_ns: int) -> list[WorkerState]:
        """By name. Who went is among them for ten minutes."""
        found = self._tenants.get(tenant)
        return [] if found is None else [_worker_state(found, *item, now_ns) for item in found.workers.items()]

    def events(self, tenant: str, *, after: int = 0, limit: int = 500) -> list[FleetEvent]:
        """The newest `limit` of those that are still known and have a number beyond `after`, oldest first."""
        found = self._tenants.get(tenant)
        later = [] if found is None else [event for event in found.events if event.number > after]
        return later[-limit:] if limit > 0 else []

    # -- what happened --------------------------------------------------------------------------------------------

    def _tenant(self, tenant: str) -> _Tenant | None:
        found = self._tenants.get(tenant)
        if found is None:
            if len(self._tenants) >= self._max_tenants:
                self.turned_away += 1
                return None
            found = self._tenants[tenant] = _Tenant(*self._bounds)
        return found

    def _compare(self, found: _Tenant, edge: _Edge, report: EdgeReport, now_ns: int) -> None:
        if report.run_id != edge.report.run_id:
            edge.low = False
            return
        for kind, detail in _differences(edge.report, report):
            self._tell(found, now_ns, kind, report.edge_id, detail)
        if not report.decisions_5s:
            return
        share = f"{report.hit_rate_5s:.0%} in time"
        if not edge.low and report.hit_rate_5s < LOW_HIT_RATE:
            edge.low = True
            self._tell(found, now_ns, EventKind.HIT_RATE_FELL, report.edge_id, share)
        elif edge.low and report.hit_rate_5s >= GOOD_HIT_RATE:
            edge.low = False
            self._tell(found, now_ns, EventKind.HIT_RATE_RECOVERED, report.edge_id, share)

    def _tell(self, found: _Tenant, now_ns: int, kind: EventKind, member: str, detail: str) -> None:
        self._number += 1
        found.events.append(FleetEvent(self._number, now_ns, kind, member, detail))


def _is_old(edge: _Edge, report: EdgeReport) -> bool:
    """It came late: of a run that another has followed, or of a moment that another report has followed. Two edges
    of one name are told apart so as well: the later one is believed."""
    if report.run_id != edge.report.run_id:
        return report.run_id == edge.earlier_run
    return report.seq <= edge.report.seq


def _follow(edge: _Edge, report: EdgeReport) -> None:
    before = edge.report
    edge.report = report
    if report.run_id != before.run_id:
        edge.earlier_run, edge.missed_reports, edge.rates = before.run_id, 0, Rates()
        return
    edge.missed_reports += report.seq - before.seq - 1
    over_s = report.run_s - before.run_s
    if over_s > 0:
        settled = {kind: max(0, n - before.settled.get(kind, 0)) / over_s for kind, n in report.settled.items()}
        captured = max(0, report.captured - before.captured) / over_s
        edge.rates = Rates(over_s, captured, settled, 8 * max(0, report.uplink_bytes - before.uplink_bytes) / over_s)


def _differences(before: EdgeReport, after: EdgeReport) -> Iterator[tuple[EventKind, str]]:
    """Of two reports of one run."""
    if before.breaker != after.breaker and after.breaker in ("open", "closed"):
        yield (EventKind.BREAKER_OPENED if after.breaker == "open" else EventKind.BREAKER_CLOSED), ""
    changes = []
    if before.policy != after.policy:
        changes.append(f"{before.policy} to {after.policy}")
    if before.deadline_ms != after.deadline_ms:
        changes.append(f"deadline {before.deadline_ms:.0f} to {after.deadline_ms:.0f} ms")
    if before.uplink_budget_bps != after.uplink_budget_bps:
        changes.append(f"uplink budget {_budget(before)} to {_budget(after)}")
    if changes:
        yield EventKind.POLICY_CHANGED, ", ".join(changes)


def _budget(report: EdgeReport) -> str:
    return f"{report.uplink_budget_bps / 1e3:.0f} kbit/s" if report.uplink_budget_bps else "none"


def _edge_state(found: _Tenant, name: str, edge: _Edge, now_ns: int) -> EdgeState:
    silent_ms = (now_ns - edge.heard_ns) / 1e6
    report = edge.report
    health, why = Health.DEGRADED, ""
    if report.finished:
        health, why = Health.GONE, "finished"
    elif found.edges.is_gone(name) or silent_ms > EDGE_GONE_MS:
        health, why = Health.GONE, f"silent for {silent_ms / 1e3:.0f} s"
    elif silent_ms > EDGE_LATE_MS:
        why = f"silent for {silent_ms / 1e3:.1f} s"
    elif report.breaker not in ("", "closed") and report.policy not in _ALONE:
        why = f"breaker {report.breaker}"
    elif edge.low:
        why = f"{report.hit_rate_5s:.0%} in time over the last 5 s"
    else:
        health = Health.ALIVE
    return EdgeState(name, health, why, silent_ms, edge.joined_ns, report, edge.rates, edge.missed_reports)


def _worker_state(found: _Tenant, name: str, worker: _Worker, now_ns: int) -> WorkerState:
    silent_ms = (now_ns - worker.heard_ns) / 1e6
    heartbeat = worker.heartbeat
    wait_ms = heartbeat.predicted_wait_us / 1e3
    health, why = Health.DEGRADED, ""
    if found.workers.is_gone(name) or silent_ms > WORKER_GONE_MS:
        health, why = Health.GONE, "drained" if heartbeat.draining else f"silent for {silent_ms / 1e3:.1f} s"
    elif heartbeat.draining:
        why = "draining"
    elif silent_ms > WORKER_LATE_MS:
        why = f"silent for {silent_ms:.0f} ms"
    elif wait_ms > LONG_WAIT_MS:
        why = f"a request would wait {wait_ms:.0f} ms"
    else:
        health = Health.ALIVE
    return WorkerState(name, health, why, silent_ms, worker.joined_ns, heartbeat)


def _ns(ms: float) -> int:
    return round(ms * 1e6)
