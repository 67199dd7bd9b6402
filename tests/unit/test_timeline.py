from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmesh.frames.timeline import Stamp, Timeline

MS = 1_000_000
TICK = Fraction(1, 1000)


def stamps(*pts: int | None, frame_ms: int = 40) -> list[tuple[int, bool, bool]]:
    timeline = Timeline(TICK, frame_ms * MS)
    return [(s.pts_ns // MS, s.gap, s.reset) for s in map(timeline.stamp, pts)]


@pytest.mark.parametrize(
    ("pts", "expected"),
    [
        ((500, 540, 580), [(0, False, False), (40, False, False), (80, False, False)]),
        ((0, 40, 160), [(0, False, False), (40, False, False), (160, False, False)]),
        ((0, 40, 161), [(0, False, False), (40, False, False), (161, True, False)]),
        ((0, 40, 80, 0, 40), [(0, 0, 0), (40, 0, 0), (80, 0, 0), (120, False, True), (160, False, False)]),
        ((0, 40, 3_600_040, 3_600_080), [(0, 0, 0), (40, 0, 0), (80, True, True), (120, False, False)]),
        ((None, None, None), [(0, 0, 0), (40, 0, 0), (80, 0, 0)]),
        ((0, None, 80), [(0, 0, 0), (40, 0, 0), (80, 0, 0)]),
        ((None, 7000, 7040), [(0, 0, 0), (40, 0, 0), (80, 0, 0)]),
    ],
    ids=[
        "offset",
        "no gap yet",
        "gap",
        "clock restarts",
        "clock jumps",
        "none",
        "one none",
        "late start",
    ],
)
def test_table(pts: tuple[int | None, ...], expected: list[tuple[int, bool, bool]]) -> None:
    assert stamps(*pts) == [(a, bool(b), bool(c)) for a, b, c in expected]


def test_a_repeated_time_stamp_keeps_order_and_mapping() -> None:
    timeline = Timeline(TICK, 40 * MS)
    seen = [timeline.stamp(pts) for pts in (0, 40, 40, 80)]
    assert [s.pts_ns for s in seen] == [0, 40 * MS, 40 * MS + 1, 80 * MS]
    assert not any(s.reset or s.gap for s in seen)


def test_a_stuck_clock_is_replaced_by_the_nominal_rate_until_it_moves_again() -> None:
    timeline = Timeline(TICK, 40 * MS)
    seen = [timeline.stamp(pts) for pts in (0, 0, 0, 0, 0, 0, 40, 80)]
    steps = [b.pts_ns - a.pts_ns for a, b in pairwise(seen)]
    assert steps == [1, 1, 40 * MS, 40 * MS, 40 * MS, 40 * MS, 40 * MS]
    assert not any(s.reset or s.gap for s in seen)


def test_restart_continues_one_frame_later() -> None:
    timeline = Timeline(TICK, 40 * MS)
    for pts in (0, 40, 80):
        timeline.stamp(pts)
    timeline.restart()
    assert timeline.stamp(0) == Stamp(120 * MS, gap=False, reset=True)
    assert timeline.stamp(40) == Stamp(160 * MS)


def test_restart_after_an_outage_is_a_gap_of_its_length() -> None:
    timeline = Timeline(TICK, 40 * MS)
    timeline.stamp(90_000)
    timeline.restart(time_base=Fraction(1, 90_000), elapsed_ns=7_000 * MS)
    assert timeline.stamp(12) == Stamp(7_000 * MS, gap=True, reset=True)
    assert timeline.stamp(12 + 3600) == Stamp(7_040 * MS)


def test_restart_before_the_first_frame_changes_nothing_but_the_units() -> None:
    timeline = Timeline(TICK, 40 * MS)
    timeline.restart(time_base=Fraction(1, 10))
    assert timeline.stamp(5) == Stamp(0)
    assert timeline.stamp(6) == Stamp(100 * MS)


def test_long_runs_do_not_drift() -> None:
    timeline = Timeline(Fraction(1001, 30000), 33_366_666)
    last = [timeline.stamp(pts) for pts in range(0, 100_000)][-1]
    assert last.pts_ns == 99_999 * 1001 * 1_000_000_000 // 30000


@pytest.mark.parametrize(("base", "frame_ns"), [(Fraction(0), 1), (Fraction(1, 30), 0), (Fraction(-1, 30), 5)])
def test_refuses_units_that_make_no_sense(base: Fraction, frame_ns: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        Timeline(base, frame_ns)


@given(
    st.lists(st.one_of(st.none(), st.integers(-(2**40), 2**40)), max_size=60),
    st.sets(st.integers(0, 59)),
    st.sampled_from([Fraction(1, 90_000), Fraction(1, 1000), Fraction(1001, 30_000)]),
)
def test_always_moves_forward_and_never_jumps_far(pts: list[int | None], restarts: set[int], base: Fraction) -> None:
    timeline = Timeline(base, 33 * MS)
    last = -1
    for index, value in enumerate(pts):
        if index in restarts:
            timeline.restart()
        stamp = timeline.stamp(value)
        assert stamp.pts_ns > last
        assert last < 0 or stamp.pts_ns - last <= 10_000 * MS
        last = stamp.pts_ns
