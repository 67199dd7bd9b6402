"""Owns carrying an answer forward in time: per-box constant velocity between inferred answers. Looks at no pixels.

The defaults of `TrackTuning` were chosen by measurement against repeating the last answer: `make bench-track` runs
`bench/track_fidelity.py`, which writes F1@IoU0.5 by age to `bench/results/track_fidelity.{json,png}`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from splitmesh.errors import FrameShapeError
from splitmesh.frames.answer import F32, U16, Answer
from splitmesh.frames.boxes import iou_matrix

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

MOTION_FLOOR = 0.01
"""Motion that is assumed at least when a tracked answer is judged: a new object is small next to a whole picture."""
_SMALLEST_SIDE = 1e-4


@dataclass(frozen=True, slots=True)
class TrackTuning:
    """How boxes are matched and carried on. A box size is the geometric mean of its sides."""

    min_iou: float = 0.1
    """Boxes of consecutive answers are one object if they share the class and overlap at least this much."""
    smoothing_s: float = 1.0
    """Time constant of the velocity average: noise of single answers against lag behind real turns."""
    prior: float = 0.05
    """Weight of "it stands still" against the average, whose own weight grows from 0 to 1 over `smoothing_s`."""
    damping_s: float = 1.5
    """Velocity fades with this time constant, so that no box runs further than velocity x damping_s."""
    size_gain: float = 0.5
    """Share of the measured rate of change of width and height that is carried on; it is the noisier part."""
    min_speed: float = 0.25
    """Slower boxes, in box sizes per second, stand still: this is jitter of the detector, not motion."""
    max_speed: float = 4.0
    """Clamp of the speed, in box sizes per second."""
    memory_s: float = 0.5
    """A box that an answer misses keeps its velocity this long, in case the next answer finds it again."""
    score_decay_s: float = 30.0
    """Scores fall by exp(-age / score_decay_s)."""
    min_visible: float = 0.2
    """A box with a smaller share of its area inside the picture has left it."""


@dataclass(frozen=True, slots=True)
class _Objects:
    """Row i of all arrays is one object."""

    seen_ns: I64
    """(N,) when it was last seen."""
    shapes: F64
    """(N, 4) centre x, centre y, width, height where it was last seen."""
    classes: U16
    rates: F64
    """(N, 4) exponentially weighted sum of measured rates, per second."""
    weights: F64
    """(N,) sum of those weights, in [0, 1)."""

    def rows(self, index: npt.NDArray[np.intp]) -> _Objects:
        return _Objects(
            self.seen_ns[index], self.shapes[index], self.classes[index], self.rates[index], self.weights[index]
        )

    def and_(self, other: _Objects) -> _Objects:
        return _Objects(
            np.concatenate([self.seen_ns, other.seen_ns]),
            np.concatenate([self.shapes, other.shapes]),
            np.concatenate([self.classes, other.classes]),
            np.concatenate([self.rates, other.rates]),
            np.concatenate([self.weights, other.weights]),
        )


class Tracker:
    """Predicts the answer of a frame that no model sees, from the answers of frames that one saw.

    All times are nanoseconds of one clock (the timeline's pts). State is bounded: the newest answer's boxes, and
    those missed within the last `memory_s`.
    """

    def __init__(self, tuning: TrackTuning | None = None) -> None:
        self._tuning = tuning or TrackTuning()
        self._newest: Answer | None = None
        self._newest_ns = 0
        self._objects = _first_seen(Answer.empty(), 0)

    def observe(self, answer: Answer, at_ns: int) -> bool:
        """Take a model's answer for the frame at `at_ns`. False: ignored, it is not newer than the newest."""
        if self._newest is not None and at_ns <= self._newest_ns:
            return False
        self._objects = self._associate(answer, at_ns)
        self._newest = answer
        self._newest_ns = at_ns
        return True

    def predict(self, at_ns: int) -> Answer:
        """The newest answer carried to `at_ns` (which may also lie before it); empty if there is none.

        Boxes and points are clipped to [0, 1]; boxes that left the picture are dropped; the order (best first),
        classes and number of points stay. A classifier's answer, which covers the whole picture, stays as it is, and
        so do tensors.
        """
        newest = self._newest
        if newest is None:
            return Answer.empty()
        objects = self._objects.rows(np.arange(len(newest)))
        moved = _corners(self._moved(objects, at_ns))
        clipped = np.clip(moved, 0.0, 1.0)
        stays = _area(clipped) >= self._tuning.min_visible * _area(moved)
        age_s = abs(at_ns - self._newest_ns) / 1e9
        return Answer(
            clipped[stays].astype(np.float32),
            (newest.scores[stays] * np.exp(-age_s / self._tuning.score_decay_s)).astype(np.float32),
            newest.classes[stays],
            _carried_points(newest.points, newest.boxes, moved)[stays],
            newest.tensors,
        )

    def age_ns(self, at_ns: int) -> int | None:
        """How far the newest answer lies from `at_ns`, at least 0; None if there is nothing to track from."""
        return None if self._newest is None else max(0, at_ns - self._newest_ns)

    def _associate(self, answer: Answer, at_ns: int) -> _Objects:
        """Objects after `answer`: first its boxes, in its order, then those it missed and that are remembered."""
        old, fresh = self._objects, _first_seen(answer, at_ns)
        if not len(old.classes):
            return fresh
        overlap = iou_matrix(_corners(self._moved(old, at_ns)).astype(np.float32), answer.boxes)
        overlap = np.where(old.classes[:, None] == answer.classes[None, :], overlap, -1.0)
        before, after = _pairs(overlap, self._tuning.min_iou)
        elapsed_s = (at_ns - old.seen_ns[before]) / 1e9
        keep = np.exp(-elapsed_s / self._tuning.smoothing_s)
        measured = (fresh.shapes[after] - old.shapes[before]) / elapsed_s[:, None]
        fresh.rates[after] = old.rates[before] * keep[:, None] + measured * (1 - keep)[:, None]
        fresh.weights[after] = old.weights[before] * keep + (1 - keep)
        missed = at_ns - old.seen_ns <= self._tuning.memory_s * 1e9
        missed[before] = False
        return fresh.and_(old.rows(np.flatnonzero(missed)))

    def _moved(self, objects: _Objects, at_ns: int) -> F64:
        """(N, 4) centre x, centre y, width, height at `at_ns`: displacement = v * damping * (1 - exp(-t/damping))."""
        tuning = self._tuning
        velocity = objects.rates / (objects.weights + tuning.prior)[:, None]
        velocity[:, 2:] *= tuning.size_gain
        size = np.sqrt(np.maximum(objects.shapes[:, 2] * objects.shapes[:, 3], _SMALLEST_SIDE**2))
        speed = np.hypot(velocity[:, 0], velocity[:, 1]) / size
        slowed = np.minimum(1.0, tuning.max_speed / np.maximum(speed, tuning.max_speed))
        velocity *= np.where(speed < tuning.min_speed, 0.0, slowed)[:, None]
        ahead_s = (at_ns - objects.seen_ns) / 1e9
        reach_s = np.sign(ahead_s) * tuning.damping_s * -np.expm1(-np.abs(ahead_s) / tuning.damping_s)
        moved = objects.shapes + velocity * reach_s[:, None]
        moved[:, 2:] = np.maximum(moved[:, 2:], np.minimum(objects.shapes[:, 2:], _SMALLEST_SIDE))
        return moved


def motion(previous_luma: npt.NDArray[np.uint8], luma: npt.NDArray[np.uint8]) -> float:
    """Mean absolute difference of two luma thumbnails (H, W) uint8, in [0, 1].

    Raises FrameShapeError unless both have the same two-dimensional shape.
    """
    if previous_luma.shape != luma.shape or luma.ndim != 2 or not luma.size:
        raise FrameShapeError(f"motion needs two equal (H, W) thumbnails, not {previous_luma.shape} and {luma.shape}")
    return float(np.abs(luma.astype(np.int16) - previous_luma.astype(np.int16)).mean()) / 255.0


def _first_seen(answer: Answer, at_ns: int) -> _Objects:
    boxes = answer.boxes.astype(np.float64)
    n = len(answer)
    shapes = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
    return _Objects(np.full(n, at_ns, np.int64), shapes, answer.classes, np.zeros((n, 4)), np.zeros(n))


def _corners(shapes: F64) -> F64:
    half = shapes[:, 2:] / 2
    return np.concatenate([shapes[:, :2] - half, shapes[:, :2] + half], axis=1)


def _area(boxes: F64) -> F64:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _pairs(overlap: npt.NDArray[np.floating], least: float) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Greedy one-to-one pairs (rows, columns), largest overlap first, none below `least`."""
    rows, columns = np.nonzero(overlap >= least)
    order = np.argsort(-overlap[rows, columns], kind="stable")
    free_row, free_column = np.ones(overlap.shape[0], np.bool_), np.ones(overlap.shape[1], np.bool_)
    before, after = [], []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if free_row[row] and free_column[column]:
            free_row[row] = free_column[column] = False
            before.append(row)
            after.append(column)
    return np.asarray(before, np.intp), np.asarray(after, np.intp)


def _carried_points(points: F32, source: F32, target: F64) -> F32:
    """Points (N, P, 2) moved with their boxes: `source` (N, 4) to `target` (N, 4), then clipped to [0, 1]."""
    if not points.shape[1]:
        return np.zeros((len(source), 0, 2), np.float32)
    sides = np.maximum(source[:, 2:] - source[:, :2], _SMALLEST_SIDE)
    inside = (points - source[:, None, :2]) / sides[:, None, :]
    placed = target[:, None, :2] + inside * (target[:, 2:] - target[:, :2])[:, None, :]
    clipped: F32 = np.clip(placed, 0.0, 1.0).astype(np.float32)
    return clipped
