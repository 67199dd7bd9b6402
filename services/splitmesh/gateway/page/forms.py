"""Owns how edges, workers, frames, points and policies read as JSON for the page. Pure; numbers are always finite."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from splitmesh.errors import WireError
from splitmesh.gateway.fleet_values import EdgeState, FleetEvent, WorkerState
from splitmesh.gateway.page.waterfall import waterfall
from splitmesh.gateway.page.words import decision_in_words, end_in_words
from splitmesh.v1 import control_pb2 as pb
from splitmesh.v1 import infer_pb2
from splitmesh.wire.answers import answer_from_pb

Json = dict[str, Any]

MAX_BOXES = 300
"""Of one picture, best first: more can't be told apart on a screen."""
_MAX_ATTRIBUTES = 32
_MAX_ATTRIBUTE_CHARS = 200


def edge_form(state: EdgeState) -> Json:
    report = state.report
    return {
        "name": state.edge_id,
        "health": state.health.value,
        "why": state.why,
        "silent_ms": _number(state.silent_ms),
        "run_id": report.run_id,
        "version": report.version,
        "model": report.model,
        "policy": report.policy,
        "source": report.source,
        "deadline_ms": _number(report.deadline_ms),
        "uplink_budget_bps": _number(report.uplink_budget_bps),
        "run_s": _number(report.run_s),
        "captured": report.captured,
        "settled": dict(report.settled),
        "in_flight": report.in_flight,
        "fps": _number(report.fps_5s),
        "hit_rate": _number(report.hit_rate),
        "hit_rate_5s": _number(report.hit_rate_5s),
        "latency_ms": [_number(value) for value in _latencies(report)],
        "decisions": dict(report.decisions_5s),
        "link": link_form(report.link),
        "uplink_bps": _number(report.uplink_bps_5s),
        "breaker": report.breaker,
        "gamma_edge": _number(report.gamma_edge),
        "gamma_cloud": _number(report.gamma_cloud),
        "finished": report.finished,
    }


def _latencies(report: pb.EdgeReport) -> tuple[float, float, float]:
    return report.latency_p50_5s_ms, report.latency_p95_5s_ms, report.latency_p99_5s_ms


def worker_form(state: WorkerState) -> Json:
    heartbeat = state.heartbeat
    return {
        "name": state.worker_id,
        "health": state.health.value,
        "why": state.why,
        "silent_ms": _number(state.silent_ms),
        "wait_ms": _number(heartbeat.predicted_wait_us / 1e3),
        "queue_depth": heartbeat.queue_depth,
        "draining": heartbeat.draining,
        "models": [{"model": hosted.model, "cuts": len(hosted.cuts)} for hosted in heartbeat.models],
    }


def event_form(event: FleetEvent, now_ns: int) -> Json:
    ago_ms = _number((now_ns - event.at_ns) / 1e6)
    return {
        "number": event.number,
        "ago_ms": ago_ms,
        "kind": event.kind.value,
        "member": event.member,
        "detail": event.detail,
    }


def link_form(link: pb.LinkReport) -> Json:
    return {
        "bandwidth_bps": _number(link.bandwidth_bps),
        "low_bps": _number(link.bandwidth_low_bps),
        "high_bps": _number(link.bandwidth_high_bps),
        "base_ms": _number(link.base_ms),
        "backlog_bytes": link.backlog_bytes,
    }


def forecast_form(forecast: pb.Forecast) -> Json:
    return {
        "point": forecast.point,
        "predicted_ms": _number(forecast.predicted_ms),
        "p_hit": _number(forecast.p_hit),
        "utility": _number(forecast.utility),
    }


def frame_form(frame: pb.FrameReport) -> Json:
    """A row of the table of frames and a dot of the timeline."""
    return {
        "id": frame.frame_id,
        "seq": frame.seq,
        "outcome": frame.outcome,
        "point": frame.chosen.point,
        "predicted_ms": _number(frame.chosen.predicted_ms),
        "latency_ms": _number(frame.latency_ms) if frame.HasField("latency_ms") else None,
        "hit": frame.deadline_hit,
        "deadline_ms": _number(frame.deadline_ms),
        "bytes": frame.uplink_bytes,
        "worker": frame.worker_id,
        "captured_ms": _number(frame.captured_ms),
        "link": link_form(frame.link),
    }


def story_form(explained: pb.Explained) -> Json:
    """One frame in full: words, runners-up, measured parts and the spans of all processes, placed."""
    frame = explained.frame
    decided_after_ms = _decided_after_ms(explained.spans)
    return {
        "frame": frame_form(frame),
        "words": decision_in_words(frame, decided_after_ms=decided_after_ms),
        "end": end_in_words(frame),
        "reason": frame.reason,
        "note": frame.note,
        "chosen": forecast_form(frame.chosen),
        "runners_up": [forecast_form(each) for each in frame.runners_up],
        "times_ms": {name: _number(value) for name, value in frame.times_ms.items()},
        "trace_id": frame.trace_id.hex(),
        "spans": _spans_form(explained.spans),
    }


def _decided_after_ms(spans: Iterable[pb.SpanReport]) -> float | None:
    """Capture to decision, by the edge's own spans; None where they were not kept."""
    starts = {span.name: span.start_unix_ns for span in spans if span.service == "edge"}
    if "frame" not in starts or "decide" not in starts:
        return None
    return max(0.0, (starts["decide"] - starts["frame"]) / 1e6)


def _spans_form(spans: Iterable[pb.SpanReport]) -> list[Json]:
    return [
        {
            "name": placed.span.name,
            "service": placed.span.service,
            "instance": placed.span.instance,
            "depth": placed.depth,
            "start_ms": _number(placed.start_ms),
            "duration_ms": _number(placed.duration_ms),
            "moved_ms": _number(placed.moved_ms),
            "error": placed.span.error[:_MAX_ATTRIBUTE_CHARS],
            "attributes": _attributes(placed.span.attributes),
        }
        for placed in waterfall(list(spans))
    ]


def _attributes(attributes: Mapping[str, str]) -> dict[str, str]:
    return {name: attributes[name][:_MAX_ATTRIBUTE_CHARS] for name in sorted(attributes)[:_MAX_ATTRIBUTES]}


def point_form(point: pb.PointReport) -> Json:
    return {
        "name": point.name,
        "place": point.place,
        "cut": point.cut,
        "codec": point.codec,
        "level": point.level,
        "edge_ms": _number(point.edge_ms),
        "cloud_ms": _number(point.cloud_ms),
        "bytes": point.bytes,
        "fidelity": _number(point.fidelity),
    }


def policy_form(state: pb.PolicyState) -> Json:
    return {
        "policy": state.policy,
        "deadline_ms": _number(state.deadline_ms),
        "uplink_budget_bps": _number(state.uplink_budget_bps),
        "known_policies": list(state.known_policies),
        "changes": [
            {"unix_ms": each.unix_ms, "actor": each.actor, "before": each.before, "after": each.after}
            for each in state.changes
        ],
    }


def what_if_form(what_if: pb.WhatIf) -> Json:
    return {
        "now": _decided(what_if.now, what_if.now_reason, what_if.now_runners_up),
        "then": _decided(what_if.then, what_if.then_reason, what_if.then_runners_up),
        "observed_ms_ago": _number(what_if.observed_ms_ago),
    }


def _decided(chosen: pb.Forecast, reason: str, runners_up: Iterable[pb.Forecast]) -> Json:
    return {
        "chosen": forecast_form(chosen),
        "reason": reason,
        "runners_up": [forecast_form(each) for each in runners_up],
    }


def preview_form(preview: pb.Preview) -> Json:
    """What goes with a picture. Boxes are [x_min, y_min, x_max, y_max, score, label] in [0, 1]."""
    return {
        "type": "preview",
        "frame": preview.frame_id,
        "point": preview.point,
        "latency_ms": _number(preview.latency_ms) if preview.HasField("latency_ms") else None,
        "hit": preview.deadline_hit,
        "boxes": _boxes(preview.answer, preview.labels),
    }


def _boxes(message: infer_pb2.Answer, labels: Mapping[int, str]) -> list[list[float | str]]:
    try:
        answer = answer_from_pb(message)
    except WireError:
        return []
    best = answer.scores.argsort()[::-1][:MAX_BOXES]
    return [
        [
            *(round(float(edge), 4) for edge in answer.boxes[n]),
            round(float(answer.scores[n]), 3),
            _label(labels, n_class),
        ]
        for n, n_class in ((int(n), int(answer.classes[n])) for n in best)
    ]


def _label(labels: Mapping[int, str], number: int) -> str:
    return labels.get(number, f"class {number}")


def _number(value: float) -> float:
    """JSON has no NaN and no infinity."""
    return round(value, 4) if math.isfinite(value) else 0.0
