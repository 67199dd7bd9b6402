"""Owns the bounds of what several messages of control.proto hold: frames, forecasts, links, spans, policies, points.

Every check raises BadField, which names the field that breaks a rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from splitmesh.v1.control_pb2 import (
    Forecast,
    FrameReport,
    FrameReports,
    LinkReport,
    Points,
    PolicyState,
    SpanReport,
    WhatIf,
)
from splitmesh.wire.answers import answer_from_pb
from splitmesh.wire.control_fields import (
    MAX_KINDS,
    MAX_NAME_CHARS,
    MAX_TEXT_CHARS,
    amount_field,
    bytes_field,
    count_field,
    id_field,
    names_field,
    text_field,
)

MAX_RECENT = 500
MAX_SPANS = 512
"""Of one process for one frame, and in one message."""
MAX_RUNNERS_UP = 16
MAX_POINTS = 1024


def check_frames(frames: FrameReports) -> None:
    count_field(len(frames.frames), "frames", MAX_RECENT)
    for frame in frames.frames:
        check_frame(frame)


def check_frame(frame: FrameReport) -> None:
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
        check_forecast(forecast, "frame.forecast")
    count_field(len(frame.times_ms), "frame.times_ms", MAX_KINDS)
    for name, ms in frame.times_ms.items():
        text_field(name, "frame.times_ms", MAX_NAME_CHARS)
        amount_field(ms, "frame.times_ms", low=-1e6)
    check_link(frame.link, "frame.link")
    bytes_field(frame.trace_id, "frame.trace_id", 0, 16)
    answer_from_pb(frame.answer)


def check_link(link: LinkReport, field: str) -> None:
    for name in ("bandwidth_bps", "bandwidth_low_bps", "bandwidth_high_bps", "base_ms"):
        amount_field(getattr(link, name), f"{field}.{name}")


def check_forecast(forecast: Forecast, field: str) -> None:
    text_field(forecast.point, f"{field}.point", MAX_NAME_CHARS)
    amount_field(forecast.predicted_ms, f"{field}.predicted_ms")
    amount_field(forecast.p_hit, f"{field}.p_hit", high=1.0)
    amount_field(forecast.utility, f"{field}.utility", low=-math.inf)


def check_what_if(m: WhatIf) -> None:
    amount_field(m.observed_ms_ago, "what_if.observed_ms_ago")
    for field, chosen, reason, others in (
        ("what_if.now", m.now, m.now_reason, m.now_runners_up),
        ("what_if.then", m.then, m.then_reason, m.then_runners_up),
    ):
        text_field(reason, f"{field}_reason", MAX_TEXT_CHARS)
        count_field(len(others), f"{field}_runners_up", MAX_RUNNERS_UP)
        for forecast in (chosen, *others):
            check_forecast(forecast, field)


def check_policy(m: PolicyState) -> None:
    text_field(m.policy, "policy.policy", MAX_NAME_CHARS)
    amount_field(m.deadline_ms, "policy.deadline_ms")
    amount_field(m.uplink_budget_bps, "policy.uplink_budget_bps")
    count_field(len(m.known_policies), "policy.known_policies", MAX_POINTS)
    names_field(m.known_policies, "policy.known_policies")
    count_field(len(m.changes), "policy.changes", MAX_KINDS)
    for change in m.changes:
        for name in ("actor", "before", "after"):
            text_field(getattr(change, name), f"policy.changes.{name}", MAX_TEXT_CHARS)


def check_points(m: Points) -> None:
    count_field(len(m.points), "points", MAX_POINTS)
    for point in m.points:
        names_field((point.name, point.place, point.cut, point.codec, point.level), "points")
        for name in ("edge_ms", "cloud_ms", "fidelity"):
            amount_field(getattr(point, name), f"points.{name}")


def check_spans(spans: Iterable[SpanReport]) -> None:
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
