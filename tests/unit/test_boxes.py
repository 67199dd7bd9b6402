"""Box arithmetic against values worked out by hand and against a plain loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmesh.frames.boxes import iou_matrix, nms_per_class


def boxes_of(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


@st.composite
def scored_boxes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    grid = st.integers(0, 16)
    rows = draw(st.lists(st.tuples(grid, grid, grid, grid, st.integers(0, 20), st.integers(0, 2)), max_size=24))
    boxes = [(min(a, c) / 16, min(b, d) / 16, max(a, c) / 16, max(b, d) / 16) for a, b, c, d, _, _ in rows]
    scores = np.array([r[4] / 20 for r in rows], np.float32)
    return boxes_of(*boxes), scores, np.array([r[5] for r in rows], np.int64)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 1, 1), (0, 0, 1, 1), 1.0),
        ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7),
        ((0, 0, 1, 1), (1, 0, 2, 1), 0.0),
        ((0, 0, 1, 1), (2, 2, 3, 3), 0.0),
        ((0, 0, 4, 4), (1, 1, 3, 3), 0.25),
        ((1, 1, 1, 1), (1, 1, 1, 1), 0.0),
        ((2, 2, 1, 1), (0, 0, 4, 4), 0.0),
    ],
)
def test_iou_of_known_boxes(a: tuple, b: tuple, expected: float) -> None:
    assert iou_matrix(boxes_of(a), boxes_of(b))[0, 0] == pytest.approx(expected)


def test_iou_shape_with_no_boxes() -> None:
    assert iou_matrix(boxes_of(), boxes_of((0, 0, 1, 1))).shape == (0, 1)


@given(scored_boxes(), scored_boxes())
def test_iou_is_bounded_and_symmetric(first: tuple, second: tuple) -> None:
    forth, back = iou_matrix(first[0], second[0]), iou_matrix(second[0], first[0])
    assert forth.dtype == np.float32
    assert ((forth >= 0) & (forth <= 1)).all()
    np.testing.assert_array_equal(forth, back.T)


def test_nms_keeps_the_best_of_a_pile_and_what_lies_apart() -> None:
    boxes = boxes_of((0, 0, 1, 1), (0, 0, 1, 0.9), (0.5, 0.5, 0.6, 0.6), (0, 0, 0.95, 1))
    scores = np.array([0.5, 0.9, 0.1, 0.7], np.float32)
    same = np.zeros(4, np.uint16)
    assert nms_per_class(boxes, scores, same, 0.5, 10).tolist() == [1, 2]
    assert nms_per_class(boxes, scores, same, 0.5, 1).tolist() == [1]
    assert nms_per_class(boxes, scores, same, 0.95, 10).tolist() == [1, 3, 0, 2]


def test_classes_do_not_suppress_each_other() -> None:
    boxes = boxes_of((0, 0, 1, 1), (0, 0, 1, 1), (0, 0, 1, 1))
    scores = np.array([0.5, 0.9, 0.7], np.float32)
    assert nms_per_class(boxes, scores, np.array([3, 4, 3]), 0.5, 10).tolist() == [1, 2]


def naive(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, threshold: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        if all(
            classes[i] != classes[k] or iou_matrix(boxes[k : k + 1], boxes[i : i + 1])[0, 0] <= threshold
            for k in kept
        ):
            kept.append(i)
    return kept


@given(scored_boxes(), st.sampled_from([0.1, 0.3, 0.5, 0.7]))
def test_nms_equals_a_plain_loop(given_boxes: tuple, threshold: float) -> None:
    boxes, scores, classes = given_boxes
    assert nms_per_class(boxes, scores, classes, threshold, 100).tolist() == naive(boxes, scores, classes, threshold)


def test_many_boxes_take_the_row_path_to_the_same_result() -> None:
    rng = np.random.default_rng(7)
    corner = rng.random((700, 2)).astype(np.float32)
    boxes = np.concatenate([corner, corner + rng.random((700, 2)).astype(np.float32) / 4], axis=1)
    scores, classes = rng.random(700).astype(np.float32), rng.integers(0, 5, 700)
    assert nms_per_class(boxes, scores, classes, 0.4, 700).tolist() == naive(boxes, scores, classes, 0.4)
