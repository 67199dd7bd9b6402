"""`splitmesh why`: finds the frame, tells decision and measurement, and draws spans of both processes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from splitmesh.cli.main import run
from splitmesh.cli.story import Story, bar, placed
from splitmesh.cli.why import nearest, run_folder
from splitmesh.errors import MeshError
from splitmesh.frames.answer import Answer
from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.telemetry.spanrow import SpanRow
from splitmesh.telemetry.tracing import Tracing


def record(seq: int, trace_id: str | None = None) -> FrameRecord:
    return FrameRecord(
        f"lab-edge.r1.{seq}", seq, seq, seq * 40_000_000, seq * 40_000_000, Outcome.RESUMED, "split/n60/u8zstd-4",
        "best utility: split in time for sure", 150.0, 131.5, True, 85.0, 0.97,
        [{"point": "local", "predicted_ms": 190.0, "p_hit": 0.02, "utility": 0.11}], 13_100,
        {"head": 42.0, "encode": 1.2}, {"bandwidth_bps": 2.5e6, "base_ms": 21.0, "backlog_bytes": 4000.0},
        "worker-1", trace_id, "timer",
    )  # fmt: skip


@pytest.fixture
def lab_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of five frames; frame 2 has spans of both processes."""
    folder = tmp_path / "lab-out" / "20260101-000000"
    folder.mkdir(parents=True)
    edge = Tracing("edge", instance="lab-edge", span_log=folder / "spans" / "edge")
    cloud = Tracing("cloud", instance="lab-cloud", span_log=folder / "spans" / "cloud")
    frame = edge.start_frame("lab-edge.r1.2", 0)
    frame.span("decide", 4_000_000, 5_000_000)
    work = cloud.continue_trace(frame.traceparent("offload"), 60_000_000, frame_id="lab-edge.r1.2")
    work.span("tail", 70_000_000, 90_000_000)
    work.finish(95_000_000)
    frame.span("offload", 50_000_000, 110_000_000)
    frame.finish(131_500_000)
    edge.close()
    cloud.close()
    lines = [record(seq, frame.trace_id if seq == 2 else None).to_json_line() for seq in range(5)]
    (folder / "results.jsonl").write_text("\n".join(lines) + '\n{"torn')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return folder


@pytest.mark.parametrize("wanted", ["2", "lab-edge.r1.2"])
def test_the_whole_story(lab_run: Path, wanted: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["why", wanted]) == 0
    out = capsys.readouterr().out
    for words in (
        "lab-edge.r1.2", "the edge ran the tail itself", "131.5 ms", "in time", "deadline 150 ms",
        "split/n60/u8zstd-4", "best utility: split in time for sure", "timer",
        "85.0 ms from the decision, 97% sure", "127.5 ms from the decision (+42.5 ms off)",
        "2.50 Mbit/s", "13,100 bytes to worker-1", "local", "190.0", "2.0%",
        "head 42.0", "decide", "offload", "worker", "tail", "cloud", "█",
    ):  # fmt: skip
        assert words in out, words
    assert out.index("offload") < out.index("worker  ") < out.index("tail  ")


def test_as_json(lab_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["why", "2", "--from", str(lab_run), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["frame"]["seq"] == 2
    assert {span["name"] for span in told["spans"]} == {"frame", "decide", "offload", "worker", "tail"}


def test_a_frame_that_was_not_sampled_still_has_a_story(lab_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["why", "3"]) == 0
    out = capsys.readouterr().out
    assert "split/n60/u8zstd-4" in out and "not sampled" in out


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer.empty(), "0 object(s) found"),
        (Answer.of_tensors({"mask": np.eye(4, 6, dtype=np.uint8)}), "a mask of 6x4 with 2 class(es)"),
        (
            Answer.of_tensors({"emb": np.zeros((1, 9)), "n": np.zeros((), np.int64)}),
            "emb 1x9 float32; n scalar int64",
        ),
        (
            Answer(np.float32([[0, 0, 1, 1]] * 2), np.float32([0.75, 0.1]), np.uint16([7, 8])),
            "best class 7 of the 2 that were kept (0.75)",
        ),
    ],
)
def test_what_was_found(
    lab_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, answer: Answer, words: str
) -> None:
    (lab_run / "results.jsonl").write_text(replace(record(0), answer=answer).to_json_line())
    assert run(["why", "0"]) == 0
    out = capsys.readouterr().out
    assert words in out and ("object(s)" in out) is ("object(s)" in words)


def test_an_answer_too_large_for_its_line_is_told(lab_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lab_run / "results.jsonl").write_text(replace(record(0), left_out_bytes=2_500_000).to_json_line())
    assert run(["why", "0"]) == 0
    assert "an answer of 2,500,000 bytes, too large" in capsys.readouterr().out


def test_an_unknown_frame_names_the_nearest(lab_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["why", "99"]) == 1
    err = capsys.readouterr().err
    assert "no frame 99" in err and "nearest: lab-edge.r1.4, lab-edge.r1.3, lab-edge.r1.2" in err


def test_nearest_by_spelling() -> None:
    assert nearest("lab-edge.r1.x", {"lab-edge.r1.7": 7, "zzz": 1}) == ("lab-edge.r1.7",)


def test_where_the_run_is_looked_for(lab_run: Path, tmp_path: Path) -> None:
    assert run_folder(None, tmp_path) == lab_run
    assert run_folder(lab_run, tmp_path) == lab_run
    (tmp_path / "lab-out" / "latest").symlink_to(lab_run)
    assert run_folder(None, tmp_path).name == "latest"
    with pytest.raises(MeshError, match=r"results\.jsonl"):
        run_folder(tmp_path / "nowhere", tmp_path)


def span(name: str, start: int, end: int, *, parent: str | None, service: str = "edge") -> SpanRow:
    return SpanRow("t", name, parent, name, service, service, start, end)


def test_a_strange_clock_is_moved_into_the_request_that_it_served() -> None:
    spans = (
        span("frame", 0, 100, parent=None),
        span("offload", 20, 60, parent="frame"),
        span("worker", 5000, 5020, parent="offload", service="cloud"),
        span("tail", 5005, 5010, parent="worker", service="cloud"),
    )
    rows = {row.span.name: row for row in placed(spans)}
    assert (rows["worker"].span.start_unix_ns, rows["worker"].span.end_unix_ns) == (30, 50)
    assert rows["tail"].span.start_unix_ns == 35
    assert rows["tail"].moved_ms == pytest.approx(-4970 / 1e6)
    assert [row.depth for row in placed(spans)] == [0, 1, 2, 3]


def test_a_span_whose_parent_is_lost_hangs_below_the_frame() -> None:
    rows = placed((span("frame", 0, 100, parent=None), span("late", 50, 60, parent="gone")))
    assert [(row.span.name, row.depth) for row in rows] == [("frame", 0), ("late", 1)]


def test_measured_ends_where_the_result_is_handed_on() -> None:
    spans = (
        span("frame", 0, 100_000_000, parent=None),
        span("decide", 10_000_000, 11_000_000, parent="frame"),
        span("emit", 90_000_000, 100_000_000, parent="frame"),
    )
    assert Story(record(1), spans).measured_ms == pytest.approx(80.0)


def test_measured_needs_both_spans() -> None:
    assert Story(record(1), ()).measured_ms is None


@pytest.mark.parametrize(
    ("start", "end", "cells"),
    [(0, 1, (0, 10)), (0.5, 0.5, (5, 6)), (1, 1, (9, 10)), (0.31, 0.69, (3, 7)), (-1, 2, (0, 10))],
)
def test_a_bar_is_never_empty_nor_outside(start: float, end: float, cells: tuple[int, int]) -> None:
    assert bar(start, end, 10) == cells
