"""Owns what is fuzzed of control messages: what edges are asked, and what edges and workers tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from google.protobuf.message import Message
from tools.fuzz_child import Target, WrongResult

from splitmesh.frames.answer import Answer
from splitmesh.telemetry.recent import span_rows
from splitmesh.v1 import control_pb2 as pb
from splitmesh.wire import control
from splitmesh.wire.answers import answer_to_pb
from splitmesh.wire.frame_reports import record_of

M = TypeVar("M", bound=Message)

EDGE = "cam-1"
_ANSWER = answer_to_pb(
    Answer(np.array([[0.125, 0.25, 0.5, 0.75]], np.float32), np.array([0.875], np.float32), np.array([3], np.uint16))
)
_LINK = pb.LinkReport(bandwidth_bps=2e6, bandwidth_low_bps=1e6, bandwidth_high_bps=3e6, base_ms=4, backlog_bytes=9)
_FORECAST = pb.Forecast(point="split/c3/temporal-60", predicted_ms=80, p_hit=0.75, utility=0.5)
_FRAME = pb.FrameReport(
    frame_id="cam-1.r7.42",
    seq=42,
    outcome="resumed",
    chosen=_FORECAST,
    reason="best",
    runners_up=[_FORECAST],
    deadline_ms=150,
    latency_ms=120,
    times_ms={"head": 30, "resume": 40},
    link=_LINK,
    worker_id="w-1",
    trace_id=bytes(range(16)),
    note="timer",
    answer=_ANSWER,
    captured_ms=1234,
)
_SPAN = pb.SpanReport(
    trace_id=bytes(range(16)), span_id=bytes(8), name="frame", service="edge", attributes={"a": "b"}, end_unix_ns=9
)


def _same(read: Callable[[bytes], M], *good: M, then: Callable[[M], object] = repr) -> Target:
    """What is let in comes out of its own encoding as it was, and what is made of it (`then`) does not fail."""

    def decode(raw: bytes) -> None:
        message = read(raw)
        then(message)
        if read(control.pack(message)) != message:
            raise WrongResult(f"{message!r} does not survive its own encoding")

    return Target([control.pack(message) for message in good], lambda: decode)


def edge_command() -> Target:
    return _same(
        control.command_from,
        pb.EdgeCommand(actor="ann", watch=pb.WatchRequest(lease_s=10, frames=True, preview_fps=5, preview_px=320)),
        pb.EdgeCommand(actor="ann", explain=pb.ExplainRequest(frame_id="cam-1.r7.42")),
        pb.EdgeCommand(set_policy=pb.PolicyChange(policy="adaptive", deadline_ms=150, uplink_budget_bps=1e6)),
        pb.EdgeCommand(experiment=pb.Experiment(edge_slowdown=5)),
        pb.EdgeCommand(recent=pb.Recent(last=100)),
    )


def edge_report() -> Target:
    counts = {"split": 20, "tracked": 3}
    return _same(
        lambda raw: control.report_from(raw, edge=EDGE),
        pb.EdgeReport(
            edge_id=EDGE, run_id="r7", seq=9, policy="adaptive", settled=counts, hit_rate=0.5, link=_LINK, pool=counts
        ),
    )


def frame_reports() -> Target:
    def records(message: pb.FrameReports) -> None:
        for frame in message.frames:
            record_of(frame).to_json_line()

    good = pb.FrameReports(edge_id=EDGE, run_id="r7", frames=[_FRAME], left_out=3)
    return _same(lambda raw: control.frames_from(raw, edge=EDGE), good, then=records)


def edge_reply() -> Target:
    return _same(
        lambda raw: control.reply_from(raw, edge=EDGE),
        pb.EdgeReply(edge_id=EDGE, refused=pb.Refused(field="lease_s", detail="no")),
        pb.EdgeReply(edge_id=EDGE, explained=pb.Explained(frame=_FRAME, spans=[_SPAN])),
        pb.EdgeReply(edge_id=EDGE, what_if=pb.WhatIf(now=_FORECAST, then=_FORECAST, then_runners_up=[_FORECAST])),
        pb.EdgeReply(edge_id=EDGE, policy=pb.PolicyState(policy="track", known_policies=["track", "adaptive"])),
        pb.EdgeReply(edge_id=EDGE, points=pb.Points(points=[pb.PointReport(name="local", edge_ms=20)])),
    )


def spans_reply() -> Target:
    def rows(message: pb.SpansReply) -> None:
        for row in span_rows(message.spans):
            row.to_json_line()

    return _same(control.spans_from, pb.SpansReply(spans=[_SPAN, _SPAN]), then=rows)
