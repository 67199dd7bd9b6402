"""What a backlog takes from the frames behind, by hand and in order; and what comes of it in simulated runs."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmesh.policy.frames_behind import FramesBehind
from splitmesh.policy.point import Place
from splitmesh.sim.plan import SimPlan
from splitmesh.sim.result import RunResult
from splitmesh.sim.run import simulate
from splitmesh.sim.scenario import Burst, Scenario

sys.path.append(str(Path(__file__).parent))
from sim_values import H264, JPEG, LOCAL, POINTS, STILL, TRACK, U8, steady

CAMERA = Scenario(duration_s=10.0, fps=25.0, deadline_ms=150.0, edge_slowdown=4.0)
STEEP = (1.0, 1.0, 0.5, 0.5)
"""A cut that is worth 1 up to 20 ms of backlog, and from 40 ms on no more than what needs no device."""


def lost(
    device_ms: float,
    *,
    backlog_ms: float = 0.0,
    without: float = 0.5,
    head_ms: float = 30.0,
    values: tuple[float, ...] = STEEP,
) -> float:
    return FramesBehind(40.0, without, head_ms, values, 20.0).lost(backlog_ms=backlog_ms, device_ms=device_ms)


def test_a_device_that_is_free_in_time_loses_nothing() -> None:
    assert lost(40.0) == lost(60.0) == 0.0


def test_a_frame_that_finds_the_device_taken_loses_its_cut() -> None:
    """80 ms: the next frame meets 40 and makes do without, the one after it meets none."""
    assert lost(80.0) == lost(40.0, backlog_ms=40.0) == pytest.approx(0.9 * 0.5)
    assert lost(120.0) == pytest.approx((0.9 + 0.81) * 0.5)


def test_between_two_backlogs_a_cut_is_worth_what_lies_between() -> None:
    assert lost(45.0, without=0.0, head_ms=0.0, values=(1.0, 0.6)) == pytest.approx(0.9 * 0.1)


def test_a_cut_that_takes_more_than_a_frame_period_is_had_by_every_other_frame() -> None:
    weights = [0.9**n for n in range(1, 9)]
    # From a free device: the first, third, …; once a frame was given it, the second, fourth, …
    wanted = 0.1 * (sum(weights[::2]) - sum(weights[1::2]))
    assert lost(80.0, without=0.9, head_ms=80.0, values=(1.0, 1.0, 0.0)) == pytest.approx(wanted)


def test_where_nothing_better_needs_the_device_its_time_is_free() -> None:
    assert lost(500.0, backlog_ms=100.0, without=1.0) == 0.0


@given(
    st.floats(0, 1),
    st.floats(0, 200),
    st.lists(st.floats(0, 1), min_size=1, max_size=8),
    st.floats(0, 500),
    st.floats(0, 500),
)
def test_no_loss_is_greater_than_all_that_there_is(
    without: float, head_ms: float, values: list[float], backlog_ms: float, device_ms: float
) -> None:
    falling = tuple(sorted(values, reverse=True))
    given_up = lost(device_ms, backlog_ms=backlog_ms, without=without, head_ms=head_ms, values=falling)
    assert abs(given_up) <= 9 * max(0.0, falling[0] - without) + 1e-9


# -- in runs ---------------------------------------------------------------------------------------------------------


def run(bps: float, scenario: Scenario, *points: str) -> RunResult:
    kept = [point for point in POINTS if not point.remote or point.name in points]
    plan = SimPlan(tuple(kept), 5.0, {point.name: STILL for point in kept})
    return simulate(plan, "adaptive", steady(bps), scenario, seed=0)


def places(result: RunResult, scenario: Scenario, start_s: float, end_s: float) -> Counter[Place]:
    """Where the frames captured in [start_s, end_s) were decided to run."""
    of = {point.name: point.place for point in POINTS}
    at = enumerate(result.frames)
    return Counter(of[each.point] for seq, each in at if start_s <= seq / scenario.fps < end_s)


def test_beside_pictures_the_idle_device_runs_the_whole_model() -> None:
    """64 ms of 40: more than half of all frames, where nothing but a picture stream fits the link."""
    seen = places(run(4e5, CAMERA, H264.name), CAMERA, 2, 10)
    assert seen[Place.LOCAL] >= 0.5 * seen.total() and seen[Place.FRAME] >= 0.35 * seen.total()


def test_where_cuts_keep_the_device_busy_it_runs_nothing_else() -> None:
    """Heads of 39 of 40 ms, at .99, and beside them whole runs of 89 ms that would each cost three frames theirs."""
    slow = replace(CAMERA, edge_slowdown=5.6, deadline_ms=120.0)
    seen = places(run(8e7, slow, U8.name, JPEG.name), slow, 2, 10)
    assert seen[Place.SPLIT] >= 0.9 * seen.total(), seen


def test_on_a_device_slower_than_the_camera_cuts_and_pictures_take_turns() -> None:
    slow = replace(CAMERA, edge_slowdown=7.0, deadline_ms=200.0)
    result = run(8e7, slow, U8.name, JPEG.name)
    seen = places(result, slow, 2, 10)
    assert min(seen[Place.SPLIT], seen[Place.FRAME]) >= 0.15 * seen.total(), seen
    assert result.figures().utility > JPEG.fidelity + 0.03


def test_after_a_burst_of_other_work_the_device_is_tried_again_soon() -> None:
    burst = replace(CAMERA, edge_bursts=(Burst(4.0, 2.0, 4.0),))
    result = run(8e7, burst, U8.name, JPEG.name)
    assert places(result, burst, 5, 6)[Place.FRAME] >= 15, "while it lasts, pictures"
    seen = places(result, burst, 6.8, 10)
    assert seen[Place.SPLIT] + seen[Place.LOCAL] >= 0.8 * seen.total(), seen


def test_heads_that_never_come_to_an_end_are_not_asked_for_again_and_again() -> None:
    """From 4 s on a head takes 168 of 145 ms."""
    burst = replace(CAMERA, edge_bursts=(Burst(4.0, 6.0, 6.0),))
    result = run(8e7, burst, U8.name, JPEG.name)
    seen = places(result, burst, 5, 10)
    assert seen[Place.FRAME] >= 0.85 * seen.total(), seen


def test_nothing_but_the_tracker_and_the_model() -> None:
    """Without a point that can be sent the device has its queue's price, and no frame behind loses anything."""
    assert {TRACK.name, LOCAL.name} == {each.point for each in run(8e6, CAMERA).frames}
