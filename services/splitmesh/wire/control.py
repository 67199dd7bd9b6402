"""Owns what comes in of control.proto: which messages there are, and the bounds that each must keep.

The messages themselves are the generated ones. Every `…_from` raises BadField, which names the field that breaks a
rule, or WireError for what is no such message; what they return is bounded in each of its parts. Unknown fields of a
newer peer are ignored.
"""

from __future__ import annotations

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
    MAX_TEXT_CHARS,
    BadField,
    amount_field,
    count_field,
    edge_field,
    id_field,
    kinds_field,
    text_field,
    token_field,
)
from splitmesh.wire.control_parts import (
    MAX_RECENT,
    check_frame,
    check_frames,
    check_link,
    check_points,
    check_policy,
    check_spans,
    check_what_if,
)
from splitmesh.wire.packing import pack, parse

__all__ = [
    "MAX_KINDS",
    "MAX_NAME_CHARS",
    "MAX_TEXT_CHARS",
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
MAX_SLOWDOWN = 1000.0
MAX_KEPT = 200
MAX_LABELS = 65_536


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
    check_link(m.link, "link")
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
    check_frames(m)
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
            check_frame(m.explained.frame)
            check_spans(m.explained.spans)
        case "what_if":
            check_what_if(m.what_if)
        case "policy":
            check_policy(m.policy)
        case "points":
            check_points(m.points)
        case "recent":
            check_frames(m.recent)
    return m


def spans_from(raw: bytes) -> SpansReply:
    """What a worker did for a frame."""
    m = parse(SpansReply, raw)
    check_spans(m.spans)
    return m
