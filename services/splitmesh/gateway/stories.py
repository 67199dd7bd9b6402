"""Owns how a frame of the gateway's own is told: its record and its spans, as an edge would tell one of its."""

from __future__ import annotations

from dataclasses import dataclass

from splitmesh.v1 import control_pb2
from splitmesh.v1 import gateway_pb2 as pb
from splitmesh.wire.messages import WorkerTimes


@dataclass(slots=True)
class Times:
    """Monotonic ns of this process; 0: it did not come to that."""

    arrived_ns: int
    prepared_ns: int = 0
    replied_ns: int = 0
    worker: WorkerTimes | None = None


def told_story(result: pb.Result, times: Times, end_ns: int, budget_ms: float) -> control_pb2.Explained:
    """Of one settled frame; its place is "frame": all of it goes to a worker."""
    answered = result.WhichOneof("outcome") == "answer"
    report = control_pb2.FrameReport(
        frame_id=result.frame_id,
        seq=result.seq,
        outcome="frame" if answered else "expired",
        reason="sent to the gateway",
        deadline_ms=budget_ms,
        deadline_hit=answered and result.total_ms <= budget_ms,
        times_ms=_parts_ms(times, end_ns),
        worker_id=result.worker_id,
        trace_id=result.trace_id,
        note=result.error.detail,
    )
    if answered:
        report.latency_ms = result.total_ms
    return control_pb2.Explained(frame=report)


def _parts_ms(times: Times, end_ns: int) -> dict[str, float]:
    parts = {}
    if times.prepared_ns:
        parts["prepare"] = (times.prepared_ns - times.arrived_ns) / 1e6
    if times.replied_ns:
        parts["ask"] = (times.replied_ns - times.prepared_ns) / 1e6
        parts["settle"] = (end_ns - times.replied_ns) / 1e6
    if times.worker is not None:
        parts["queue"] = times.worker.queue_us / 1e3
        parts["decode"] = times.worker.decode_us / 1e3
        parts["service"] = times.worker.service_us / 1e3
        parts["postprocess"] = times.worker.postprocess_us / 1e3
    return parts
