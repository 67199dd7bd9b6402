import itertools

import pytest

from splitmesh.media.pacing import Pacer, Thinner

S = 1_000_000_000


def test_the_first_picture_sets_the_clock() -> None:
    pacer = Pacer()
    assert [pacer.capture_ns(pts, 100 * S) for pts in (3 * S, 4 * S, 5 * S)] == [100 * S, 101 * S, 102 * S]


def test_a_late_decoder_does_not_move_capture_times() -> None:
    pacer = Pacer()
    pacer.capture_ns(0, 100 * S)
    assert pacer.capture_ns(S, 102 * S) == 101 * S
    assert pacer.resyncs == 0


def test_after_a_long_stall_the_clock_is_set_anew_once() -> None:
    pacer = Pacer()
    pacer.capture_ns(0, 100 * S)
    assert pacer.capture_ns(S, 102 * S + 1) == 102 * S + 1
    assert pacer.capture_ns(2 * S, 102 * S + 2) == 103 * S + 1
    assert pacer.resyncs == 1


@pytest.mark.parametrize(
    ("source_fps", "max_fps", "kept"),
    [(25, 10, 10), (30, 10, 10), (10, 10, 10), (10, 25, 10), (29.97, 15, 15), (24, 7, 7), (25, None, 25)],
)
def test_a_lower_rate_is_kept_on_the_whole(source_fps: float, max_fps: float | None, kept: float) -> None:
    thinner = Thinner(max_fps)
    pts = [round(i / source_fps * 1000) * 1_000_000 for i in range(int(20 * source_fps))]  # whole milliseconds
    taken = [t for t in pts if thinner.takes(t)]
    assert abs(len(taken) / 20 - kept) <= 0.15
    assert taken[0] == 0
    gaps = {b - a for a, b in itertools.pairwise(taken)}
    assert max(gaps) - min(gaps) <= 1e9 / source_fps + 1_000_001, "as even as the source allows"


def test_a_gap_or_a_clock_that_jumps_back_does_not_burst_or_starve() -> None:
    thinner = Thinner(10)
    assert [thinner.takes(t * S // 100) for t in (0, 5, 10, 500, 505, 510, 200, 205, 210)] == [
        *(True, False, True), *(True, False, True), *(True, False, True),
    ]  # fmt: skip
