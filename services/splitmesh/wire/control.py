"""Owns what comes in of control.proto: which messages there are, and the bounds that each must keep.

The messages themselves are the generated ones. Every `…_from` raises BadField, which names the field that breaks a
rule, or WireError for what is no such message; what they return is bounded in each of its parts. Unknown fields of a
newer peer are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from splitmesh.v1.control_pb2 import (
    Done,
    EdgeCommand,
    EdgeReply,
    EdgeReport,
    Explained,
    ExplainRequest,
    Forecast,
    FrameReport,
    FrameReports,
    KeepTraces,
    LinkReport,
    PointReport,
    Points,
    PolicyAudit,
    PolicyChange,
    PolicyState,
    Preview,
    Refused,
    SpanReport,
    SpansReply,
    SpansRequest,
    WatchRequest,
    WhatIf,
)
from splitmesh.wire.answers import answer_from_pb
from splitmesh.wire.control_fields import (
    MAX_KINDS,
    MAX_NAME_CHARS,
    BadField,
    amount_field,
    bytes_field,
    count_field,
    edge_field,
    id_field,
    kinds_field,
    names_field,
    text_field,
    token_field,
)
from splitmesh.wire.packing import pack, parse

__all__ = [
    "MAX_KINDS",
    "MAX_NAME_CHARS",
    "BadField",
    "Done",
    "EdgeCommand",
    "EdgeReply",
    "EdgeReport",
    "ExplainRequest",
    "Explained",
    "Forecast",
    "FrameReport",
    "FrameReports",
    "KeepTraces",
    "LinkReport",
    "PointReport",
    "Points",
    "PolicyAudit",
    "PolicyChange",
    "PolicyState",
    "Preview",
    "Refused",
    "SpanReport",
    "SpansReply",
    "SpansRequest",
    "WatchRequest",
    "WhatIf",
    "command_from",
    "frames_from",
    "keep_from",
    "pack",
    "preview_from",
    "reply_from",
    "report_from",
    "spans_from",
    "spans_request_from",
]

MAX_COMMAND_BYTES = 4096
"""Of whatever is asked of an edge or a worker."""
MAX_LEASE_S = 60.0
MAX_PREVIEW_FPS = 30.0
MAX_PREVIEW_PX = 4096
MIN_PREVIEW_PX = 32
MAX_WATCH_BYTES_PER_S = 12_500_000
MAX_RECENT = 500
MAX_SLOWDOWN = 1000.0
MAX_SPANS = 512
"""Of one process for one frame, and in one message."""
MAX_KEPT = 200
MAX_RUNNERS_UP = 16
MAX_POINTS = 1024
MAX_LABELS = 65_536
MAX_TEXT_CHARS = 2000


# -- to an edge ------------------------------------------------------------------------------------------------------


def command_from(raw: bytes) -> EdgeCommand:
    """What an edge is asked. Policy, deadline and budget are left to who knows which there are."""
    if len(raw) > MAX_COMMAND_BYTES:
        raise BadField(f"a command of {len(raw)} bytes is longer than {MAX_COMMAND_BYTES}", field="")
    m = parse(EdgeCommand, raw)
    text_field(m.actor, "actor", MAX_NAME_CHARS)
    match m.WhichOneof("command"):
        case None:
            raise BadField("command is missing, or of a newer version", field="command")
        case "watch":
            _check_watch(m.watch)
        case "explain":
            id_field(m.explain.frame_id, "frame_id")
        case "what_if" | "set_policy" as name:
            text_field(getattr(m, name).policy, "policy", MAX_NAME_CHARS)
        case "experiment":
            slowdown = m.experiment.edge_slowdown
            amount_field(slowdown, "edge_slowdown", low=1.0, high=MAX_SLOWDOWN)
        case "recent":
            count_field(m.recent.last, "last", MAX_RECENT)
    return m


def _check_watch(watch: WatchRequest) -> None:
    amount_field(watch.lease_s, "lease_s", low=0.001, high=MAX_LEASE_S)
    amount_field(watch.preview_fps, "preview_fps", high=MAX_PREVIEW_FPS)
    if watch.preview_px:
        amount_field(watch.preview_px, "preview_px", low=MIN_PREVIEW_PX, high=MAX_PREVIEW_PX)
    amount_field(watch.max_bytes_per_s, "max_bytes_per_s", high=MAX_WATCH_BYTES_PER_S)


def keep_from(raw: bytes) -> list[str]:
    """Ids of frames whose traces are wanted after all."""
    if len(raw) > MAX_COMMAND_BYTES:
        raise BadField(f"a request of {len(raw)} bytes is longer than {MAX_COMMAND_BYTES}", field="")
    m = parse(KeepTraces, raw)
    token_field(m.edge_id, "edge_id")
    token_field(m.run_id, "run_id")
    count_field(len(m.seqs), "seqs", MAX_KEPT)
    return [f"{m.edge_id}.{m.run_id}.{seq}" for seq in m.seqs]


def spans_request_from(raw: bytes) -> SpansRequest:
    """What a worker is asked."""
    if len(raw) > MAX_COMMAND_BYTES:
        raise BadField(f"a request of {len(raw)} bytes is longer than {MAX_COMMAND_BYTES}", field="")
    m = parse(SpansRequest, raw)
    id_field(m.frame_id, "frame_id")
    return m


# -- from an edge or a worker ----------------------------------------------------------------------------------------


def report_from(raw: bytes, *, edge: str) -> EdgeReport:
    """edge: the last token of the subject that it came by."""
    m = parse(EdgeReport, raw)
    edge_field(m.edge_id, edge)
    token_field(m.run_id, "run_id")
    for name in ("version", "model", "policy", "breaker"):
        text_field(getattr(m, name), name, MAX_NAME_CHARS)
    text_field(m.source, "source", MAX_TEXT_CHARS)
    for name in _REPORT_AMOUNTS:
        amount_field(getattr(m, name), name)
    for name in ("hit_rate", "hit_rate_5s"):
        amount_field(getattr(m, name), name, high=1.0)
    for name in ("settled", "decisions_5s", "pool"):
        kinds_field(getattr(m, name), name)
    _check_link(m.link, "link")
    return m


_REPORT_AMOUNTS = (
    "deadline_ms",
    "uplink_budget_bps",
    "run_s",
    "fps_5s",
    "latency_p50_5s_ms",
    "latency_p95_5s_ms",
    "latency_p99_5s_ms",
    "uplink_bps_5s",
    "gamma_edge",
    "gamma_cloud",
)


def frames_from(raw: bytes, *, edge: str) -> FrameReports:
    """edge: the last token of the subject that it came by."""
    m = parse(FrameReports, raw)
    edge_field(m.edge_id, edge)
    _check_frames(m)
    return m


def preview_from(raw: bytes, *, edge: str) -> Preview:
    """edge: the last token of the subject that it came by. The picture itself is not looked at."""
    m = parse(Preview, raw)
    edge_field(m.edge_id, edge)
    id_field(m.frame_id, "frame_id")
    text_field(m.point, "point", MAX_NAME_CHARS)
    amount_field(m.latency_ms, "latency_ms")
    count_field(len(m.labels), "labels", MAX_LABELS)
    for label in m.labels.values():
        text_field(label, "labels", MAX_NAME_CHARS)
    answer_from_pb(m.answer)
    return m


def reply_from(raw: bytes, *, edge: str) -> EdgeReply:
    """edge: who was asked."""
    m = parse(EdgeReply, raw)
    edge_field(m.edge_id, edge)
    match m.WhichOneof("outcome"):
        case None:
            raise BadField("outcome is missing, or of a newer version", field="outcome")
        case "refused":
            text_field(m.refused.field, "refused.field", MAX_NAME_CHARS)
            text_field(m.refused.detail, "refused.detail", MAX_TEXT_CHARS)
        case "watching_s":
            amount_field(m.watching_s, "watching_s", high=MAX_LEASE_S)
        case "explained":
            _check_frame(m.explained.frame)
            _check_spans(m.explained.spans)
        case "what_if":
            _check_what_if(m.what_if)
        case "policy":
            _check_policy(m.policy)
        case "points":
            _check_points(m.points)
        case "recent":
            _check_frames(m.recent)
    return m


def spans_from(raw: bytes) -> SpansReply:
    """What a worker did for a frame."""
    m = parse(SpansReply, raw)
    _check_spans(m.spans)
    return m


def _check_frames(frames: FrameReports) -> None:
    count_field(len(frames.frames), "frames", MAX_RECENT)
    for frame in frames.frames:
        _check_frame(frame)


def _check_frame(frame: FrameReport) -> None:
    id_field(frame.frame_id, "frame.frame_id")
    for name, value in (("outcome", frame.outcome), ("worker_id", frame.worker_id)):
        text_field(value, f"frame.{name}", MAX_NAME_CHARS)
    for name, value in (("reason", frame.reason), ("note", frame.note)):
        text_field(value, f"frame.{name}", MAX_TEXT_CHARS)
    amount_field(frame.deadline_ms, "frame.deadline_ms")
    amount_field(frame.latency_ms, "frame.latency_ms")
    for name in ("captured_ms", "pts_ms"):
        amount_field(getattr(frame, name), f"frame.{name}", low=-1e12, high=1e12)
    count_field(len(frame.runners_up), "frame.runners_up", MAX_RUNNERS_UP)
    for forecast in (frame.chosen, *frame.runners_up):
        _check_forecast(forecast, "frame.forecast")
    count_field(len(frame.times_ms), "frame.times_ms", MAX_KINDS)
    for name, ms in frame.times_ms.items():
        text_field(name, "frame.times_ms", MAX_NAME_CHARS)
        amount_field(ms, "frame.times_ms", low=-1e6)
    _check_link(frame.link, "frame.link")
    bytes_field(frame.trace_id, "frame.trace_id", 0, 16)
    answer_from_pb(frame.answer)


def _check_link(link: LinkReport, field: str) -> None:
    for name in ("bandwidth_bps", "bandwidth_low_bps", "bandwidth_high_bps", "base_ms"):
        amount_field(getattr(link, name), f"{field}.{name}")


def _check_forecast(forecast: Forecast, field: str) -> None:
    text_field(forecast.point, f"{field}.point", MAX_NAME_CHARS)
    amount_field(forecast.predicted_ms, f"{field}.predicted_ms")
    amount_field(forecast.p_hit, f"{field}.p_hit", high=1.0)
    amount_field(forecast.utility, f"{field}.utility", low=-math.inf)


def _check_what_if(m: WhatIf) -> None:
    amount_field(m.observed_ms_ago, "what_if.observed_ms_ago")
    for field, chosen, reason, others in (
        ("what_if.now", m.now, m.now_reason, m.now_runners_up),
        ("what_if.then", m.then, m.then_reason, m.then_runners_up),
    ):
        text_field(reason, f"{field}_reason", MAX_TEXT_CHARS)
        count_field(len(others), f"{field}_runners_up", MAX_RUNNERS_UP)
        for forecast in (chosen, *others):
            _check_forecast(forecast, field)


def _check_policy(m: PolicyState) -> None:
    text_field(m.policy, "policy.policy", MAX_NAME_CHARS)
    amount_field(m.deadline_ms, "policy.deadline_ms")
    amount_field(m.uplink_budget_bps, "policy.uplink_budget_bps")
    count_field(len(m.known_policies), "policy.known_policies", MAX_POINTS)
    names_field(m.known_policies, "policy.known_policies")
    count_field(len(m.changes), "policy.changes", MAX_KINDS)
    for change in m.changes:
        for name in ("actor", "before", "after"):
            text_field(getattr(change, name), f"policy.changes.{name}", MAX_TEXT_CHARS)


def _check_points(m: Points) -> None:
    count_field(len(m.points), "points", MAX_POINTS)
    for point in m.points:
        names_field((point.name, point.place, point.cut, point.codec, point.level), "points")
        for name in ("edge_ms", "cloud_ms", "fidelity"):
            amount_field(getattr(point, name), f"points.{name}")


def _check_spans(spans: Iterable[SpanReport]) -> None:
    for number, span in enumerate(spans):
        count_field(number, "spans", MAX_SPANS - 1)
        bytes_field(span.trace_id, "spans.trace_id", 16)
        bytes_field(span.span_id, "spans.span_id", 8)
        bytes_field(span.parent_id, "spans.parent_id", 0, 8)
        names_field((span.name, span.service, span.instance), "spans.name")
        count_field(len(span.attributes), "spans.attributes", MAX_KINDS)
        for name, value in span.attributes.items():
            text_field(name, "spans.attributes", MAX_NAME_CHARS)
            text_field(value, "spans.attributes", MAX_TEXT_CHARS)
        text_field(span.error, "spans.error", MAX_TEXT_CHARS)
