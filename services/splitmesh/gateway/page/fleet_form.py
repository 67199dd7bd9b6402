"""Owns how much of a fleet one browser sees at once: sums of all, the members that need attention first. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TypeVar

from splitmesh.gateway.fleet import Fleet
from splitmesh.gateway.fleet_values import EdgeState, Health, WorkerState
from splitmesh.gateway.page.forms import Json, edge_form, event_form, worker_form

MAX_EDGES = 60
MAX_WORKERS = 60
MAX_EVENTS = 60
_M = TypeVar("_M", EdgeState, WorkerState)
_URGENCY = {Health.GONE: 0, Health.DEGRADED: 1, Health.ALIVE: 2}


def fleet_form(fleet: Fleet, tenant: str, now_ns: int, wanted: str) -> Json:
    """The members whose name holds `wanted`, by name; if they are too many, those in trouble first.

    Sums are of all edges that are there, whatever is wanted.
    """
    edges = fleet.edges(tenant, now_ns)
    workers = fleet.workers(tenant, now_ns)
    found = [edge for edge in edges if wanted.lower() in edge.edge_id.lower()]
    return {
        "type": "fleet",
        "edges": [edge_form(edge) for edge in _shown(found, MAX_EDGES)],
        "edges_found": len(found),
        "workers": [worker_form(worker) for worker in _shown(workers, MAX_WORKERS)],
        "edge_health": _health(edges),
        "worker_health": _health(workers),
        "sums": _sums([edge for edge in edges if edge.health is not Health.GONE]),
        "events": [event_form(event, now_ns) for event in reversed(fleet.events(tenant, limit=MAX_EVENTS))],
    }


def _shown(members: list[_M], limit: int) -> list[_M]:
    if len(members) <= limit:
        return members
    return sorted(members, key=lambda member: _URGENCY[member.health])[:limit]


def _health(members: Iterable[EdgeState | WorkerState]) -> dict[str, int]:
    counts = Counter(member.health for member in members)
    return {health.value: counts[health] for health in Health}


def _sums(edges: list[EdgeState]) -> Json:
    decisions: Counter[str] = Counter()
    for edge in edges:
        decisions.update(edge.report.decisions_5s)
    total = sum(decisions.values())
    hits = sum(edge.report.hit_rate_5s * sum(edge.report.decisions_5s.values()) for edge in edges)
    return {
        "decisions": dict(decisions),
        "fps": round(sum(edge.report.fps_5s for edge in edges), 2),
        "uplink_bps": round(sum(edge.report.uplink_bps_5s for edge in edges), 1),
        "hit_rate": round(hits / total, 4) if total else None,
    }
