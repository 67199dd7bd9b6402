"""What is watched, for how long, and for how many bytes. Time and the link are numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmesh.edge.recall import Recall, Settled
from splitmesh.edge.watching import (
    CONGESTED_AFTER_MS,
    LINK_SHARE,
    LONG_BACKLOG_MS,
    MAX_LEASES,
    MAX_UNSENT_BYTES,
    PROTOCOL_BYTES,
    Watching,
)
from splitmesh.frames.answer import Answer
from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.v1 import control_pb2 as pb
from splitmesh.wire.control import BadField

S = 1_000_000_000
START = 50 * S
FAST_BPS = 1e9


def settled(seq: int = 0, *, boxes: int = 1) -> Settled:
    answer = Answer(np.zeros((boxes, 4), np.float32), np.zeros(boxes, np.float32), np.zeros(boxes, np.uint16))
    record = FrameRecord(
        f"cam.r.{seq}", seq, seq, 0, 0, Outcome.LOCAL, "local", "why", 150.0, 80.0, True, answer=answer
    )
    return Settled(record, 0.5)


def grant(watching: Watching, now_ns: int = START, **fields: Any) -> float:
    known: dict[str, Any] = {"lease_s": 10.0, "frames": True}
    return watching.grant(pb.WatchRequest(**(known | fields)), now_ns)


def look(watching: Watching, now_ns: int, *, bps: float = FAST_BPS, backlog_ms: float = 0.0, unsent: int = 0) -> None:
    watching.look(now_ns, bandwidth_bps=bps, backlog_ms=backlog_ms, unsent_bytes=unsent)


def taken(watching: Watching) -> list[int]:
    """Their numbers; what a message of them would take is spent."""
    made, _ = watching.take_frames()
    if made:
        watching.spent(pb.FrameReports(frames=made).ByteSize())
    return [report.seq for report in made]


def test_nothing_is_kept_of_what_nobody_watches() -> None:
    watching = Watching()
    watching.settled(settled(1))
    look(watching, START)
    assert not watching.active and taken(watching) == []
    grant(watching)
    look(watching, START + S)
    assert taken(watching) == []
    watching.settled(settled(2))
    assert taken(watching) == [2]


def test_a_lease_ends_by_itself_and_can_be_renewed() -> None:
    watching = Watching()
    assert grant(watching, lease_s=2.0) == 2.0
    look(watching, START + 1 * S)
    grant(watching, START + S, lease_s=2.0)
    look(watching, START + 3 * S - 1)
    assert watching.active
    look(watching, START + 3 * S)
    assert not watching.active


def test_a_shorter_renewal_does_not_cut_another_watch_short() -> None:
    watching = Watching()
    grant(watching, lease_s=10.0)
    grant(watching, lease_s=1.0)
    look(watching, START + 5 * S)
    assert watching.active


def test_of_several_watches_the_most_curious_one_counts() -> None:
    watching = Watching()
    grant(watching, lease_s=10.0, frames=False, preview_fps=1, preview_px=200, max_bytes_per_s=2000)
    grant(watching, lease_s=5.0, answers=True, preview_fps=4, preview_px=100, max_bytes_per_s=9000)
    look(watching, START + S)
    assert watching.bytes_per_s == 9000
    watching.settled(settled(1))
    (report,), _ = watching.take_frames()
    assert report.HasField("answer")
    look(watching, START + 6 * S)
    watching.settled(settled(2))
    assert watching.bytes_per_s == 2000 and taken(watching) == []


def test_there_are_only_so_many_different_watches() -> None:
    watching = Watching()
    for n in range(MAX_LEASES):
        grant(watching, preview_px=100 + n)
    grant(watching, preview_px=100)
    with pytest.raises(BadField) as raised:
        grant(watching, preview_px=99)
    assert raised.value.field == "watch"
    grant(watching, START + 11 * S, preview_px=99)


def test_frames_that_do_not_fit_are_counted() -> None:
    watching = Watching()
    grant(watching, max_bytes_per_s=300)
    look(watching, START + S)
    for seq in range(10):
        watching.settled(settled(seq))
    made, left_out = watching.take_frames()
    assert len(made) + left_out == 10 and 0 < len(made) < 5
    assert sum(report.ByteSize() for report in made) <= 300


def test_what_is_left_out_is_counted_from_the_beginning_of_the_watch() -> None:
    watching = Watching()
    for start in (START, START + 20 * S):
        grant(watching, start, max_bytes_per_s=300)
        look(watching, start + S)
        for seq in range(1000):
            watching.settled(settled(seq))
        made, left_out = watching.take_frames()
        assert len(made) + left_out == 1000
        look(watching, start + 15 * S)


@given(
    st.lists(st.tuples(st.integers(1, 500), st.integers(0, 30)), min_size=1, max_size=60),
    st.integers(200, 50_000),
    st.floats(1e4, 1e8),
)
def test_no_more_is_sent_than_was_asked_for_nor_than_its_share(
    steps: list[tuple[int, int]], limit: int, bps: float
) -> None:
    """steps: (ms until the next look, frames that settle before)."""
    watching, now_ns, sent, frames, told = Watching(), START, 0, 0, 0
    grant(watching, lease_s=60.0, max_bytes_per_s=limit)
    for wait_ms, count in steps:
        for _ in range(count):
            watching.settled(settled(frames))
            frames += 1
        now_ns += wait_ms * 1_000_000
        look(watching, now_ns, bps=bps)
        made, left_out = watching.take_frames()
        if made:
            size = pb.FrameReports(frames=made).ByteSize()
            watching.spent(size)
            sent += size + PROTOCOL_BYTES
        told += len(made)
        assert told + left_out == frames
    rate = min(limit, LINK_SHARE * bps / 8)
    assert sent <= rate * (now_ns - START) / 1e9 + 1


def test_a_clogged_socket_gets_nothing() -> None:
    watching = Watching()
    grant(watching)
    watching.settled(settled(1))
    look(watching, START + S, unsent=MAX_UNSENT_BYTES + 1)
    assert taken(watching) == []
    look(watching, START + 2 * S)
    assert taken(watching) == [1]


def test_a_long_backlog_ends_previews_and_leaves_frames_little() -> None:
    watching = Watching()
    grant(watching, preview_fps=10)
    look(watching, START + S, bps=1e6)
    calm = watching.bytes_per_s
    assert watching.preview_px(START + S) == 640
    assert watching.previewed(1000)
    busy_ns = START + S + 300_000_000
    look(watching, busy_ns, bps=1e6, backlog_ms=LONG_BACKLOG_MS + 1)
    assert watching.preview_px(busy_ns) == 640, "one large payload is no long backlog"
    late_ns = START + S + round(CONGESTED_AFTER_MS * 1e6)
    look(watching, late_ns, bps=1e6, backlog_ms=LONG_BACKLOG_MS + 1)
    assert not watching.previewed(1000), "it is made, and no longer to be sent"
    assert watching.preview_px(late_ns + S) is None
    assert 0 < watching.bytes_per_s < calm / 2
    look(watching, late_ns + 2 * S, bps=1e6)
    assert watching.preview_px(late_ns + 2 * S) == 640


@pytest.mark.parametrize(
    ("frame_ms", "fps", "least", "most"), [(40, 5, 48, 51), (40, 12.5, 120, 126), (66, 30, 150, 153)]
)
def test_previews_come_as_often_as_asked_and_no_more_often_than_frames(
    frame_ms: int, fps: float, least: int, most: int
) -> None:
    watching = Watching()
    grant(watching, lease_s=60.0, preview_fps=fps, max_bytes_per_s=12_000_000)
    made = 0
    for now_ns in range(START + S, START + 11 * S, frame_ms * 1_000_000):
        look(watching, now_ns)
        if watching.preview_px(now_ns) is not None:
            assert watching.preview_px(now_ns) is None, "one at a time"
            assert watching.previewed(10_000)
            watching.spent(10_000)
            made += 1
    assert least <= made <= most


def test_previews_keep_to_the_bytes() -> None:
    watching = Watching()
    grant(watching, lease_s=60.0, preview_fps=30, max_bytes_per_s=50_000)
    sent = 0
    for now_ns in range(START, START + 10 * S, 40_000_000):
        look(watching, now_ns)
        if watching.preview_px(now_ns) is not None and watching.previewed(20_000):
            watching.spent(20_000)
            sent += 20_000
    assert 300_000 <= sent <= 500_000


def test_a_preview_that_failed_does_not_end_previews() -> None:
    watching = Watching()
    grant(watching, preview_fps=10)
    look(watching, START + S)
    assert watching.preview_px(START + S) == 640
    assert not watching.previewed(0)
    assert watching.preview_px(START + 2 * S) == 640


def test_an_answer_that_no_message_holds_does_not_cost_its_frame() -> None:
    watching = Watching()
    grant(watching, answers=True)
    look(watching, START + S)
    watching.settled(settled(1, boxes=9000))
    (report,), left_out = watching.take_frames()
    assert report.seq == 1 and not report.HasField("answer") and not left_out


def test_the_last_frames_are_remembered_without_their_tensors() -> None:
    recall = Recall(3)
    entry = settled(0)
    tensors = {"mask": np.zeros((4, 4), np.uint8)}
    recall.add(replace(entry.record, answer=replace(entry.record.answer, tensors=tensors)), 0.25)
    kept = recall.get("cam.r.0")
    assert kept is not None and not kept.record.answer.tensors and len(kept.record.answer) == 1
    for seq in range(1, 5):
        recall.add(settled(seq).record, 0.5)
    assert recall.get("cam.r.0") is None and recall.get("cam.r.1") is None
    assert [each.record.seq for each in recall.last(2)] == [3, 4]
    assert [each.record.seq for each in recall.last(99)] == [2, 3, 4] and recall.last(0) == []
