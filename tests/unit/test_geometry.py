"""Where a picture lies in the model's input, and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmesh.errors import FrameShapeError
from splitmesh.frames.answer import Answer
from splitmesh.frames.geometry import Fit, Placement

sizes = st.integers(1, 4000)


def one_box(box: list[float], points: list[list[float]] | None = None) -> Answer:
    marks = np.array([points], np.float32) if points else np.zeros((1, 0, 2), np.float32)
    return Answer(np.array([box], np.float32), np.ones(1, np.float32), np.zeros(1, np.uint16), marks)


def test_wide_picture_is_padded_above_and_below() -> None:
    place = Placement(640, 360, 416, 416, Fit.LETTERBOX)
    assert (place.content_w, place.content_h) == (416, 234)
    assert (place.pad_left, place.pad_top) == (0, 91)
    back = place.to_source(one_box([0.0, 91 / 416, 1.0, (91 + 234) / 416], [[0.5, 0.5]]))
    np.testing.assert_allclose(back.boxes, [[0, 0, 1, 1]], atol=1e-6)
    np.testing.assert_allclose(back.points, [[[0.5, 0.5]]], atol=1e-6)


def test_tall_picture_is_padded_left_and_right() -> None:
    place = Placement(720, 1280, 300, 300, Fit.LETTERBOX)
    assert (place.content_w, place.content_h, place.pad_left, place.pad_top) == (169, 300, 65, 0)


def test_boxes_in_the_padding_are_clipped_to_the_picture() -> None:
    place = Placement(640, 360, 416, 416, Fit.LETTERBOX)
    np.testing.assert_allclose(place.to_source(one_box([0.2, 0.0, 0.4, 0.1])).boxes, [[0.2, 0, 0.4, 0]], atol=1e-6)


def test_stretching_keeps_relative_coordinates() -> None:
    place = Placement(768, 576, 300, 300, Fit.STRETCH)
    box = one_box([0.1, 0.2, 0.3, 0.4])
    np.testing.assert_array_equal(place.to_source(box).boxes, box.boxes)


@pytest.mark.parametrize("cells", [(64, 64), (16, 16), (128, 96)])
def test_a_mask_is_cut_to_the_picture_at_any_resolution(cells: tuple[int, int]) -> None:
    """64x32 in 64x64: the upper and lower quarters of the input are padding."""
    quarters = np.arange(cells[0]) * 4 // cells[0]
    mask = np.repeat(quarters.astype(np.uint8)[:, None], cells[1], axis=1)
    shown = Placement(64, 32, 64, 64, Fit.LETTERBOX).over_source(mask, 200, 100)
    assert shown.shape == (100, 200)
    assert (shown[:50] == 1).all() and (shown[50:] == 2).all()
    stretched = Placement(64, 32, 64, 64, Fit.STRETCH).over_source(mask, 200, 100)
    assert [int(stretched[y, 0]) for y in (0, 24, 25, 49, 50, 99)] == [0, 0, 1, 1, 2, 3]


def test_a_mask_of_the_pictures_own_size_is_not_touched() -> None:
    mask = np.random.default_rng(0).integers(0, 9, (30, 40)).astype(np.uint16)
    for fit in Fit:
        np.testing.assert_array_equal(Placement(40, 30, 40, 30, fit).over_source(mask, 40, 30), mask)


@given(sizes, sizes, st.integers(8, 99), st.integers(8, 99), st.integers(1, 50), st.integers(1, 50))
def test_what_a_mask_says_of_a_point_is_shown_there(sw: int, sh: int, tw: int, th: int, w: int, h: int) -> None:
    """The mask holds its own row; a pixel's row is the one that its centre, mapped to the input, lies in."""
    place = Placement(sw, sh, tw, th, Fit.LETTERBOX)
    shown = place.over_source(np.repeat(np.arange(h, dtype=np.uint8)[:, None], w, axis=1), 7, 5)
    for y in range(5):
        inside = (place.pad_top + place.content_h * (y + 0.5) / 5) / th
        assert int(shown[y, 3]) == min(int(inside * h), h - 1)


@pytest.mark.parametrize("mask", [np.zeros((1, 4, 4), np.uint8), np.zeros((0, 4), np.uint8)])
def test_what_is_no_mask_is_refused(mask: np.ndarray) -> None:
    with pytest.raises(FrameShapeError, match="mask"):
        Placement(8, 8, 8, 8, Fit.STRETCH).over_source(mask, 8, 8)


def test_tensors_stay_in_the_models_frame() -> None:
    mask = np.eye(4, dtype=np.uint8)
    mapped = Placement(640, 360, 416, 416, Fit.LETTERBOX).to_source(Answer.of_tensors({"mask": mask}))
    np.testing.assert_array_equal(mapped.mask, mask)


def test_a_picture_without_pixels_is_refused() -> None:
    with pytest.raises(FrameShapeError, match="0x360"):
        Placement(0, 360, 416, 416, Fit.LETTERBOX)


@given(sizes, sizes, sizes, sizes, st.sampled_from(list(Fit)))
def test_content_lies_within_the_input_and_touches_two_edges(sw: int, sh: int, tw: int, th: int, fit: Fit) -> None:
    place = Placement(sw, sh, tw, th, fit)
    assert 1 <= place.content_w <= tw and 1 <= place.content_h <= th
    assert place.content_w == tw or place.content_h == th
    assert 0 <= tw - place.content_w - 2 * place.pad_left <= 1
    assert 0 <= th - place.content_h - 2 * place.pad_top <= 1


def placed(place: Placement, points: np.ndarray) -> np.ndarray:
    """From [0, 1] of the picture to [0, 1] of the input; (…, 2k) float32, x and y in turn."""
    target = np.array([416, 320], np.float32)
    share = np.array([place.content_w, place.content_h], np.float32) / target
    pad = np.array([place.pad_left, place.pad_top], np.float32) / target
    return (points.reshape(-1, 2) * share + pad).reshape(points.shape)


@given(
    st.integers(16, 4000),
    st.integers(16, 4000),
    st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4),
    st.sampled_from(list(Fit)),
)
def test_there_and_back(sw: int, sh: int, corners: list[float], fit: Fit) -> None:
    place = Placement(sw, sh, 416, 320, fit)
    xs, ys = sorted(corners[:2]), sorted(corners[2:])
    box = one_box([xs[0], ys[0], xs[1], ys[1]], [[xs[0], ys[1]]])
    back = place.to_source(Answer(placed(place, box.boxes), box.scores, box.classes, placed(place, box.points)))
    assert back.boxes.dtype == np.float32
    # One float32 step of the input, seen through the narrower side's share of it.
    tolerance = 4e-7 * max(416 / place.content_w, 320 / place.content_h)
    np.testing.assert_allclose(back.boxes, box.boxes, atol=tolerance)
    np.testing.assert_allclose(back.points, box.points, atol=tolerance)
