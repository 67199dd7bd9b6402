"""Post-processing against outputs made by hand and against a slow, plain decoder."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmesh.errors import ModelError
from splitmesh.frames.boxes import iou_matrix
from splitmesh.plan.answers.postprocess import build_postprocess
from splitmesh.plan.manifest import Manifest, parse_manifest


def manifest(post: dict, labels: int = 4, width: int = 64, height: int = 32) -> Manifest:
    data = {
        "name": "by-hand",
        "input": "x",
        "width": width,
        "height": height,
        "scale": [1, 1, 1],
        "offset": [0, 0, 0],
        "labels": [f"l{i}" for i in range(labels)],
        "licence": "none",
        "source": "test",
        "postprocess": post,
    }
    return parse_manifest(data, where="test")


def logit(p: float) -> float:
    return math.log(p / (1 - p))


SSD = {"kind": "ssd", "anchors": "a.npy"}
ANCHORS = np.array([[0.2, 0.4, 0.4, 0.8], [0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]], np.float32)


def test_ssd_decodes_the_anchor_and_its_offsets() -> None:
    logits = np.full((1, 3, 4), -9, np.float32)
    logits[0, :, 0] = 9
    logits[0, 0, 2], logits[0, 2, 3] = logit(0.9), logit(0.6)
    codes = np.zeros((1, 3, 4), np.float32)
    # Down by half the height (0.1), twice as wide: centre (0.4, 0.6), height 0.2, width 0.8.
    codes[0, 0] = [5.0, 0.0, 0.0, 5 * math.log(2)]
    answer = build_postprocess(manifest(SSD), ANCHORS)({"boxes": codes, "class_logits": logits})
    np.testing.assert_allclose(answer.boxes, [[0.2, 0.3, 1.0, 0.5], [0.5, 0.5, 1.0, 1.0]], atol=1e-6)
    np.testing.assert_allclose(answer.scores, [0.9, 0.6], atol=1e-6)
    assert answer.classes.tolist() == [2, 3]
    assert answer.classes.dtype == np.uint16 and answer.boxes.dtype == np.float32


def test_ssd_background_is_never_reported() -> None:
    logits = np.full((1, 3, 4), -9, np.float32)
    logits[0, :, 0] = 9
    outputs = {"boxes": np.zeros((1, 3, 4), np.float32), "class_logits": logits}
    assert len(build_postprocess(manifest(SSD), ANCHORS)(outputs)) == 0
    plain = build_postprocess(manifest(SSD | {"background": False}), ANCHORS)
    assert plain(outputs).classes.tolist() == [0, 0, 0]


def test_ssd_suppresses_within_a_class_only() -> None:
    anchors = np.repeat(ANCHORS[:1], 3, axis=0)
    logits = np.full((1, 3, 4), -9, np.float32)
    logits[0, 0, 1], logits[0, 1, 1], logits[0, 2, 2] = logit(0.7), logit(0.8), logit(0.5)
    answer = build_postprocess(manifest(SSD), anchors)(
        {"boxes": np.zeros((1, 3, 4), np.float32), "class_logits": logits}
    )
    assert answer.classes.tolist() == [1, 2]
    np.testing.assert_allclose(answer.scores, [0.8, 0.5], atol=1e-6)


def slow_ssd(post: dict, anchors: np.ndarray, codes: np.ndarray, logits: np.ndarray) -> list[tuple]:
    found = []
    for a, (ty, tx, th, tw) in enumerate(codes.astype(float)):
        top, left, bottom, right = anchors[a].astype(float)
        cy, cx = (top + bottom) / 2 + ty / 10 * (bottom - top), (left + right) / 2 + tx / 10 * (right - left)
        h, w = math.exp(th / 5) * (bottom - top), math.exp(tw / 5) * (right - left)
        box = np.clip([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 0, 1)
        row = logits[a].astype(float)
        scores = 1 / (1 + np.exp(-row))
        if post.get("activation") == "softmax":
            scores = np.exp(row) / np.exp(row).sum()
        found += [(scores[c], c, box) for c in range(1, len(row)) if scores[c] >= post["score_threshold"]]
    kept: list[tuple] = []
    for score, c, box in sorted(found, key=lambda f: -f[0]):
        rivals = [k[2] for k in kept if k[1] == c]
        if all(iou_matrix(np.array([r], np.float32), np.array([box], np.float32))[0, 0] <= 0.5 for r in rivals):
            kept.append((score, c, box))
    return kept


@given(st.integers(0, 2**32 - 1), st.sampled_from(["sigmoid", "softmax"]), st.sampled_from([0.2, 0.37, 0.6]))
def test_ssd_equals_a_plain_decoder(seed: int, activation: str, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.random((12, 2)) * 0.6
    anchors = np.concatenate([corner, corner + 0.1 + rng.random((12, 2)) * 0.3], axis=1).astype(np.float32)
    codes, logits = rng.normal(0, 2, (12, 4)).astype(np.float32), rng.normal(-0.5, 2, (12, 4)).astype(np.float32)
    post = SSD | {"activation": activation, "score_threshold": threshold}
    answer = build_postprocess(manifest(post), anchors)({"boxes": codes[None], "class_logits": logits[None]})
    expected = slow_ssd(post, anchors, codes, logits)
    assert answer.classes.tolist() == [c for _, c, _ in expected]
    np.testing.assert_allclose(answer.scores, [s for s, _, _ in expected], atol=1e-5)
    np.testing.assert_allclose(answer.boxes, np.array([b for _, _, b in expected]).reshape(-1, 4), atol=1e-5)


def test_detections_and_candidates_are_bounded() -> None:
    anchors = np.array([[i / 20, 0, (i + 1) / 20, 1] for i in range(20)], np.float32)
    logits = np.full((1, 20, 4), -9, np.float32)
    logits[0, :, 1] = np.linspace(0, 1, 20)
    outputs = {"boxes": np.zeros((1, 20, 4), np.float32), "class_logits": logits}
    few = build_postprocess(manifest(SSD | {"max_detections": 3}), anchors)(outputs)
    fewer = build_postprocess(manifest(SSD | {"max_candidates": 2}), anchors)(outputs)
    assert (len(few), len(fewer)) == (3, 2)
    np.testing.assert_allclose(few.boxes[0], [0, 0.95, 1, 1], atol=1e-6)


def yolox_outputs() -> np.ndarray:
    # 64 x 32 with strides 8 and 16: 8*4 + 4*2 cells.
    raw = np.zeros((1, 40, 9), np.float32)
    # Cell (column 3, row 1) of stride 8: centre ((3 + 0.5) * 8, (1 + 0.25) * 8), size 16 x 8.
    raw[0, 8 + 3] = [0.5, 0.25, math.log(2), 0, 0.8, 0.1, 0.9, 0.0, 0.0]
    # Cell (1, 1) of stride 16; objectness alone does not suffice.
    raw[0, 32 + 5] = [0, 0, 0, 0, 0.9, 0.3, 0.3, 0.3, 0.3]
    return raw


def test_yolox_decodes_grid_and_stride() -> None:
    run = build_postprocess(manifest({"kind": "yolox", "strides": [8, 16]}), None)
    answer = run({"output": yolox_outputs()})
    np.testing.assert_allclose(answer.boxes, [[20 / 64, 6 / 32, 36 / 64, 14 / 32]], atol=1e-6)
    np.testing.assert_allclose(answer.scores, [0.72], atol=1e-6)
    assert answer.classes.tolist() == [1]


def test_yolox_with_boxes_already_in_pixels() -> None:
    raw = yolox_outputs()
    raw[0, 11, :4] = [28, 10, 16, 8]
    run = build_postprocess(manifest({"kind": "yolox", "strides": [8, 16], "decoded": True}), None)
    np.testing.assert_allclose(run({"output": raw}).boxes, [[20 / 64, 6 / 32, 36 / 64, 14 / 32]], atol=1e-6)


def test_yunet_decodes_box_score_and_landmarks() -> None:
    outputs = {}
    for stride, cells in ((8, 32), (16, 8)):
        for prefix, depth in (("cls_", 1), ("obj_", 1), ("bbox_", 4), ("kps_", 10)):
            outputs[f"{prefix}{stride}"] = np.zeros((1, cells, depth), np.float32)
    cell = 4 + 2  # column 2, row 1 of stride 16
    outputs["cls_16"][0, cell], outputs["obj_16"][0, cell] = 0.81, 1.2
    outputs["bbox_16"][0, cell] = [0.5, -0.5, math.log(0.5), math.log(0.25)]
    outputs["kps_16"][0, cell] = [0, 0, 1, 0, 0, -1, -1, -1, 9, 9]
    run = build_postprocess(manifest({"kind": "yunet", "strides": [8, 16]}, labels=1), None)
    answer = run(outputs)
    np.testing.assert_allclose(answer.scores, [0.9], atol=1e-6)
    np.testing.assert_allclose(answer.boxes, [[36 / 64, 6 / 32, 44 / 64, 10 / 32]], atol=1e-6)
    expected = [[0.5, 0.5], [0.75, 0.5], [0.5, 0], [0.25, 0], [1, 1]]
    np.testing.assert_allclose(answer.points, [expected], atol=1e-6)
    outputs["cls_16"][0, cell] = 0
    assert len(run(outputs)) == 0


def test_classifier_gives_the_best_labels_over_the_whole_picture() -> None:
    run = build_postprocess(manifest({"kind": "classifier", "top_k": 2}), None)
    answer = run({"logits": np.array([[0.0, math.log(4), math.log(3), 0.0]], np.float32)})
    assert answer.classes.tolist() == [1, 2]
    np.testing.assert_allclose(answer.scores, [4 / 9, 3 / 9], atol=1e-6)
    np.testing.assert_array_equal(answer.boxes, [[0, 0, 1, 1]] * 2)


@pytest.mark.parametrize(
    ("post", "outputs", "says"),
    [
        (SSD, {"boxes": np.zeros((1, 3, 4), np.float32)}, "'class_logits' is missing"),
        (SSD, {"boxes": np.zeros((1, 3, 4)), "class_logits": np.zeros((1, 3, 5))}, r"\(1, 3, 5\).*\(1, 3, 4\)"),
        ({"kind": "yolox"}, {"output": np.zeros((1, 40, 9))}, r"\(1, 40, 9\).*\(1, 42, 9\)"),
        ({"kind": "classifier"}, {"logits": np.zeros((2, 4))}, r"\(2, 4\)"),
        ({"kind": "yunet", "strides": [8]}, {"cls_8": np.zeros((1, 31, 1))}, "'cls_8'"),
    ],
)
def test_outputs_that_do_not_fit_are_named(post: dict, outputs: dict, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        build_postprocess(manifest(post), ANCHORS)(outputs)


@pytest.mark.parametrize("anchors", [None, np.zeros((3, 5), np.float32), np.zeros((0, 4), np.float32)])
def test_ssd_needs_sound_anchors(anchors: np.ndarray | None) -> None:
    with pytest.raises(ModelError, match="anchors"):
        build_postprocess(manifest(SSD), anchors)


def test_absurd_box_codes_stay_finite() -> None:
    logits = np.full((1, 3, 4), 9, np.float32)
    codes = np.full((1, 3, 4), 3e38, np.float32)
    answer = build_postprocess(manifest(SSD), ANCHORS)({"boxes": codes, "class_logits": logits})
    assert np.isfinite(answer.boxes).all()
