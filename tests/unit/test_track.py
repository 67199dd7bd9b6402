from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmesh.errors import FrameShapeError
from splitmesh.frames.answer import Answer
from splitmesh.frames.track import Tracker, TrackTuning, motion

MS = 1_000_000


def answer(*boxes: tuple[float, float, float, float], classes: list[int] | None = None, score: float = 0.8) -> Answer:
    n = len(boxes)
    return Answer(
        np.asarray(boxes, np.float32).reshape(n, 4),
        np.full(n, score, np.float32),
        np.asarray(classes if classes is not None else [1] * n, np.uint16),
    )


def walker(at_ms: float, speed: float = 0.2, x: float = 0.1) -> tuple[float, float, float, float]:
    """A box of 0.1 x 0.2 that walks right with `speed` pictures per second."""
    x += speed * at_ms / 1000
    return (x, 0.3, x + 0.1, 0.5)


def centre_x(predicted: Answer, row: int = 0) -> float:
    return float(predicted.boxes[row, 0] + predicted.boxes[row, 2]) / 2


def watched(
    *, speed: float = 0.2, until_ms: int = 1000, step_ms: int = 100, tuning: TrackTuning | None = None
) -> Tracker:
    tracker = Tracker(tuning)
    for at_ms in range(0, until_ms + 1, step_ms):
        assert tracker.observe(answer(walker(at_ms, speed)), at_ms * MS)
    return tracker


def test_nothing_observed_means_nothing_to_track_from() -> None:
    tracker = Tracker()
    assert tracker.age_ns(5) is None
    assert len(tracker.predict(5)) == 0


def test_a_single_answer_is_repeated() -> None:
    tracker = Tracker()
    first = answer(walker(0), (0.5, 0.5, 0.9, 0.9), classes=[1, 7])
    tracker.observe(first, 0)
    predicted = tracker.predict(300 * MS)
    np.testing.assert_allclose(predicted.boxes, first.boxes, atol=1e-6)
    assert predicted.classes.tolist() == [1, 7]
    assert tracker.age_ns(300 * MS) == 300 * MS


@pytest.mark.parametrize("ahead_ms", [100, 200, 400])
def test_a_steady_walker_is_met_where_it_will_be(ahead_ms: int) -> None:
    predicted = watched().predict((1000 + ahead_ms) * MS)
    truth = (walker(1000 + ahead_ms)[0] + walker(1000 + ahead_ms)[2]) / 2
    stale = (walker(1000)[0] + walker(1000)[2]) / 2
    assert abs(centre_x(predicted) - truth) < 0.35 * abs(stale - truth)


def test_damping_bounds_the_way_ahead() -> None:
    tracker = watched(speed=0.1)
    reach = centre_x(tracker.predict(3_600_000 * MS)) - centre_x(tracker.predict(1000 * MS))
    assert 0 < reach <= 0.1 * TrackTuning().damping_s


def test_speed_is_clamped_in_box_sizes() -> None:
    tuning = TrackTuning(max_speed=0.5)
    fast, clamped = watched(until_ms=800), watched(until_ms=800, tuning=tuning)
    size = (0.1 * 0.2) ** 0.5
    step = centre_x(clamped.predict(1000 * MS)) - centre_x(clamped.predict(800 * MS))
    assert 0 < step <= 0.5 * size * 0.2
    assert step < centre_x(fast.predict(1000 * MS)) - centre_x(fast.predict(800 * MS))


def test_jitter_does_not_move_a_still_box() -> None:
    tracker = Tracker()
    for i, jitter in enumerate([0.0, 0.004, -0.003, 0.002, 0.003]):
        last = answer((0.4 + jitter, 0.4, 0.6 + jitter, 0.8))
        tracker.observe(last, i * 100 * MS)
    np.testing.assert_allclose(tracker.predict(900 * MS).boxes, last.boxes, atol=1e-6)


def test_late_answers_are_ignored() -> None:
    tracker = watched()
    before = tracker.predict(1100 * MS)
    assert not tracker.observe(answer((0.0, 0.0, 1.0, 1.0)), 900 * MS)
    assert not tracker.observe(answer((0.0, 0.0, 1.0, 1.0)), 1000 * MS)
    np.testing.assert_array_equal(tracker.predict(1100 * MS).boxes, before.boxes)
    assert tracker.age_ns(1100 * MS) == 100 * MS


def test_a_frame_before_the_newest_answer_is_predicted_backwards() -> None:
    tracker = watched()
    assert centre_x(tracker.predict(900 * MS)) < centre_x(tracker.predict(1000 * MS))
    assert tracker.age_ns(900 * MS) == 0


def test_classes_are_never_mixed() -> None:
    """Two objects of different class cross: each keeps its own direction."""
    tracker = Tracker()
    for at_ms in range(0, 1001, 100):
        pair = answer(walker(at_ms, 0.2, 0.30), walker(at_ms, -0.2, 0.45), classes=[1, 2])
        tracker.observe(pair, at_ms * MS)
    now, later = tracker.predict(1000 * MS), tracker.predict(1200 * MS)
    assert centre_x(later, 0) > centre_x(now, 0)
    assert centre_x(later, 1) < centre_x(now, 1)


@pytest.mark.parametrize(("missing_ms", "moves"), [(100, True), (1500, False)])
def test_velocity_survives_a_short_miss(missing_ms: int, moves: bool) -> None:
    tracker = watched()
    tracker.observe(Answer.empty(), 1100 * MS)
    assert len(tracker.predict(1100 * MS)) == 0, "a box that the newest answer lacks is not reported"
    for at_ms in range(1200, 1100 + missing_ms, 100):
        tracker.observe(Answer.empty(), at_ms * MS)
    back_ms = 1100 + missing_ms
    tracker.observe(answer(walker(back_ms)), back_ms * MS)
    step = centre_x(tracker.predict((back_ms + 200) * MS)) - centre_x(tracker.predict(back_ms * MS))
    assert (step > 0.02) is moves


def test_a_box_that_leaves_the_picture_is_dropped() -> None:
    tracker = Tracker(TrackTuning(damping_s=1000.0))
    for at_ms in range(0, 501, 100):
        tracker.observe(answer(walker(at_ms, 0.3, 0.75), (0.1, 0.1, 0.3, 0.3)), at_ms * MS)
    assert len(tracker.predict(600 * MS)) == 2
    gone = tracker.predict(2000 * MS)
    assert len(gone) == 1
    np.testing.assert_allclose(gone.boxes[0], (0.1, 0.1, 0.3, 0.3), atol=1e-6)


def test_points_ride_on_their_box() -> None:
    tracker = Tracker()
    for at_ms in range(0, 1001, 100):
        box = walker(at_ms)
        face = Answer(
            np.asarray([box], np.float32),
            np.asarray([0.9], np.float32),
            np.asarray([0], np.uint16),
            np.asarray([[[box[0] + 0.05, 0.35], [box[0], 0.5]]], np.float32),
        )
        tracker.observe(face, at_ms * MS)
    ahead = tracker.predict(1300 * MS)
    assert ahead.points.shape == (1, 2, 2)
    np.testing.assert_allclose(ahead.points[0, 0, 0], centre_x(ahead), atol=1e-4)
    np.testing.assert_allclose(ahead.points[0, 1], ahead.boxes[0, [0, 3]], atol=1e-4)


def test_scores_fall_slightly_with_age() -> None:
    tracker = watched()
    scores = [float(tracker.predict((1000 + ms) * MS).scores[0]) for ms in (0, 500, 1000)]
    assert scores[0] == pytest.approx(0.8)
    assert scores[0] > scores[1] > scores[2] > 0.75


def test_a_classifier_answer_stays_whole() -> None:
    tracker = Tracker()
    for at_ms, classes in [(0, [3, 5]), (100, [5, 3]), (200, [3, 9])]:
        tracker.observe(answer((0, 0, 1, 1), (0, 0, 1, 1), classes=classes), at_ms * MS)
    predicted = tracker.predict(400 * MS)
    assert predicted.classes.tolist() == [3, 9]
    np.testing.assert_array_equal(predicted.boxes, [[0, 0, 1, 1], [0, 0, 1, 1]])


def test_tensors_of_the_newest_answer_stay_as_they_are() -> None:
    tracker = Tracker()
    old, new = np.zeros((4, 4), np.uint8), np.eye(4, dtype=np.uint8)
    tracker.observe(Answer.of_tensors({"mask": old}), 0)
    tracker.observe(Answer.of_tensors({"mask": new}), 100 * MS)
    tracker.observe(Answer.of_tensors({"mask": old}), 50 * MS)
    predicted = tracker.predict(300 * MS)
    assert len(predicted) == 0
    np.testing.assert_array_equal(predicted.tensors["mask"], new)
    tracker.observe(answer(walker(0)), 400 * MS)
    assert not tracker.predict(500 * MS).tensors


coordinate = st.floats(0, 1, width=32)
some_boxes = st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate, st.integers(0, 2)), max_size=6)


@given(st.lists(st.tuples(st.integers(0, 3_000), some_boxes), max_size=6), st.integers(-5_000, 20_000))
def test_any_prediction_is_a_valid_answer(observed: list[tuple[int, list[tuple[float, ...]]]], at_ms: int) -> None:
    tracker = Tracker()
    newest: tuple[int, int] | None = None
    for when_ms, rows in observed:
        boxes = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d, _ in rows]
        taken = tracker.observe(answer(*boxes, classes=[int(r[4]) for r in rows]), when_ms * MS)
        assert taken == (newest is None or when_ms > newest[0])
        if taken:
            newest = (when_ms, len(rows))
    predicted = tracker.predict(at_ms * MS)
    assert len(predicted) <= (newest[1] if newest else 0)
    assert np.isfinite(predicted.boxes).all()
    assert ((predicted.boxes >= 0) & (predicted.boxes <= 1)).all()
    assert (predicted.boxes[:, :2] <= predicted.boxes[:, 2:]).all()
    assert ((predicted.scores > 0) & (predicted.scores <= 0.8)).all()


def test_motion_is_the_mean_absolute_difference() -> None:
    black, white = np.zeros((36, 64), np.uint8), np.full((36, 64), 255, np.uint8)
    half = black.copy()
    half[:18] = 255
    assert motion(black, black) == 0
    assert motion(white, black) == motion(black, white) == 1
    assert motion(black, half) == pytest.approx(0.5)
    with pytest.raises(FrameShapeError, match="thumbnails"):
        motion(black, white[:18])
