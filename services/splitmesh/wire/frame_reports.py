"""Owns the wire form of a settled frame's record, of forecasts and of operating points. Computes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from splitmesh.errors import WireError
from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.frames.tensors import Tensors
from splitmesh.policy.decision import Forecast as Foreseen
from splitmesh.policy.point import OperatingPoint
from splitmesh.wire.answers import answer_from_pb, answer_to_pb
from splitmesh.wire.control import Forecast, FrameReport, LinkReport, PointReport

_OUTCOMES = {outcome.value: outcome for outcome in Outcome}


def frame_report(record: FrameRecord, *, utility: float = 0.0, answer: bool = False) -> FrameReport:
    """utility: of the point that was chosen. answer: with the boxes of the answer; its tensors stay here."""
    chosen = Forecast(
        point=record.point, predicted_ms=record.predicted_ms or 0.0, p_hit=record.p_hit or 0.0, utility=utility
    )
    made = FrameReport(
        frame_id=record.frame_id,
        seq=record.seq,
        outcome=record.outcome.value,
        chosen=chosen,
        reason=record.reason,
        runners_up=[Forecast(**row) for row in record.runners_up],
        deadline_ms=record.deadline_ms,
        latency_ms=record.latency_ms,
        deadline_hit=record.deadline_hit,
        uplink_bytes=record.uplink_bytes,
        times_ms=record.times_ms,
        link=link_report(record.link),
        worker_id=record.worker or "",
        trace_id=bytes.fromhex(record.trace_id or ""),
        note=record.note,
        captured_ms=record.captured_ns / 1e6,
        source_index=record.source_index,
        pts_ms=record.pts_ns / 1e6,
    )
    if answer:
        made.answer.CopyFrom(answer_to_pb(replace(record.answer, tensors=Tensors())))
    return made


def record_of(report: FrameReport) -> FrameRecord:
    """What `frame_report` was given, but for the tensors of its answer. Raises WireError for an unknown outcome.

    report: as `wire.control` lets it in.
    """
    if report.outcome not in _OUTCOMES:
        raise WireError(f"frame.outcome {report.outcome!r} is not known")
    return FrameRecord(
        frame_id=report.frame_id,
        seq=report.seq,
        source_index=report.source_index,
        pts_ns=round(report.pts_ms * 1e6),
        captured_ns=round(report.captured_ms * 1e6),
        outcome=_OUTCOMES[report.outcome],
        point=report.chosen.point,
        reason=report.reason,
        deadline_ms=report.deadline_ms,
        latency_ms=report.latency_ms if report.HasField("latency_ms") else None,
        deadline_hit=report.deadline_hit,
        predicted_ms=report.chosen.predicted_ms if report.chosen.point else None,
        p_hit=report.chosen.p_hit if report.chosen.point else None,
        runners_up=[
            {"point": f.point, "predicted_ms": f.predicted_ms, "p_hit": f.p_hit, "utility": f.utility}
            for f in report.runners_up
        ],
        uplink_bytes=report.uplink_bytes,
        times_ms=dict(report.times_ms),
        link={name: getattr(report.link, name) for name in ("bandwidth_bps", "base_ms", "backlog_bytes")},
        worker=report.worker_id or None,
        trace_id=report.trace_id.hex() or None,
        note=report.note,
        answer=answer_from_pb(report.answer),
    )


def link_report(link: Mapping[str, float]) -> LinkReport:
    """`link` as in records and status: rate and its bounds, `base_ms`, `backlog_bytes`; what is missing is 0."""
    return LinkReport(
        bandwidth_bps=link.get("bandwidth_bps", 0.0),
        bandwidth_low_bps=link.get("bandwidth_low_bps", 0.0),
        bandwidth_high_bps=link.get("bandwidth_high_bps", 0.0),
        base_ms=link.get("base_ms", 0.0),
        backlog_bytes=round(link.get("backlog_bytes", 0)),
    )


def forecast(foreseen: Foreseen) -> Forecast:
    return Forecast(
        point=foreseen.point.name,
        predicted_ms=foreseen.predicted_ms,
        p_hit=foreseen.p_hit,
        utility=foreseen.utility,
    )


def point_reports(points: Iterable[OperatingPoint]) -> list[PointReport]:
    """`level` as in the point's name; empty for one without a codec."""
    return [
        PointReport(
            name=point.name,
            place=point.place.value,
            cut=point.cut,
            codec=point.codec,
            level=str(point.level) if point.codec else "",
            edge_ms=point.edge_ms,
            cloud_ms=point.cloud_ms,
            bytes=round(point.payload_bytes),
            fidelity=point.fidelity,
        )
        for point in points
    ]
