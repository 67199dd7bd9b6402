"""What audits teach of operating points' fidelity: how fast, within which bounds, and what the world believes."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmesh.policy.audit import AuditSchedule
from splitmesh.policy.fidelity import LEAST_RATIO, MOST_RATIO, MOVING, ContentFidelity, erring, family, family_name
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.world import World

sys.path.append(str(Path(__file__).parent))
from sim_values import H264, JPEG, LOCAL, POINTS, TEMPORAL, TRACK, U8

COARSER = replace(H264, name="frame/h264-32", level=32, fidelity=0.8)
SMALL = OperatingPoint("local/small", Place.LOCAL, 0.8, edge_ms=4.0, variant="small")
MS = 1_000_000


def audited(count: int, error: float, point: OperatingPoint = H264, *, moving: bool = True) -> ContentFidelity:
    made = ContentFidelity()
    for _ in range(count):
        assert made.audit(point, 1 - error, moving=moving)
    return made


def test_without_audits_points_are_what_the_plan_says() -> None:
    believed = ContentFidelity().believed(POINTS, moving=True)
    assert all(mine is planned for mine, planned in zip(believed, POINTS, strict=True))


def test_a_family_is_learnt_at_every_level_and_no_other_with_it() -> None:
    made = audited(300, 3 * (1 - H264.fidelity))
    fine, coarse, others = made.believed((H264, COARSER, JPEG), moving=True)
    assert fine.fidelity == pytest.approx(1 - 0.36, abs=0.02)
    assert coarse.fidelity == pytest.approx(1 - 0.6, abs=0.04)
    assert others is JPEG


def test_one_odd_frame_changes_little_and_many_much() -> None:
    assert 1.0 < audited(1, 0.5).ratio(H264, moving=True) < 1.5
    assert audited(40, 0.36).ratio(H264, moving=True) > 2.4


def test_errors_that_come_seldom_but_whole_are_what_they_are_in_the_mean() -> None:
    """As a classifier's do, which is right or wrong."""
    made = ContentFidelity()
    for count in range(400):
        made.audit(H264, float(count % 4 > 0), moving=True)
    assert made.ratio(H264, moving=True) == pytest.approx(0.25 / 0.12, rel=0.1)


def test_content_has_bins_and_one_that_was_never_seen_is_as_its_family() -> None:
    made = audited(60, 0.36, moving=True)
    alone = made.ratio(H264, moving=False)
    assert alone == pytest.approx(made.ratio(H264, moving=True), rel=0.15)
    for _ in range(60):
        made.audit(H264, 1.0, moving=False)
    assert made.ratio(H264, moving=False) < 0.5 * alone
    assert made.ratio(H264, moving=True) > 2 * made.ratio(H264, moving=False)


def test_what_was_learnt_is_forgotten_by_what_is_found_later() -> None:
    made = audited(500, 0.6)
    worst = made.ratio(H264, moving=True)
    for _ in range(300):
        made.audit(H264, 0.88, moving=True)
    assert made.ratio(H264, moving=True) < 0.3 * worst


@pytest.mark.parametrize("agreed", [math.nan, math.inf, -math.inf, -0.01, 1.01])
def test_what_is_no_agreement_teaches_nothing(agreed: float) -> None:
    made = ContentFidelity()
    assert not made.audit(H264, agreed, moving=True)
    assert made.audits == 0 and made.believed((H264,), moving=True)[0] is H264


@pytest.mark.parametrize("point", [LOCAL, TRACK, replace(JPEG, fidelity=math.nan), replace(JPEG, fidelity=1.2)])
def test_the_model_itself_the_tracker_and_odd_plans_are_not_audited(point: OperatingPoint) -> None:
    assert not ContentFidelity().audit(point, 0.5, moving=True)


def test_a_stand_in_for_the_model_is_a_family_of_its_own() -> None:
    made = audited(50, 0.6, SMALL)
    assert made.ratio(SMALL, moving=True) > 2 and made.ratio(LOCAL, moving=True) == 1


@pytest.mark.parametrize("ratio", [math.nan, math.inf, -0.5])
def test_an_error_is_no_such_multiple(ratio: float) -> None:
    with pytest.raises(ValueError, match="times another"):
        erring(0.9, ratio)


levels = st.lists(st.floats(0, 1), min_size=1, max_size=8)
events = st.lists(st.tuples(st.integers(0, 7), st.floats(allow_nan=True), st.booleans()), max_size=60)


@given(levels=levels, events=events)
def test_whatever_is_audited_fidelity_is_one_and_levels_keep_their_order(
    levels: list[float], events: list[tuple[int, float, bool]]
) -> None:
    points = [replace(H264, name=str(i), level=i, fidelity=each) for i, each in enumerate(sorted(levels))]
    made = ContentFidelity()
    for which, agreed, moving in events:
        made.audit(points[which % len(points)], agreed, moving=moving)
    for moving in (False, True):
        believed = [each.fidelity for each in made.believed(points, moving=moving)]
        assert all(0 <= each <= 1 for each in believed) and believed == sorted(believed)
        assert LEAST_RATIO <= made.ratio(points[0], moving=moving) <= MOST_RATIO


# -- the world ----------------------------------------------------------------------------------------------------


def test_the_world_gives_points_as_they_are_believed_for_what_is_seen_now() -> None:
    world = World(POINTS, track_kappa=5.0)
    planned = world.points
    for _ in range(60):
        world.on_audit(world.by_name[H264.name], 0.6, MOVING)
        world.on_audit(world.by_name[H264.name], 1.0, 0.0)
    still = world.by_name[H264.name].fidelity
    assert still > H264.fidelity and TEMPORAL in world.cuts and U8 in world.points
    world.on_motion(0.2)
    assert world.by_name[H264.name].fidelity < 0.7
    assert world.by_name[H264.name] in world.pictures and world.by_name[H264.name] in world.points
    assert [p.name for p in world.points] == [p.name for p in planned]
    assert world.planned(world.by_name[H264.name]) is H264


def test_points_are_made_anew_only_by_an_audit_and_when_another_content_begins() -> None:
    world = World(POINTS, track_kappa=5.0)
    world.on_audit(H264, 0.2, 0.0)
    still = world.points
    world.on_motion(0.001)
    assert world.points is still
    world.on_motion(0.5)
    moving = world.points
    assert moving is not still
    world.on_motion(0.0)
    assert world.points is still
    world.on_audit(H264, math.nan, 0.0)
    assert world.points is still
    world.on_audit(H264, 0.9, 0.5)
    assert world.points is not still


def test_a_coarser_payload_is_held_against_what_the_plan_says_of_its_level() -> None:
    finer = replace(TEMPORAL, name="split/c/temporal-88", level=88, fidelity=0.99)
    world = World((*POINTS, finer), track_kappa=5.0)
    for _ in range(100):
        sent = world.at_level(world.by_name[finer.name], TEMPORAL.level)
        world.on_audit(sent, TEMPORAL.fidelity, 0.0)
    assert world.by_name[finer.name].fidelity == pytest.approx(finer.fidelity, abs=1e-3)
    assert world.by_name[TEMPORAL.name].fidelity == pytest.approx(TEMPORAL.fidelity, abs=1e-3)


# -- when ---------------------------------------------------------------------------------------------------------


def audits(seconds: int, *, run_ms: float, busy: float) -> float:
    """Device time of audits, ms, if asked 25 times a second; frames need the device for a share of `busy`."""
    schedule, spent_ms = AuditSchedule(), 0.0
    for frame in range(25 * seconds):
        schedule.used(40 * busy)
        if schedule.due(frame * 40 * MS, run_ms):
            schedule.spent(run_ms)
            spent_ms += run_ms
    return spent_ms


def test_audits_take_a_share_of_the_device_and_more_of_its_idle_time() -> None:
    assert audits(100, run_ms=80.0, busy=1.0) == pytest.approx(1000.0, abs=160.0)
    assert audits(100, run_ms=80.0, busy=0.0) > 3 * audits(100, run_ms=80.0, busy=1.0)


def test_no_more_than_one_run_is_saved_up() -> None:
    schedule = AuditSchedule()
    assert not schedule.due(0, 50.0)
    assert schedule.due(3600 * 10**9, 50.0)
    schedule.spent(50.0)
    assert not schedule.due(3600 * 10**9 + 100 * MS, 50.0)


def test_a_run_that_was_given_up_costs_what_it_took() -> None:
    schedule = AuditSchedule()
    schedule.due(0, 50.0)
    assert schedule.due(10**10, 50.0)
    schedule.spent(10.0)
    assert not schedule.due(10**10, 50.0)
    assert schedule.due(10**10 + 100 * MS, 50.0)


def test_what_was_learnt_is_told_by_family_and_content() -> None:
    made = audited(300, 3 * (1 - H264.fidelity))
    assert made.audit(SMALL, 0.8, moving=False)
    told = made.ratios()
    assert told.keys() == {"frame/h264", "local/small"}
    assert told["frame/h264"] == {
        "still": made.ratio(COARSER, moving=False),
        "moving": made.ratio(COARSER, moving=True),
    }
    assert told["frame/h264"]["moving"] > 2.5
    assert ContentFidelity().ratios() == {}


@pytest.mark.parametrize(
    "point", [H264, JPEG, TEMPORAL, U8, SMALL, replace(U8, name="split/c+int8/u8zstd-8", variant="int8")]
)
def test_points_are_called_after_their_family(point: OperatingPoint) -> None:
    assert point.name.rpartition(f"-{point.level}")[0] in ("", family_name(family(point)))
    assert point.name.startswith(family_name(family(point)))
