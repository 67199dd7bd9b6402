"""The span log: bounded, survives torn lines and bad disks, and never raises into its writer."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from splitmesh.errors import OutputError
from splitmesh.telemetry.spanlog import SpanLog, frame_spans, read_spans
from splitmesh.telemetry.spanrow import FRAME_ID, SpanRow, plain_attributes


def row(index: int, *, trace: int = 1, frame_id: str | None = None, parent: str | None = None) -> SpanRow:
    attributes = {FRAME_ID: frame_id} if frame_id else {}
    return SpanRow(f"{trace:032x}", f"{index:016x}", parent, "head", "edge", "e1", index, index + 5, attributes)


def test_rows_come_back_in_order_of_start(tmp_path: Path) -> None:
    log = SpanLog(tmp_path, "edge", "e1")
    log.write([row(3), row(1)], 0)
    log.write([row(2)], 0)
    log.close()
    assert [each.start_unix_ns for each in read_spans(tmp_path)] == [1, 2, 3]
    assert log.written == 3


def test_every_field_survives(tmp_path: Path) -> None:
    full = SpanRow(
        "a" * 32, "b" * 16, "c" * 16, "offload", "edge", "e1", 5, 9,
        {"splitmesh.bytes": 12, "splitmesh.ok": True, "splitmesh.p": 0.5, "splitmesh.codec": "u8lz4"},
        [{"name": "timer", "unix_ns": 7, "attributes": {"why": "late"}}],
        "too late",
    )  # fmt: skip
    log = SpanLog(tmp_path, "edge", "e1")
    log.write([full], 0)
    log.close()
    assert read_spans(tmp_path) == [full]


def test_two_segments_bound_the_disk_and_the_newest_stay(tmp_path: Path) -> None:
    log = SpanLog(tmp_path, "edge", "e1", max_bytes=4000)
    for index in range(200):
        log.write([row(index)], 0)
    log.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 4000
    kept = [each.start_unix_ns for each in read_spans(tmp_path)]
    assert kept == list(range(200 - len(kept), 200))
    assert len(kept) > 5


def test_one_big_write_is_split_over_segments(tmp_path: Path) -> None:
    log = SpanLog(tmp_path, "edge", "e1", max_bytes=4000)
    log.write([row(index) for index in range(200)], 0)
    log.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 4000
    assert read_spans(tmp_path)[-1].start_unix_ns == 199


def test_a_restarted_process_appends_after_a_torn_line(tmp_path: Path) -> None:
    log = SpanLog(tmp_path, "edge", "e1")
    log.write([row(1)], 0)
    log.close()
    with log.path.open("a") as file:
        file.write('{"trace_id":"aaaa","span')
    again = SpanLog(tmp_path, "edge", "e1")
    again.write([row(2)], 0)
    again.close()
    assert [each.start_unix_ns for each in read_spans(tmp_path)] == [1, 2]


@pytest.mark.parametrize("line", ["", "{", "[]", "7", '{"trace_id": 1}', "\x00\x00", '{"a": 1, "name": "x"}'])
def test_lines_that_are_no_spans_are_skipped(tmp_path: Path, line: str) -> None:
    log = SpanLog(tmp_path, "edge", "e1")
    log.write([row(1)], 0)
    log.close()
    with log.path.open("a") as file:
        file.write(line + "\n")
    assert len(read_spans(tmp_path)) == 1


def test_a_folder_that_can_not_be_made_warns_once_and_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    log = SpanLog(blocker / "spans", "edge", "e1")
    with caplog.at_level(logging.WARNING):
        for index in range(50):
            log.write([row(index)], index * 1_000_000_000)
    assert log.dropped == 50
    assert len(caplog.records) == 1
    assert "can't be written" in caplog.text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, the device that is always full")
def test_a_full_disk_costs_spans_until_there_is_room_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = SpanLog(tmp_path, "edge", "e1")
    log.path.symlink_to("/dev/full")
    log.write([row(1), row(2)], 0)
    assert (log.written, log.dropped) == (0, 2)
    log.path.unlink()
    log.write([row(3)], 1_000_000_000)
    assert log.dropped == 3, "retried too soon"
    log.write([row(4)], 11_000_000_000)
    log.close()
    assert (log.written, log.dropped) == (1, 3)
    assert [each.start_unix_ns for each in read_spans(tmp_path)] == [4]
    assert "written again; 3 spans were lost" in caplog.text


def test_what_was_written_is_on_disk_without_a_close(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        SpanLog(tmp_path, "edge", "e1").write([row(1)], 0)
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    assert len(read_spans(tmp_path)) == 1


def test_a_frame_has_the_spans_of_every_process_in_its_trace(tmp_path: Path) -> None:
    edge, cloud = SpanLog(tmp_path / "edge", "edge", "e1"), SpanLog(tmp_path / "cloud", "cloud", "w1")
    edge.write([row(1, frame_id="e1.r.7"), row(2, parent=f"{1:016x}"), row(9, trace=2, frame_id="e1.r.8")], 0)
    cloud.write([row(3)], 0)
    edge.close()
    cloud.close()
    rows = read_spans(tmp_path)
    assert [each.start_unix_ns for each in frame_spans(rows, "e1.r.7")] == [1, 2, 3]
    assert [each.start_unix_ns for each in read_spans(tmp_path, trace_id=f"{1:032x}")] == [1, 2, 3]
    assert frame_spans(rows, "e1.r.9") == []


def test_no_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere"):
        read_spans(tmp_path / "nowhere")


def test_attributes_become_what_otlp_and_json_take() -> None:
    from splitmesh.frames.outcome import Outcome

    given = {
        "outcome": Outcome.LOCAL, "none": None, "nan": float("nan"), "mixed": (1, "a"), "many": [1, 2],
        "at": Path("x"),
    }  # fmt: skip
    assert plain_attributes(given) == {
        "outcome": "local", "nan": "nan", "mixed": ["1", "a"], "many": [1, 2], "at": "x",
    }  # fmt: skip
