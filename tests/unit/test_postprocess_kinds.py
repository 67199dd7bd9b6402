"""Post-processing of YOLO-like, suppressed, CenterNet-like, segmenting and uninterpreted outputs, made by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_postprocess import logit, manifest

from splitmesh.errors import ModelError
from splitmesh.frames.answer import Answer
from splitmesh.frames.boxes import iou_matrix
from splitmesh.plan.answers.postprocess import build_postprocess


def answer(post: dict, outputs: dict[str, np.ndarray], *, labels: int = 4) -> Answer:
    return build_postprocess(manifest(post, labels=labels), None)(outputs)


# One box (cx 16, cy 8, 16 x 8) of 64 x 32 pixels, and what it is in [0, 1].
PIXELS = [16.0, 8.0, 16.0, 8.0]
UNIT = [8 / 64, 4 / 32, 24 / 64, 12 / 32]


def yolo_table(rows: list[list[float]], size: int = 12) -> np.ndarray:
    table = np.zeros((size, len(rows[0])), np.float32)
    table[: len(rows)] = rows
    return table


V8 = yolo_table([[*PIXELS, 0.1, 0.9, 0, 0], [17, 8, 16, 8, 0, 0.8, 0, 0], [40, 20, 8, 8, 0.29, 0, 0, 0.6]])


@pytest.mark.parametrize(
    ("post", "value"),
    [
        ({}, V8.T[None]),
        ({"box_per": "row"}, V8[None]),
        ({"box_per": "row"}, V8),
        ({}, np.concatenate([V8, np.full((12, 32), 7, np.float32)], axis=1).T[None]),
        ({"coordinates": "unit", "box_per": "row"}, (V8 / np.array([64, 32, 64, 32, 1, 1, 1, 1], np.float32))[None]),
    ],
    ids=["columns", "rows", "without batch axis", "masks are skipped", "unit"],
)
def test_yolo_boxes_however_they_lie(post: dict, value: np.ndarray) -> None:
    found = answer({"kind": "yolo"} | post, {"output0": value})
    np.testing.assert_allclose(found.boxes, [UNIT, [36 / 64, 16 / 32, 44 / 64, 24 / 32]], atol=1e-6)
    np.testing.assert_allclose(found.scores, [0.9, 0.6], atol=1e-6)
    assert found.classes.tolist() == [1, 3]


def test_yolo_objectness_multiplies() -> None:
    rows = [[*PIXELS, 0.5, 0.1, 0.9, 0, 0], [40, 20, 8, 8, 0.2, 1, 1, 1, 1]]
    found = answer({"kind": "yolo", "objectness": True, "box_per": "row"}, {"output0": yolo_table(rows)[None]})
    np.testing.assert_allclose(found.scores, [0.45], atol=1e-6)
    assert found.classes.tolist() == [1]


@pytest.mark.parametrize("objectness", [True, False])
def test_yolo_raw_scores_go_through_sigmoid(objectness: bool) -> None:
    raw = np.full((6, 8 + objectness), -20, np.float32)
    raw[:, :4] = PIXELS
    raw[2, -2] = logit(0.7)
    if objectness:
        raw[2, 4] = logit(0.5)
    post = {"kind": "yolo", "objectness": objectness, "activation": "sigmoid", "box_per": "row"}
    found = answer(post, {"output0": raw[None]})
    np.testing.assert_allclose(found.scores, [0.35 if objectness else 0.7], atol=1e-6)
    assert found.classes.tolist() == [2]


@given(st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from([0.2, 0.4]))
def test_yolo_equals_a_plain_decoder(seed: int, objectness: bool, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    table = rng.random((30, 8 + objectness)).astype(np.float32)
    table[:, :4] = table[:, :4] * [64, 32, 30, 16] + [0, 0, 1, 1]
    post = {"kind": "yolo", "objectness": objectness, "box_per": "row", "score_threshold": threshold}
    post |= {"max_detections": 999, "max_candidates": 999}
    found = answer(post, {"output0": table[None]})
    rest: list[tuple] = []
    for cx, cy, w, h, *scores in table.astype(float):
        weight = scores.pop(0) if objectness else 1.0
        box = np.clip([(cx - w / 2) / 64, (cy - h / 2) / 32, (cx + w / 2) / 64, (cy + h / 2) / 32], 0, 1)
        rest += [(weight * s, c, box) for c, s in enumerate(scores) if weight * s >= threshold]
    kept: list[tuple] = []
    for score, c, box in sorted(rest, key=lambda f: -f[0]):
        rivals = [k[2] for k in kept if k[1] == c]
        if all(iou_matrix(np.array([r], np.float32), np.array([box], np.float32))[0, 0] <= 0.5 for r in rivals):
            kept.append((score, c, box))
    assert found.classes.tolist() == [c for _, c, _ in kept]
    np.testing.assert_allclose(found.scores, [s for s, _, _ in kept], atol=1e-6)
    np.testing.assert_allclose(found.boxes, np.array([b for _, _, b in kept]).reshape(-1, 4), atol=1e-6)


CORNERS = [8.0, 4.0, 24.0, 12.0]


@pytest.mark.parametrize(
    ("columns", "row", "coordinates"),
    [
        (["x_min", "y_min", "x_max", "y_max", "score", "class"], [*CORNERS, 0.9, 3], "pixels"),
        (["image", "x_min", "y_min", "x_max", "y_max", "class", "score"], [0, *CORNERS, 3, 0.9], "pixels"),
        (["image", "class", "score", "x_min", "y_min", "x_max", "y_max"], [0, 3, 0.9, *UNIT], "unit"),
        (["class", "score", "x", "y", "width", "height"], [3, 0.9, *PIXELS], "pixels"),
        (["x_min", "y_min", "width", "height", "score", "class"], [8, 4, 16, 8, 0.9, 3, 55, 56], "pixels"),
    ],
)
@pytest.mark.parametrize("leading", [0, 1, 2])
def test_listed_detections_in_any_order_of_columns(columns: list, row: list, coordinates: str, leading: int) -> None:
    padding = [-1.0 if i < len(columns) and columns[i] == "class" else 0.0 for i in range(len(row))]
    table = np.array([padding, row], np.float32).reshape((1,) * leading + (2, len(row)))
    post = {"kind": "detections", "output": "out", "columns": columns, "coordinates": coordinates}
    found = answer(post, {"out": table})
    np.testing.assert_allclose(found.boxes, [UNIT], atol=1e-6)
    np.testing.assert_allclose(found.scores, [0.9])
    assert found.classes.tolist() == [3]


def test_listed_detections_may_be_none_and_overlap() -> None:
    post = {"kind": "detections", "output": "out"}
    assert len(answer(post, {"out": np.zeros((0, 6), np.float32)})) == 0
    twice = np.array([[*CORNERS, 0.6, 1], [*CORNERS, 0.7, 1]], np.float32)
    assert answer(post, {"out": twice}).scores.tolist() == pytest.approx([0.7, 0.6])
    assert len(answer(post | {"suppressed": False}, {"out": twice})) == 1
    assert len(answer(post | {"max_detections": 1}, {"out": twice})) == 1


def beside(**change: np.ndarray) -> dict[str, np.ndarray]:
    """TensorFlow's four outputs: two boxes are meant, the third is left over."""
    boxes = np.array([[4 / 32, 8 / 64, 12 / 32, 24 / 64], [0, 0, 1, 1], [0, 0, 1, 1]], np.float32)
    return {
        "boxes": boxes[None],
        "scores": np.array([[0.9, 0.1, 0.8]], np.float32),
        "classes": np.array([[2, 1, 1]], np.float32),
        "count": np.array([2], np.float32),
    } | change


BESIDE = {"kind": "detections", "boxes": "boxes", "scores": "scores", "coordinates": "unit", "box_order": "yxyx"}


def test_boxes_scores_classes_and_their_count() -> None:
    found = answer(BESIDE | {"classes": "classes", "count": "count"}, beside())
    np.testing.assert_allclose(found.boxes, [UNIT], atol=1e-6)
    assert found.classes.tolist() == [2]
    assert answer(BESIDE | {"classes": "classes"}, beside()).classes.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("order", "box"),
    [("xyxy", UNIT), ("xywh", [*UNIT[:2], 0.25, 0.25]), ("cxcywh", [0.25, 0.25, 0.25, 0.25])],
)
def test_box_orders(order: str, box: list[float]) -> None:
    outputs = {"boxes": np.array([box], np.float32), "scores": np.array([0.9]), "classes": np.array([1], np.int64)}
    found = answer(BESIDE | {"classes": "classes", "box_order": order}, outputs)
    np.testing.assert_allclose(found.boxes, [UNIT], atol=1e-6)
    assert found.scores.dtype == np.float32


@pytest.mark.parametrize(
    ("change", "values", "labels", "expected"),
    [
        ({}, [0.2, 0.8, 0.4], 3, [(1, 0.8), (2, 0.4)]),
        ({"activation": "sigmoid"}, [logit(0.2), logit(0.8), -9], 3, [(1, 0.8)]),
        ({"background": "first"}, [0.9, 0.02, 0.35], 3, [(2, 0.35)]),
        ({"activation": "softmax", "background": "last"}, [0, math.log(6), 0, math.log(2)], 3, [(1, 0.6)]),
    ],
)
def test_scores_per_label(change: dict, values: list[float], labels: int, expected: list[tuple]) -> None:
    outputs = {"boxes": np.array([[UNIT]], np.float32), "scores": np.array([[values]], np.float32)}
    found = answer(BESIDE | {"box_order": "xyxy"} | change, outputs, labels=labels)
    assert found.classes.tolist() == [c for c, _ in expected]
    np.testing.assert_allclose(found.scores, [s for _, s in expected], atol=1e-6)


def centernet_outputs(last: bool = False) -> dict[str, np.ndarray]:
    # 16 x 8 cells of 4 pixels. The peak of class 2 at column 4, row 2; its neighbour is lower and no peak.
    heat, size, offset = (np.full((1, c, 8, 16), v, np.float32) for c, v in ((4, 0.0), (2, 0.0), (2, 0.0)))
    heat[0, 2, 2, 4], heat[0, 2, 2, 5], heat[0, 1, 7, 15] = 0.8, 0.7, 0.5
    size[0, :, 2, 4], offset[0, :, 2, 4] = (4, 2), (0.5, 0.25)
    outputs = {"heatmap": heat, "size": size, "offset": offset}
    return {k: v.transpose(0, 2, 3, 1) for k, v in outputs.items()} if last else outputs


CENTERNET = {"kind": "centernet", "activation": "none", "offset": "offset"}


@pytest.mark.parametrize("last", [False, True])
def test_centernet_takes_peaks_with_size_and_offset(last: bool) -> None:
    found = answer(CENTERNET | ({"layout": "NHWC"} if last else {}), centernet_outputs(last))
    assert found.classes.tolist() == [2, 1]
    np.testing.assert_allclose(found.scores, [0.8, 0.5])
    np.testing.assert_allclose(found.boxes[0], [2.5 / 16, 1.25 / 8, 6.5 / 16, 3.25 / 8], atol=1e-6)


def test_centernet_with_logits_pixels_and_no_offset() -> None:
    outputs = centernet_outputs()
    heat = outputs["heatmap"]
    outputs["heatmap"] = np.log(np.clip(heat, 1e-6, 1) / np.clip(1 - heat, 1e-6, 1))
    outputs["size"] = outputs["size"] * 4
    found = answer({"kind": "centernet", "size_unit": "pixels"}, outputs)
    np.testing.assert_allclose(found.scores, [0.8, 0.5], atol=1e-5)
    np.testing.assert_allclose(found.boxes[0], [2.5 / 16, 1.5 / 8, 6.5 / 16, 3.5 / 8], atol=1e-6)
    assert len(answer({"kind": "centernet"}, outputs | {"heatmap": np.full((1, 4, 8, 16), -9, np.float32)})) == 0


def test_centernet_with_logarithms_and_y_first() -> None:
    outputs = centernet_outputs()
    outputs["size"], outputs["offset"] = np.log(outputs["size"][:, ::-1] + 1e-9), outputs["offset"][:, ::-1]
    found = answer(CENTERNET | {"order": "yx", "size_activation": "exp"}, outputs)
    np.testing.assert_allclose(found.boxes[0], [2.5 / 16, 1.25 / 8, 6.5 / 16, 3.25 / 8], atol=1e-6)
    absurd = outputs | {"size": np.full((1, 2, 8, 16), 3e38, np.float32)}
    assert np.isfinite(answer(CENTERNET | {"size_activation": "exp"}, absurd).boxes).all()


def test_segmentation_takes_the_best_class_of_each_pixel() -> None:
    scores = np.zeros((1, 3, 2, 5), np.float32)
    scores[0, 2, 1, 4] = scores[0, 1, 0, 0] = 1
    expected = np.zeros((2, 5), np.uint8)
    expected[1, 4], expected[0, 0] = 2, 1
    for post, value in (({}, scores), ({"layout": "NHWC"}, scores.transpose(0, 2, 3, 1))):
        found = answer({"kind": "segmentation"} | post, {"output": value}, labels=3)
        np.testing.assert_array_equal(found.tensors["mask"], expected)
        assert found.tensors["mask"].dtype == np.uint8 and len(found) == 0


@pytest.mark.parametrize("shape", [(4, 5), (1, 4, 5), (1, 1, 4, 5), (1, 4, 5, 1), (1, 4, 1)])
@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_segmentation_of_class_indices(shape: tuple[int, ...], dtype: type) -> None:
    value = (np.arange(math.prod(shape)) % 4).reshape(shape).astype(dtype)
    found = answer({"kind": "segmentation", "holds": "labels"}, {"output": value})
    mask = found.tensors["mask"]
    assert mask.shape == tuple(n for n in shape if n != 1) if math.prod(shape) > 4 else mask.ndim == 2
    np.testing.assert_array_equal(mask.ravel(), value.ravel())


@pytest.mark.parametrize(
    ("post", "values"),
    [({}, [0.49, 0.51]), ({"activation": "sigmoid"}, [-0.1, 0.1]), ({"threshold": 0.9}, [0.8, 0.95])],
)
def test_segmentation_of_one_class(post: dict, values: list[float]) -> None:
    value = np.array(values, np.float32).reshape(1, 1, 1, 2)
    found = answer({"kind": "segmentation"} | post, {"output": value}, labels=2)
    assert found.tensors["mask"].tolist() == [[0, 1]]


def test_masks_of_many_classes_are_wider() -> None:
    value = np.array([[300]], np.int32)
    found = answer({"kind": "segmentation", "holds": "labels"}, {"output": value}, labels=400)
    assert found.tensors["mask"].dtype == np.uint16 and found.tensors["mask"].tolist() == [[300]]


def test_tensors_stay_as_they_are() -> None:
    outputs = {"a": np.array([[1.5]], np.float32), "b": np.array([7], np.int64)}
    found = answer({"kind": "tensor"}, outputs)
    assert set(found.tensors) == {"a", "b"} and found.tensors["b"].dtype == np.int64
    assert set(answer({"kind": "tensor", "outputs": ["b"]}, outputs).tensors) == {"b"}


def test_a_classifier_of_one_pixel_is_one_too() -> None:
    found = answer(
        {"kind": "classifier", "activation": "none"}, {"logits": np.eye(4, dtype=np.float16)[None, 2, :, None, None]}
    )
    assert found.classes[0] == 2 and found.scores[0] == 1


@pytest.mark.parametrize(
    ("post", "outputs", "says"),
    [
        ({"kind": "yolo"}, {"output0": np.zeros((1, 7, 20))}, "7 values per box.*at least 8"),
        ({"kind": "yolo"}, {"output0": np.zeros((2, 8, 20))}, r"\(2, 8, 20\)"),
        ({"kind": "detections", "output": "out"}, {"out": np.zeros((3, 5))}, "5 columns.*names 6"),
        (BESIDE | {"classes": "classes"}, beside(scores=np.zeros((1, 2))), "'boxes', 'scores'|3 boxes"),
        (BESIDE, beside(), r"1 columns, the manifest implies 4"),
        (BESIDE, beside(boxes=np.zeros((1, 3, 5))), r"'boxes'.*\(1, 3, 5\)"),
        (CENTERNET, centernet_outputs() | {"size": np.zeros((1, 2, 4, 4))}, r"\(8, 16\) and \(4, 4\)"),
        (
            CENTERNET,
            centernet_outputs() | {"heatmap": np.zeros((1, 3, 8, 16))},
            r"\(1, 3, 8, 16\).*\(1, 4, any, any\)",
        ),
        ({"kind": "segmentation"}, {"output": np.zeros((1, 3, 8, 8))}, "3 channels.*4 labels"),
        ({"kind": "segmentation", "holds": "labels"}, {"output": np.zeros((2, 3, 8))}, r"\(2, 3, 8\)"),
        ({"kind": "tensor", "outputs": ["c"]}, {"a": np.zeros(1)}, "'c' is missing"),
    ],
)
def test_outputs_that_do_not_fit_are_named(post: dict, outputs: dict, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        answer(post, outputs)
