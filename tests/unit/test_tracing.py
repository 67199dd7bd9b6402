"""One trace per frame: what is kept, how spans hang together across processes, and what it costs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from splitmesh.telemetry.spanlog import frame_spans, read_spans
from splitmesh.telemetry.tracing import Tracing

STEPS = ("decode", "preprocess", "decide", "head", "encode", "offload", "postprocess", "emit", "resume")


def test_a_frame_and_its_worker_make_one_tree(tmp_path: Path) -> None:
    edge = Tracing("edge", instance="e1", span_log=tmp_path)
    cloud = Tracing("cloud", instance="w1", span_log=tmp_path)
    frame = edge.start_frame("e1.r.7", 1000)
    frame.span("head", 1000, 2000, {"splitmesh.cut": "n60"})
    header = frame.traceparent("offload")
    work = cloud.continue_trace(header, 2500, frame_id="e1.r.7")
    work.span("tail", 2600, 2900)
    work.finish(3000)
    frame.span("offload", 2000, 4000)
    frame.event("nack", 2200, {"code": "overloaded"})
    frame.finish(5000, attributes={"splitmesh.outcome": "split"})
    edge.close()
    cloud.close()
    spans = {span.name: span for span in frame_spans(read_spans(tmp_path), "e1.r.7")}
    assert set(spans) == {"frame", "head", "offload", "worker", "tail"}
    assert len({span.trace_id for span in spans.values()}) == 1
    assert spans["frame"].parent_id is None
    assert spans["head"].parent_id == spans["offload"].parent_id == spans["frame"].span_id
    assert spans["worker"].parent_id == spans["offload"].span_id
    assert spans["tail"].parent_id == spans["worker"].span_id
    assert spans["frame"].attributes == {"splitmesh.frame_id": "e1.r.7", "splitmesh.outcome": "split"}
    assert spans["frame"].events[0]["name"] == "nack"
    assert (spans["head"].service, spans["tail"].instance) == ("edge", "w1")


def test_times_are_moved_to_the_wall_clock(tmp_path: Path) -> None:
    tracing = Tracing("edge", instance="e1", span_log=tmp_path)
    before, start = time.time_ns(), time.monotonic_ns()
    tracing.start_frame("f", start).finish(time.monotonic_ns())
    tracing.close()
    span = read_spans(tmp_path)[0]
    assert abs(span.start_unix_ns - before) < 50_000_000
    assert 0 <= span.duration_ms < 1000


@pytest.mark.parametrize(("ratio", "keep", "kept"), [(0.0, False, False), (0.0, True, True), (1.0, False, True)])
def test_kept_if_head_sampled_or_asked_for_at_the_end(tmp_path: Path, ratio: float, keep: bool, kept: bool) -> None:
    tracing = Tracing("edge", instance="e1", sample_ratio=ratio, span_log=tmp_path)
    frame = tracing.start_frame("f", 0)
    frame.span("head", 0, 1)
    assert frame.traceparent().endswith("-01" if ratio else "-00")
    assert frame.finish(2, keep=keep) is kept
    frame.span("emit", 2, 3)
    assert frame.finish(9, keep=True) is kept, "the second finish must change nothing"
    tracing.close()
    names = sorted(span.name for span in read_spans(tmp_path)) if kept else []
    assert names == (["emit", "frame", "head"] if kept else [])


def test_a_worker_logs_what_the_edge_has_not_sampled(tmp_path: Path) -> None:
    edge = Tracing("edge", instance="e1", sample_ratio=0.0)
    cloud = Tracing("cloud", instance="w1", sample_ratio=0.0, span_log=tmp_path)
    frame = edge.start_frame("f", 0)
    work = cloud.continue_trace(frame.traceparent(), 0, frame_id="f")
    assert work.finish(1) is False, "not for the collector"
    edge.close()
    cloud.close()
    assert [span.trace_id for span in read_spans(tmp_path)] == [frame.trace_id]


def test_a_request_without_trace_context_has_a_trace_of_its_own(tmp_path: Path) -> None:
    tracing = Tracing("cloud", instance="w1", span_log=tmp_path)
    tracing.continue_trace("garbage", 0, frame_id="f").finish(1)
    tracing.close()
    assert read_spans(tmp_path)[0].parent_id is None


def test_children_can_have_children(tmp_path: Path) -> None:
    tracing = Tracing("edge", instance="e1", span_log=tmp_path)
    frame = tracing.start_frame("f", 0)
    outer = frame.child("offload", 1)
    inner = outer.child("send", 2)
    inner.span("socket", 2, 3)
    inner.end(4)
    outer.end(9, {"splitmesh.bytes": 3})
    frame.finish(10, error="missed")
    tracing.close()
    spans = {span.name: span for span in read_spans(tmp_path)}
    assert spans["socket"].parent_id == spans["send"].span_id
    assert spans["send"].parent_id == spans["offload"].span_id
    assert spans["offload"].parent_id == spans["frame"].span_id
    assert spans["frame"].error == "missed"


def test_spans_reach_the_disk_while_the_process_runs(tmp_path: Path) -> None:
    tracing = Tracing("edge", instance="e1", span_log=tmp_path)
    tracing.start_frame("f", 0).finish(1)
    limit = time.monotonic() + 0.5
    while tracing.spans_written == 0 and time.monotonic() < limit:
        time.sleep(0.01)
    assert len(read_spans(tmp_path)) == 1
    tracing.close()


def test_an_unwritable_log_never_reaches_the_frame_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    tracing = Tracing("edge", instance="e1", span_log=tmp_path / "file" / "spans")
    tracing.start_frame("f", 0).finish(1)
    tracing.close()
    assert tracing.spans_dropped == 1


def test_spans_that_find_no_room_on_their_way_to_the_disk_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splitmesh.telemetry.tracing._QUEUE_TRACES", 0)
    tracing = Tracing("edge", instance="e1", span_log=tmp_path)
    trace = tracing.start_frame("f", 0)
    trace.span("decode", 0, 1)
    trace.finish(1)
    tracing.close()
    assert tracing.spans_dropped == 2


def test_nothing_to_record_costs_no_thread() -> None:
    tracing = Tracing("edge", instance="e1")
    assert not tracing._thread.is_alive()
    tracing.start_frame("f").finish(time.monotonic_ns())
    tracing.close()
    tracing.close()


@pytest.mark.parametrize(("ratio", "limit_us"), [(0.0, 100), (1.0, 400)])
def test_a_frame_of_ten_spans_stays_in_its_cpu_budget(tmp_path: Path, ratio: float, limit_us: float) -> None:
    def cost_us(count: int) -> float:
        tracing = Tracing("edge", instance="e1", sample_ratio=ratio, span_log=tmp_path)
        before = time.process_time()
        for index in range(count):
            frame = tracing.start_frame(f"e1.r.{index}", 0)
            for name in STEPS:
                frame.span(name, 0, 1, {"splitmesh.cut": "n60", "splitmesh.bytes": 1200})
            frame.traceparent()
            frame.finish(2, attributes={"splitmesh.reason": "best utility"})
        tracing.close(30)
        return (time.process_time() - before) / count * 1e6

    assert min(cost_us(400) for _ in range(3)) <= limit_us
