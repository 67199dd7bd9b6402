"""What the edge sees without a model: motion, what may be tracked, and the audit of the tracker."""

from __future__ import annotations

import numpy as np
import pytest

from splitmesh.edge.observer import Observer
from splitmesh.frames.answer import Answer
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.world import World

MS = 1_000_000


@pytest.fixture
def world() -> World:
    points = [OperatingPoint("track", Place.TRACK, 1.0), OperatingPoint("local", Place.LOCAL, 1.0, edge_ms=20)]
    return World(points, track_kappa=0.5)


@pytest.fixture
def observer(world: World) -> Observer:
    return Observer(world, kind="ssd")


def box(left: float) -> Answer:
    return Answer(np.float32([[left, 0.2, left + 0.2, 0.6]]), np.float32([0.9]), np.uint16([1]))


def luma(level: int) -> np.ndarray:
    return np.full((36, 64), level, np.uint8)


def test_motion_rises_with_change_and_fades_without(observer: Observer) -> None:
    assert observer.see(luma(100)) == 0.0  # the first picture has nothing to differ from
    risen = observer.see(luma(151))
    assert risen == pytest.approx(0.3 * 51 / 255)
    assert observer.see(luma(151)) < risen


def test_the_thumbnail_is_copied_because_its_buffer_is_used_again(observer: Observer) -> None:
    pooled = luma(100)
    observer.see(pooled)
    pooled[:] = 200
    assert observer.see(pooled) > 0


def test_there_is_nothing_to_track_before_the_first_answer(observer: Observer) -> None:
    assert not observer.can_track(0) and observer.age_ms(0) is None
    observer.observe(box(0.1), 40 * MS, 0.0)
    assert observer.can_track(80 * MS) and observer.age_ms(80 * MS) == 40


def test_an_empty_answer_is_one_to_track_too(observer: Observer) -> None:
    """A scene without objects was seen: that is known, not missing."""
    observer.observe(Answer.empty(), 0, 0.0)
    assert observer.can_track(40 * MS) and len(observer.predict(40 * MS)) == 0


def test_an_answer_that_comes_out_of_order_does_not_turn_back_time(observer: Observer) -> None:
    observer.observe(box(0.5), 80 * MS, 0.0)
    observer.observe(box(0.1), 40 * MS, 0.0)
    assert observer.age_ms(80 * MS) == 0
    assert observer.predict(80 * MS).boxes[0, 0] == pytest.approx(0.5)


def test_answers_audit_how_far_the_tracker_may_be_trusted(observer: Observer) -> None:
    """Where boxes jump, trust falls below what calm boxes earn at the same motion and age."""
    jumping, calm = observer, Observer(World([*observer._world.points], track_kappa=0.5), kind="ssd")
    for step in range(40):
        jumping.observe(box(0.1 if step % 2 else 0.6), step * 120 * MS, 0.2)
        calm.observe(box(0.3), step * 120 * MS, 0.2)
    at_ns = 40 * 120 * MS
    assert jumping.a_track(at_ns, 0.2) < calm.a_track(at_ns, 0.2) - 0.1


def test_a_poor_answer_audits_nothing_but_is_tracked_from_and_known_as_poor(observer: Observer, world: World) -> None:
    observer.observe(box(0.1), 0, 0.2)
    trusted = observer.a_track(120 * MS, 0.2)
    observer.observe(box(0.6), 120 * MS, 0.2, fidelity=0.7)
    assert world.track.audits == 0 and observer.predict(120 * MS).boxes[0, 0] == pytest.approx(0.6)
    assert observer.a_track(240 * MS, 0.2) == pytest.approx(0.7 * trusted)
    observer.observe(box(0.1), 60 * MS, 0.2)
    assert observer.carried == 0.7, "the poor answer is still the newest"
    observer.observe(box(0.1), 240 * MS, 0.2)
    assert world.track.audits == 0, "what was tracked from a poor answer says nothing of the tracker"
    assert observer.carried == 1.0
    observer.observe(box(0.1), 360 * MS, 0.2, fidelity=0.95)
    assert world.track.audits == 1
