"""The spans of the last frames are there for whoever asks, whatever sampling says, and no more than so many."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

from splitmesh.telemetry.recent import MAX_SPANS_PER_FRAME, span_reports, span_rows
from splitmesh.telemetry.spanlog import read_spans
from splitmesh.telemetry.tracing import Tracing
from splitmesh.wire.control import SpansReply, spans_from

MS = 1_000_000


def finished(tracing: Tracing, frame_id: str, *, keep: bool = False) -> None:
    trace = tracing.start_frame(frame_id, 10 * MS)
    trace.span("decide", 11 * MS, 12 * MS)
    trace.span("offload", 12 * MS, 20 * MS, {"splitmesh.bytes": 99})
    trace.finish(21 * MS, keep=keep, attributes={"splitmesh.outcome": "split"})


def test_a_frame_that_was_not_sampled_is_remembered_and_not_logged(tmp_path: Path) -> None:
    tracing = Tracing("edge", instance="cam", sample_ratio=0.0, span_log=tmp_path, recent_frames=10)
    finished(tracing, "cam.r.1")
    finished(tracing, "cam.r.2", keep=True)
    tracing.close()
    rows = tracing.recent_rows("cam.r.1")
    assert [row.name for row in rows] == ["frame", "decide", "offload"]
    assert {row.parent_id for row in rows} == {None, rows[0].span_id}
    assert {row.frame_id for row in read_spans(tmp_path) if row.name == "frame"} == {"cam.r.2"}


def test_log_and_memory_tell_of_the_same_spans(tmp_path: Path) -> None:
    tracing = Tracing("edge", instance="cam", span_log=tmp_path, recent_frames=10)
    finished(tracing, "cam.r.1")
    tracing.close()
    assert sorted(read_spans(tmp_path), key=repr) == sorted(tracing.recent_rows("cam.r.1"), key=repr)


def test_only_the_last_frames_are_remembered() -> None:
    tracing = Tracing("edge", instance="cam", sample_ratio=0.0, recent_frames=3)
    for n in range(10):
        finished(tracing, f"cam.r.{n}")
    assert [bool(tracing.recent_rows(f"cam.r.{n}")) for n in range(10)] == [False] * 7 + [True] * 3
    tracing.close()


def test_without_a_memory_nothing_is_remembered() -> None:
    tracing = Tracing("edge", instance="cam")
    finished(tracing, "cam.r.1")
    assert tracing.recent_rows("cam.r.1") == []
    tracing.close()


def test_a_late_span_joins_its_frame_and_one_frame_takes_only_so_much() -> None:
    tracing = Tracing("edge", instance="cam", sample_ratio=0.0, recent_frames=3)
    trace = tracing.start_frame("cam.r.1", 10 * MS)
    trace.finish(20 * MS)
    trace.span("offload", 12 * MS, 30 * MS)
    assert [row.name for row in tracing.recent_rows("cam.r.1")] == ["frame", "offload"]
    for n in range(1000):
        trace.span("more", n, n + 1)
    assert len(tracing.recent_rows("cam.r.1")) == MAX_SPANS_PER_FRAME
    tracing.close()


def test_two_requests_for_one_frame_are_both_told_of() -> None:
    tracing = Tracing("cloud", instance="w", recent_frames=3)
    for parent in ("b7ad6b7169203331", "b7ad6b7169203332"):
        header = f"00-0af7651916cd43dd8448eb211c80319c-{parent}-00"
        tracing.continue_trace(header, 5 * MS, frame_id="cam.r.1").finish(6 * MS)
    assert {row.parent_id for row in tracing.recent_rows("cam.r.1")} == {"b7ad6b7169203331", "b7ad6b7169203332"}
    tracing.close()


def test_the_wire_form_keeps_its_own_bounds() -> None:
    tracing = Tracing("edge", instance="i" * 500, recent_frames=3)
    trace = tracing.start_frame("cam.r.1", 10 * MS)
    trace.finish(20 * MS, attributes={f"k{n}": ["a", "b" * 5000] for n in range(100)}, error="e" * 9999)
    (told,) = spans_from(SpansReply(spans=span_reports(tracing.recent_rows("cam.r.1"))).SerializeToString()).spans
    assert told.attributes["k1"].startswith("a; b") and told.end_unix_ns - told.start_unix_ns == 10 * MS
    assert told.trace_id.hex() == trace.trace_id and told.parent_id == b""
    tracing.close()


def test_the_wire_form_can_be_read_back() -> None:
    tracing = Tracing("edge", instance="cam", sample_ratio=0.0, recent_frames=10)
    finished(tracing, "cam.r.1")
    rows = tracing.recent_rows("cam.r.1")
    attributes = [{name: str(value) for name, value in row.attributes.items()} for row in rows]
    expected = [replace(row, attributes=each) for row, each in zip(rows, attributes, strict=True)]
    assert span_rows(reversed(span_reports(rows))) == expected
    tracing.close()


def test_many_threads_may_add_while_others_ask() -> None:
    tracing = Tracing("cloud", instance="w", recent_frames=50)

    def add(base: int) -> None:
        for n in range(300):
            finished(tracing, f"cam.r.{base + n}")
            tracing.recent_rows(f"cam.r.{n}")

    threads = [threading.Thread(target=add, args=(1000 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = sum(bool(tracing.recent_rows(f"cam.r.{1000 * base + n}")) for base in range(4) for n in range(300))
    assert held == 50
    tracing.close()
