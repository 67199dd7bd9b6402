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


def seen(observer: Observer, answer: Answer, pts_ns: int, *, fidelity: float = 1.0) -> None:
    """A frame that is decided and answered at once."""
    observer.observe(answer, pts_ns, 0.2, fidelity=fidelity, foreseen=observer.foresee(pts_ns))


def test_answers_audit_how_far_the_tracker_may_be_trusted(observer: Observer) -> None:
    """Where boxes jump, trust falls below what calm boxes earn at the same motion and age."""
    jumping, calm = observer, Observer(World([*observer._world.points], track_kappa=0.5), kind="ssd")
    for step in range(40):
        seen(jumping, box(0.1 if step % 2 else 0.6), step * 120 * MS)
        seen(calm, box(0.3), step * 120 * MS)
    at_ns = 40 * 120 * MS
    assert jumping.a_track(at_ns, 0.2) < calm.a_track(at_ns, 0.2) - 0.1


def test_an_audit_is_of_what_could_be_tracked_when_the_frame_was_decided(observer: Observer, world: World) -> None:
    """Answers take 300 ms, and meanwhile others come: each frame is held against what was known at its own time."""
    slow, quick = observer, Observer(World([*world.points], track_kappa=0.5), kind="ssd")
    moving = [box(0.004 * step * step) for step in range(14)]  # faster and faster: what is carried on falls behind
    for step, answer in enumerate(moving):
        seen(quick, answer, step * 100 * MS)
    under_way = []
    for step, answer in enumerate(moving):
        under_way.append((answer, step * 100 * MS, slow.foresee(step * 100 * MS)))
        if step >= 3:
            old, pts_ns, foreseen = under_way[step - 3]
            slow.observe(old, pts_ns, 0.2, foreseen=foreseen)
    assert slow._world.track.audits > 5
    assert slow.a_track(1_400 * MS, 0.2) < quick.a_track(1_400 * MS, 0.2) - 0.1


def test_a_poor_answer_audits_nothing_but_is_tracked_from_and_known_as_poor(observer: Observer, world: World) -> None:
    observer.observe(box(0.1), 0, 0.2)
    trusted = observer.a_track(120 * MS, 0.2)
    seen(observer, box(0.6), 120 * MS, fidelity=0.7)
    assert world.track.audits == 0 and observer.predict(120 * MS).boxes[0, 0] == pytest.approx(0.6)
    assert observer.a_track(240 * MS, 0.2) == pytest.approx(0.7 * trusted)
    observer.observe(box(0.1), 60 * MS, 0.2)
    assert observer.carried == 0.7, "the poor answer is still the newest"
    seen(observer, box(0.1), 240 * MS)
    assert world.track.audits == 0, "what was tracked from a poor answer says nothing of the tracker"
    assert observer.carried == 1.0
    seen(observer, box(0.1), 360 * MS, fidelity=0.95)
    assert world.track.audits == 1


def test_an_answer_of_fair_fidelity_audits_by_as_much_less(observer: Observer, world: World) -> None:
    """Two boxes of three found again, by an answer that finds about as many: the tracker is not to blame."""
    three = Answer(
        np.float32([[x, 0.2, x + 0.1, 0.6] for x in (0.1, 0.4, 0.7)]), np.float32([0.9] * 3), np.uint16([1] * 3)
    )
    two = Answer(three.boxes[:2], three.scores[:2], three.classes[:2])
    observer.observe(three, 0, 0.2)
    before = observer.a_track(120 * MS, 0.2)
    seen(observer, two, 120 * MS, fidelity=0.8)
    assert world.track.audits == 1
    assert observer.a_track(240 * MS, 0.2) / 0.8 >= before - 0.05
