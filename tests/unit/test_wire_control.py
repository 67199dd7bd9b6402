"""What comes in of control.proto keeps its bounds, or is refused by the name of the field."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmesh.errors import WireError
from splitmesh.frames.answer import Answer
from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.policy.decision import Forecast as Foreseen
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.v1 import control_pb2 as pb
from splitmesh.wire import control, control_parts
from splitmesh.wire.answers import answer_from_pb
from splitmesh.wire.control import BadField, command_from, frames_from, preview_from, reply_from, spans_from
from splitmesh.wire.frame_reports import forecast, frame_report, point_reports, record_of

NAN = math.nan


def command(**fields: Any) -> bytes:
    return pb.EdgeCommand(**fields).SerializeToString()


@pytest.mark.parametrize(
    "fields",
    [
        {"watch": pb.WatchRequest(lease_s=10, frames=True, preview_fps=30, preview_px=4096)},
        {"watch": pb.WatchRequest(lease_s=60, max_bytes_per_s=control.MAX_WATCH_BYTES_PER_S)},
        {"explain": pb.ExplainRequest(frame_id="cam.r1.7")},
        {"set_policy": pb.PolicyChange(policy="track"), "actor": "ann"},
        {"what_if": pb.PolicyChange()},
        {"get_policy": pb.GetPolicy()},
        {"get_points": pb.GetPoints()},
        {"experiment": pb.Experiment(edge_slowdown=1000)},
        {"recent": pb.Recent(last=500)},
    ],
)
def test_a_command_within_its_bounds_is_taken(fields: dict[str, Any]) -> None:
    assert command_from(command(**fields)) == pb.EdgeCommand(**fields)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "command"),
        ({"actor": "a" * 201, "get_policy": pb.GetPolicy()}, "actor"),
        ({"watch": pb.WatchRequest()}, "lease_s"),
        ({"watch": pb.WatchRequest(lease_s=61)}, "lease_s"),
        ({"watch": pb.WatchRequest(lease_s=-1)}, "lease_s"),
        ({"watch": pb.WatchRequest(lease_s=NAN)}, "lease_s"),
        ({"watch": pb.WatchRequest(lease_s=1, preview_fps=31)}, "preview_fps"),
        ({"watch": pb.WatchRequest(lease_s=1, preview_fps=math.inf)}, "preview_fps"),
        ({"watch": pb.WatchRequest(lease_s=1, preview_px=4097)}, "preview_px"),
        ({"watch": pb.WatchRequest(lease_s=1, preview_px=1)}, "preview_px"),
        ({"watch": pb.WatchRequest(lease_s=1, max_bytes_per_s=2**32 - 1)}, "max_bytes_per_s"),
        ({"explain": pb.ExplainRequest()}, "frame_id"),
        ({"explain": pb.ExplainRequest(frame_id="../etc")}, "frame_id"),
        ({"set_policy": pb.PolicyChange(policy="p" * 201)}, "policy"),
        ({"what_if": pb.PolicyChange(policy="p" * 201)}, "policy"),
        ({"experiment": pb.Experiment(edge_slowdown=0.5)}, "edge_slowdown"),
        ({"experiment": pb.Experiment(edge_slowdown=1001)}, "edge_slowdown"),
        ({"recent": pb.Recent(last=501)}, "last"),
    ],
)
def test_a_command_out_of_bounds_is_refused_by_the_name_of_the_field(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(BadField, match=field) as raised:
        command_from(command(**fields))
    assert raised.value.field == field


def test_a_long_command_is_not_even_parsed() -> None:
    with pytest.raises(BadField, match="longer than 4096"):
        command_from(command(actor="a" * 5000, get_policy=pb.GetPolicy()))


@given(st.binary(max_size=300))
def test_noise_is_a_wire_error_or_a_message(raw: bytes) -> None:
    for parse in (
        command_from,
        spans_from,
        control.spans_request_from,
        control.keep_from,
        lambda raw: reply_from(raw, edge="cam"),
        lambda raw: frames_from(raw, edge="cam"),
        lambda raw: preview_from(raw, edge="cam"),
        lambda raw: control.report_from(raw, edge="cam"),
    ):
        try:
            parse(raw)
        except WireError:
            continue


RECORD = FrameRecord(
    frame_id="cam.r1.7",
    seq=7,
    source_index=3,
    pts_ns=280_000_000,
    captured_ns=281_500_000,
    outcome=Outcome.RESUMED,
    point="split/c2/temporal-60",
    reason="best of 9",
    deadline_ms=150.0,
    latency_ms=120.5,
    deadline_hit=True,
    predicted_ms=80.25,
    p_hit=0.75,
    runners_up=[{"point": "local", "predicted_ms": 190.5, "p_hit": 0.125, "utility": 0.25}],
    uplink_bytes=1234,
    times_ms={"head": 30.5, "resume": 40.25},
    link={"bandwidth_bps": 2e6, "base_ms": 4.5, "backlog_bytes": 99},
    worker="w-1",
    trace_id="0af7651916cd43dd8448eb211c80319c",
    note="timer",
    answer=Answer(
        np.array([[0.25, 0.25, 0.5, 0.5]], np.float32),
        np.array([0.5], np.float32),
        np.array([3], np.uint16),
        tensors={"mask": np.zeros((4, 4), np.uint8)},
    ),
)


def test_a_record_loses_nothing_but_its_tensors() -> None:
    made = frame_report(RECORD, utility=0.625, answer=True)
    unset = {f.name for f in made.DESCRIPTOR.fields} - {f.name for f, _ in made.ListFields()}
    assert unset == set(), "the record above sets every field"
    assert made.chosen == pb.Forecast(point=RECORD.point, predicted_ms=80.25, p_hit=0.75, utility=0.625)
    assert list(made.runners_up) == [pb.Forecast(**RECORD.runners_up[0])]
    back = record_of(made)
    assert np.array_equal(back.answer.boxes, RECORD.answer.boxes)
    assert replace(back, answer=RECORD.answer) == RECORD
    assert (made.outcome, made.latency_ms, made.captured_ms) == ("resumed", 120.5, 281.5)
    assert dict(made.times_ms) == RECORD.times_ms
    assert made.link == pb.LinkReport(bandwidth_bps=2e6, base_ms=4.5, backlog_bytes=99)
    assert made.trace_id.hex() == RECORD.trace_id
    told = answer_from_pb(made.answer)
    assert np.array_equal(told.boxes, RECORD.answer.boxes) and not told.tensors
    assert not frame_report(RECORD).HasField("answer")
    frames = pb.FrameReports(edge_id="cam", frames=[made])
    assert frames_from(frames.SerializeToString(), edge="cam") == frames


def test_a_shed_frame_has_no_decision_and_no_latency() -> None:
    shed = FrameRecord("cam.r1.8", 8, 4, 0, 0, Outcome.SHED, "", "", 150.0, None, False, note="the ring was full")
    made = frame_report(shed)
    assert not made.HasField("latency_ms") and made.chosen.point == "" and made.note == "the ring was full"
    back = record_of(made)
    assert {back.latency_ms, back.predicted_ms, back.p_hit, back.worker, back.trace_id} == {None}
    made.outcome = "lost"
    with pytest.raises(WireError, match="outcome 'lost'"):
        record_of(made)


def test_points_and_forecasts_are_told_by_name() -> None:
    point = OperatingPoint("frame/jpeg-60", Place.FRAME, 0.9, "", "jpeg", 60, 0.0, 1.0, 5000.4, 0.5, 17.5)
    local = OperatingPoint("local", Place.LOCAL, 1.0, edge_ms=20.0)
    first, second = point_reports([point, local])
    assert (first.name, first.place, first.codec, first.level, first.bytes) == (
        ("frame/jpeg-60", "frame", "jpeg", "60", 5000)
    )
    assert (second.place, second.level, second.edge_ms) == ("local", "", 20.0)
    assert forecast(Foreseen(point, 50.0, 0.5, 0.25)) == pb.Forecast(
        point="frame/jpeg-60", predicted_ms=50.0, p_hit=0.5, utility=0.25
    )


def reply(**fields: Any) -> bytes:
    return pb.EdgeReply(edge_id="cam", **fields).SerializeToString()


FORECAST = pb.Forecast(point="local", predicted_ms=1.0, p_hit=2.0)
SPAN = pb.SpanReport(trace_id=b"t" * 16, span_id=b"s" * 8, name="frame", service="edge")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "outcome"),
        ({"watching_s": NAN}, "watching_s"),
        ({"what_if": pb.WhatIf(then=FORECAST)}, "what_if.then.p_hit"),
        ({"explained": pb.Explained(frame=pb.FrameReport(frame_id="a b"))}, "frame.frame_id"),
        ({"points": pb.Points(points=[pb.PointReport(edge_ms=-1.0)])}, "points.edge_ms"),
        ({"policy": pb.PolicyState(deadline_ms=NAN)}, "policy.deadline_ms"),
        ({"recent": pb.FrameReports(frames=[pb.FrameReport(frame_id="f")] * 501)}, "frames"),
        ({"refused": pb.Refused(detail="d" * 2001)}, "refused.detail"),
    ],
)
def test_a_reply_that_breaks_a_rule_is_refused(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(BadField) as raised:
        reply_from(reply(**fields), edge="cam")
    assert raised.value.field == field


def test_nobody_answers_for_another_edge() -> None:
    raw = pb.EdgeReply(edge_id="other", done=pb.Done()).SerializeToString()
    with pytest.raises(BadField, match="other"):
        reply_from(raw, edge="cam")
    assert reply_from(reply(done=pb.Done()), edge="cam").WhichOneof("outcome") == "done"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"trace_id": b"short"}, "spans.trace_id"),
        ({"span_id": b""}, "spans.span_id"),
        ({"parent_id": b"12"}, "spans.parent_id"),
        ({"attributes": {str(n): "" for n in range(65)}}, "spans.attributes"),
        ({"attributes": {"a": "v" * 2001}}, "spans.attributes"),
    ],
)
def test_spans_are_bounded(changes: dict[str, Any], field: str) -> None:
    good = pb.SpansReply(spans=[SPAN])
    assert spans_from(good.SerializeToString()) == good
    bad = pb.SpanReport()
    bad.CopyFrom(SPAN)
    bad.MergeFrom(pb.SpanReport(**changes))
    if "span_id" in changes:
        bad.ClearField("span_id")
    with pytest.raises(BadField) as raised:
        spans_from(pb.SpansReply(spans=[bad]).SerializeToString())
    assert raised.value.field == field


def test_there_are_only_so_many_spans() -> None:
    with pytest.raises(BadField, match="spans"):
        spans_from(pb.SpansReply(spans=[SPAN] * (control_parts.MAX_SPANS + 1)).SerializeToString())


def test_a_preview_carries_a_true_answer() -> None:
    made = pb.Preview(edge_id="cam", frame_id="cam.r.1", jpeg=b"x")
    assert preview_from(made.SerializeToString(), edge="cam") == made
    made.answer.count = 3
    with pytest.raises(WireError, match=r"answer\.boxes"):
        preview_from(made.SerializeToString(), edge="cam")


def test_frames_to_keep_are_named_in_full_and_bounded() -> None:
    wish = control.KeepTraces(edge_id="cam", run_id="r1", seqs=[3, 40])
    assert control.keep_from(control.pack(wish)) == ["cam.r1.3", "cam.r1.40"]
    for field, value in (("edge_id", "cam.*"), ("run_id", ""), ("seqs", [1] * (control.MAX_KEPT + 1))):
        broken = control.KeepTraces(**{"edge_id": "cam", "run_id": "r1", "seqs": [3], field: value})
        with pytest.raises(control.BadField) as caught:
            control.keep_from(control.pack(broken))
        assert caught.value.field == field
