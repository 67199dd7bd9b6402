"""Owns what an edge says of itself: its status as a report of a few hundred bytes. Computes nothing."""

from __future__ import annotations

from collections.abc import Mapping

from splitmesh import __version__
from splitmesh.edge.steering import Course
from splitmesh.frames.status import EdgeStatus
from splitmesh.wire.control import EdgeReport
from splitmesh.wire.frame_reports import link_report

_SOURCE_CHARS = 100


def edge_report(
    status: EdgeStatus, course: Course, *, run_id: str, seq: int, model: str, told_bytes: int
) -> EdgeReport:
    """seq: of this report, within the run. told_bytes: see EdgeReport."""
    latency_ms = status.latency_ms
    return EdgeReport(
        edge_id=status.edge,
        run_id=run_id,
        seq=seq,
        version=__version__,
        model=model,
        policy=course.policy,
        deadline_ms=course.deadline_ms,
        uplink_budget_bps=course.uplink_budget_bps,
        run_s=status.run_s,
        captured=status.captured,
        settled=_counted({kind: count for kind, count in status.counts.items() if kind != "captured"}),
        in_flight=status.in_flight,
        fps_5s=status.fps,
        hit_rate=status.hit_rate,
        hit_rate_5s=status.hit_rate_5s,
        latency_p50_5s_ms=latency_ms.get("p50", 0.0),
        latency_p95_5s_ms=latency_ms.get("p95", 0.0),
        latency_p99_5s_ms=latency_ms.get("p99", 0.0),
        decisions_5s=_counted(status.decisions_5s),
        link=link_report(status.link),
        uplink_bps_5s=status.uplink_bps,
        uplink_bytes=status.uplink_bytes,
        breaker=status.breaker,
        gamma_edge=status.gamma_edge,
        gamma_cloud=status.gamma_cloud,
        source=status.source[-_SOURCE_CHARS:],
        finished=status.finished,
        pool=_counted(status.pool),
        told_bytes=told_bytes,
    )


def _counted(counts: Mapping[str, int]) -> dict[str, int]:
    """Nothing of a kind needs no bytes."""
    return {kind: count for kind, count in counts.items() if count}
