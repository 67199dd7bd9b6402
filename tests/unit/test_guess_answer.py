"""Guessing what outputs mean, from names, shapes, last operators and made-up samples of many families of models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from guess_models import PICTURE, skeleton
from onnx import TensorProto

from splitmesh.plan.answers.postprocess import build_postprocess
from splitmesh.plan.answers.yolo import grid_cells
from splitmesh.plan.guess.facts import read_facts
from splitmesh.plan.guess.feed import CAFFE_MEAN, RAW, SIGNED, STANDARD, UNIT, Range
from splitmesh.plan.guess.labels import labels_by_count, labels_from
from splitmesh.plan.guess.model import guess_manifest
from splitmesh.plan.guess.picture import guess_picture
from splitmesh.plan.manifest import Manifest

RNG = np.random.default_rng(5)
CELLS = grid_cells((8, 16, 32), 640, 640)
CENTRES = (CELLS[:, :2] + 0.5) * CELLS[:, 2:]


def guessed(
    outputs: dict[str, np.ndarray], inputs: dict | None = None, *, declared: dict | None = None, **kwargs: Any
) -> tuple[Manifest, str]:
    """The guess for a model that gives `outputs`, and its notes; every sample is also what its manifest must read."""
    shapes = {name: value.shape for name, value in outputs.items()} | (declared or {})
    whole = {n: TensorProto.INT64 for n, v in outputs.items() if v.dtype.kind == "i"}
    kwargs["dtypes"] = whole | kwargs.get("dtypes", {})
    facts = read_facts(skeleton(inputs or PICTURE, shapes, **kwargs))
    guess = guess_picture(facts)
    samples = [outputs, {name: value.copy() for name, value in outputs.items()}]
    manifest, notes = guess_manifest(facts, guess, guess.trials[0], name="m", samples=samples)
    build_postprocess(manifest, None)(outputs)
    return manifest, "\n".join(notes)


def fed(manifest: Manifest, family: Range, color: str, fit: str) -> bool:
    return (manifest.scale, manifest.offset, manifest.color, manifest.fit) == (
        family.scale,
        family.offset,
        color,
        fit,
    )


def unit(*shape: int) -> np.ndarray:
    return RNG.random(shape).astype(np.float32)


def logits(*shape: int) -> np.ndarray:
    return RNG.normal(0, 3, shape).astype(np.float32)


def probabilities(*shape: int) -> np.ndarray:
    raw = np.exp(logits(*shape))
    return (raw / raw.sum(axis=-1, keepdims=True)).astype(np.float32)


def decoded(columns: int, anchors: int = 1) -> np.ndarray:
    """(1, N, columns): boxes near their cells in pixels, all else in [0, 1]."""
    table = unit(1, len(CELLS) * anchors, columns)
    table[0, :, :2] = np.tile(CENTRES, (anchors, 1)) + RNG.normal(0, 5, (len(CELLS) * anchors, 2))
    table[0, :, 2:4] = 5 + 200 * unit(len(CELLS) * anchors, 2)
    return table


def columns(table: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(table.transpose(0, 2, 1))


def corners(n: int, scale: float = 640.0, *leading: int) -> np.ndarray:
    low = unit(*leading, n, 2) * 0.5
    return np.concatenate([low, low + 0.05 + unit(*leading, n, 2) * 0.4], axis=-1).astype(np.float32) * scale


V8_NAMES = {
    "names": "{0: 'pallet', 1: 'forklift', 2: 'human'}",
    "task": "detect",
    "stride": "32",
    "imgsz": "[640, 640]",
}
POSE = {"names": "{0: 'person'}", "task": "pose", "kpt_shape": "[17, 3]"}


@pytest.mark.parametrize(
    ("outputs", "known", "post", "labels"),
    [
        ({"output0": columns(decoded(84))}, {}, {"box_per": "column", "objectness": False}, 80),
        (
            {"output0": columns(decoded(7))},
            {"metadata": V8_NAMES},
            {"box_per": "column"},
            ("pallet", "forklift", "human"),
        ),
        ({"output0": columns(decoded(9))}, {}, {"box_per": "column"}, 5),
        ({"output0": columns(decoded(56))}, {"metadata": POSE}, {"box_per": "column"}, ("person",)),
        ({"output0": columns(decoded(56))}, {}, {"box_per": "column"}, 1),
        ({"output0": columns(decoded(116)), "output1": unit(1, 32, 160, 160)}, {}, {"box_per": "column"}, 80),
        ({"output0": decoded(84)}, {}, {"box_per": "row", "objectness": False}, 80),
        ({"output0": decoded(85, 3)}, {}, {"box_per": "row", "objectness": True}, 80),
        ({"a": unit(1, 3, 80, 80, 85), "output": decoded(9, 3)}, {}, {"output": "output", "objectness": True}, 4),
        (
            {"output0": columns(decoded(84) / np.array([640] * 4 + [1] * 80, np.float32))},
            {},
            {"coordinates": "unit"},
            80,
        ),
        (
            {"output0": columns(decoded(84) + np.array([0] * 4 + [-3] * 80, np.float32))},
            {},
            {"activation": "sigmoid"},
            80,
        ),
    ],
    ids=[
        "v8",
        "v8 named",
        "v8 unnamed",
        "pose named",
        "pose",
        "masks",
        "v8 rows",
        "v5",
        "v5 raw too",
        "unit",
        "raw scores",
    ],
)
def test_yolo(outputs: dict, known: dict, post: dict, labels: int | tuple) -> None:
    manifest, notes = guessed(outputs, **known)
    assert manifest.postprocess.kind == "yolo"
    assert post.items() <= manifest.postprocess.model_dump().items()
    assert len(manifest.labels) == labels if isinstance(labels, int) else manifest.labels == labels
    assert fed(manifest, UNIT, "RGB", "letterbox")
    assert "number of cells of" in notes and "channel order can't be seen" in notes


def test_a_set_predictor_in_the_same_form_has_no_grid() -> None:
    manifest, _ = guessed({"output0": unit(1, 300, 84)}, operators=["TopK"])
    post = manifest.postprocess
    assert (post.kind, post.box_per, post.objectness, post.coordinates) == ("yolo", "row", False, "unit")
    assert len(manifest.labels) == 80


def test_yolov6_has_an_objectness_of_one() -> None:
    table = decoded(85)
    table[:, :, 4] = 1
    manifest, _ = guessed({"outputs": table})
    assert (manifest.postprocess.kind, manifest.postprocess.objectness) == ("yolo", True)


@pytest.mark.parametrize("is_decoded", [False, True])
def test_yolox(is_decoded: bool) -> None:
    table = decoded(19)
    if not is_decoded:
        table[0, :, :4] = RNG.normal(0, 1, (len(CELLS), 4))
    manifest, notes = guessed({"output": table})
    assert (manifest.postprocess.kind, manifest.postprocess.decoded) == ("yolox", is_decoded)
    assert len(manifest.labels) == 14 and manifest.postprocess.strides == (8, 16, 32)
    assert fed(manifest, RAW, "BGR", "letterbox")
    assert "80×80 + 40×40 + 20×20" in notes and "#13" in notes


def test_yunet_by_its_names() -> None:
    outputs = {
        f"{prefix}_{stride}": unit(1, (640 // stride) ** 2, depth)
        for prefix, depth in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))
        for stride in (8, 16, 32)
    }
    manifest, _ = guessed(outputs)
    assert (manifest.postprocess.kind, manifest.labels) == ("yunet", ("face",))
    assert fed(manifest, RAW, "BGR", "letterbox") and manifest.pad_value == 0


def rows(order: str, n: int = 20, *leading: int, scale: float = 640.0) -> np.ndarray:
    """order: b for the four corners, s for a score, c for a class, i for the picture's index."""
    made = {"b": corners(n, scale), "s": unit(n, 1), "c": RNG.integers(0, 80, (n, 1)), "i": np.zeros((n, 1))}
    return np.concatenate([made[key] for key in order], axis=1).astype(np.float32).reshape(*leading, n, -1)


@pytest.mark.parametrize(
    ("value", "first", "coordinates", "known"),
    [
        (rows("bsc", 300, 1), ("x_min", "score", "class"), "pixels", {"operators": ["TopK"]}),
        (rows("csb"), ("class", "score", "x_min"), "pixels", {"producer": "PaddlePaddle"}),
        (rows("ibcs"), ("image", "class", "score"), "pixels", {"operators": ["NonMaxSuppression"]}),
        (rows("icsb", 20, 1, 1, scale=1.0), ("image", "class", "score"), "unit", {}),
        (np.zeros((0, 7), np.float32), ("image", "class", "score"), "pixels", {"operators": ["NonMaxSuppression"]}),
        (np.zeros((0, 6), np.float32), ("x_min", "score", "class"), "pixels", {"operators": ["NonMaxSuppression"]}),
    ],
    ids=["v10", "paddle", "v7", "openvino", "none of 7", "none of 6"],
)
def test_rows_that_the_graph_has_suppressed(value: np.ndarray, first: tuple, coordinates: str, known: dict) -> None:
    manifest, _ = guessed(
        {"detections": value}, declared={"detections": (*value.shape[:-2], "N", value.shape[-1])}, **known
    )
    post = manifest.postprocess
    assert (post.kind, post.coordinates, post.suppressed) == ("detections", coordinates, True)
    assert tuple(sorted(first, key=post.columns.index)) == first
    assert len(manifest.labels) == 80


def beside(n: int, *leading: int, scale: float = 640.0, whole: bool = True) -> list[np.ndarray]:
    classes = RNG.integers(1, 91, (*leading, n))
    return [corners(n, scale, *leading), unit(*leading, n), classes.astype(np.int64 if whole else np.float32)]


def test_torchvision_detectors() -> None:
    boxes, scores, classes = beside(7)
    outputs = {"boxes": boxes, "labels": classes, "scores": scores}
    manifest, _ = guessed(
        outputs, {"x": (3, 480, 640)}, declared={"boxes": ("N", 4), "labels": ("N",), "scores": ("N",)}
    )
    post = manifest.postprocess
    assert (post.boxes, post.scores, post.classes, post.box_order, post.coordinates) == (
        *("boxes", "scores", "labels"),
        *("xyxy", "pixels"),
    )
    assert len(manifest.labels) == 91 and manifest.labels[1] == "person"
    assert (manifest.layout, manifest.height, manifest.width) == ("NCHW", 480, 640)


def test_tensorflow_detectors() -> None:
    boxes, scores, classes = beside(100, 1, scale=1.0, whole=False)
    outputs = {
        "detection_anchor_indices": unit(1, 100),
        "detection_boxes": boxes,
        "detection_classes": classes,
        "detection_scores": scores,
        "num_detections": np.array([100], np.float32),
        "raw_detection_boxes": corners(1917, 1.0, 1),
    }
    inputs = {"input_tensor": (1, "H", "W", 3)}
    manifest, notes = guessed(outputs, inputs, producer="tf2onnx", dtypes={"input_tensor": TensorProto.UINT8})
    post = manifest.postprocess
    assert (post.boxes, post.scores, post.classes, post.count) == (
        *("detection_boxes", "detection_scores"),
        *("detection_classes", "num_detections"),
    )
    assert (post.box_order, post.coordinates, post.suppressed) == ("yxyx", "unit", True)
    assert manifest.layout == "NHWC" and fed(manifest, RAW, "RGB", "stretch")
    assert "uint8" in notes


@pytest.mark.parametrize(
    ("boxes", "scores", "closing", "expected", "labels"),
    [
        (unit(1, 100, 4), logits(1, 100, 92), "Sigmoid", ("cxcywh", "unit", "softmax", "last", True), 91),
        (unit(1, 300, 4), logits(1, 300, 80), "Sigmoid", ("cxcywh", "unit", "sigmoid", "none", True), 80),
        (corners(8400, 640.0, 1), unit(1, 8400, 80), "Add", ("xyxy", "pixels", "none", "none", False), 80),
        (corners(4420, 1.0, 1), probabilities(1, 4420, 2), "Concat", ("xyxy", "unit", "none", "first", False), 2),
        (corners(500, 1.0, 1), unit(1, 500), "Add", ("xyxy", "unit", "none", "none", True), 1),
        (corners(2535, 1.0, 1)[:, :, None], unit(1, 2535, 80), "Concat", ("xyxy", "unit", "none", "none", False), 80),
    ],
    ids=["detr", "rt-detr", "yolo-nas", "ultraface", "one class", "yolov4"],
)
def test_boxes_with_a_score_per_class(
    boxes: np.ndarray, scores: np.ndarray, closing: str, expected: tuple, labels: int
) -> None:
    manifest, _ = guessed({"pred_boxes": boxes, "logits": scores}, closing={"pred_boxes": closing})
    post = manifest.postprocess
    assert (post.kind, post.boxes, post.scores) == ("detections", "pred_boxes", "logits")
    assert (post.box_order, post.coordinates, post.activation, post.background, post.suppressed) == expected
    assert len(manifest.labels) == labels


def test_boxes_that_only_anchors_decode_stay_tensors_and_that_is_said() -> None:
    manifest, notes = guessed({"boxes": logits(1, 1917, 4), "class_logits": logits(1, 1917, 91)})
    assert manifest.postprocess.outputs == ("boxes", "class_logits")
    assert "anchors" in notes and "kind ssd" in notes


@pytest.mark.parametrize(
    ("names", "heat", "activation"),
    [(("hm", "wh", "reg"), unit(1, 80, 160, 160), "none"), (("1", "2", "3"), logits(1, 80, 160, 160), "sigmoid")],
)
def test_centernet(names: tuple[str, str, str], heat: np.ndarray, activation: str) -> None:
    values = (heat, 20 * unit(1, 2, 160, 160), unit(1, 2, 160, 160))
    manifest, _ = guessed(dict(zip(names, values, strict=True)))
    post = manifest.postprocess
    assert (post.kind, post.heatmap, post.size, post.offset) == ("centernet", *names)
    assert (post.activation, post.size_activation, len(manifest.labels)) == (activation, "none", 80)


def test_centerface_has_logarithms_y_first() -> None:
    values = (unit(1, 1, 160, 160), logits(1, 2, 160, 160), unit(1, 2, 160, 160), unit(1, 10, 160, 160))
    manifest, notes = guessed({"537": values[0], "538": values[1], "539": values[2], "540": values[3]})
    post = manifest.postprocess
    # The offsets are told from the sizes by how small they are.
    assert (post.size, post.offset, post.size_activation, post.order) == ("538", "539", "exp", "yx")
    assert "CenterFace" in notes and fed(manifest, RAW, "RGB", "stretch")


SMALL = {"x": (1, 3, 224, 224)}


@pytest.mark.parametrize(
    ("value", "closing", "known", "activation", "feed"),
    [
        (logits(1, 1000), "Gemm", {}, "softmax", STANDARD),
        (probabilities(1, 1000), "Softmax", {}, "none", STANDARD),
        (logits(1, 1000), "If", {}, "softmax", STANDARD),
        (unit(1, 30), "Sigmoid", {}, "none", STANDARD),
        (logits(1, 10), "Gemm", {}, "softmax", STANDARD),
        (logits(1, 10), "QGemm", {}, "softmax", STANDARD),
        (logits(1, 1001), "Gemm", {"producer": "tf2onnx"}, "softmax", SIGNED),
        (probabilities(1, 1000)[:, :, None, None], "Softmax", {"producer": "onnx-caffe2"}, "none", CAFFE_MEAN),
        (
            logits(1, 512),
            "Gemm",
            {"metadata": {"labels": str([f"kind {i}" for i in range(512)])}},
            "softmax",
            STANDARD,
        ),
        (probabilities(1, 1000), "Softmax", {"metadata": {"task": "classify"}}, "none", UNIT),
    ],
)
def test_classifiers(value: np.ndarray, closing: str, known: dict, activation: str, feed: Range) -> None:
    manifest, _ = guessed({"out": value}, SMALL, closing={"out": closing}, **known)
    assert (manifest.postprocess.kind, manifest.postprocess.activation) == ("classifier", activation)
    assert len(manifest.labels) == value.shape[1]
    assert (manifest.scale, manifest.offset) == (feed.scale, feed.offset)
    assert manifest.color == ("BGR" if feed is CAFFE_MEAN else "RGB")


def test_a_classifier_with_training_heads_is_read_at_the_first() -> None:
    outputs = {"logits": logits(1, 1000), "aux1": logits(1, 1000), "features": unit(1, 64, 7, 7)}
    assert guessed(outputs, SMALL)[0].postprocess.output == "logits"


@pytest.mark.parametrize(
    ("outputs", "inputs"),
    [
        ({"e": logits(1, 512)}, SMALL),
        ({"e": (v := logits(1, 300)) / np.linalg.norm(v)}, SMALL),
        ({"mesh": logits(1, 1404), "flag": logits(1, 1)}, SMALL),
        ({"age": logits(1, 1)}, SMALL),
        ({"x2": unit(1, 3, 448, 448)}, SMALL),
        ({"depth": 9 * unit(1, 1, 224, 224)}, SMALL),
        ({"joints": unit(1, 17, 56, 56)}, SMALL),
        ({"features": unit(1, 256, 14, 14)}, SMALL),
        ({"text": unit(1, 40, 6625)}, {"x": (1, 3, 48, 320)}),
        ({"hidden": logits(1, 16, 768), "pooled": logits(1, 768)}, {"ids": (1, 16)}),
        ({"map": unit(1, 10, 64)}, {"sound": (1, 16_000)}),
        ({"value": np.array(3, np.float32)}, SMALL),
    ],
)
def test_what_fits_no_kind_stays_as_it_is(outputs: dict, inputs: dict) -> None:
    manifest, notes = guessed(outputs, inputs)
    assert manifest.postprocess.kind == "tensor"
    assert manifest.output_names == tuple(outputs)
    assert "as they are" in notes or "embedding" in notes


def test_more_than_an_answer_can_hold_is_left_out() -> None:
    outputs = {f"o{i}": logits(1, 3) for i in range(70)}
    manifest, notes = guessed(outputs, SMALL)
    assert manifest.output_names == tuple(outputs)[:64]
    assert "left out 6 outputs" in notes


@pytest.mark.parametrize(
    ("value", "closing", "post", "labels"),
    [
        (logits(1, 21, 224, 224), "Resize", {"layout": "NCHW", "holds": "scores"}, 21),
        (logits(1, 224, 224, 19), "Resize", {"layout": "NHWC"}, 19),
        (logits(1, 19, 28, 28), "Conv", {"layout": "NCHW"}, 19),
        (np.moveaxis(probabilities(1, 56, 56, 7), 3, 1), "Softmax", {"layout": "NCHW"}, 7),
        (unit(1, 1, 224, 224), "Sigmoid", {"activation": "none"}, 2),
        (logits(1, 1, 224, 224), "Conv", {"activation": "sigmoid"}, 2),
        (RNG.integers(0, 21, (1, 224, 224)), "ArgMax", {"holds": "labels"}, 21),
        (RNG.integers(0, 33, (1, 1, 224, 224)), "ArgMax", {"holds": "labels"}, 33),
        (RNG.integers(0, 5, (1, 224, 224, 1)).astype(np.float32), "ArgMax", {"holds": "labels"}, 21),
    ],
)
def test_segmentation(value: np.ndarray, closing: str, post: dict, labels: int) -> None:
    outputs = {"out": value, "aux": value}
    manifest, _ = guessed(outputs, SMALL, closing={"out": closing})
    assert manifest.postprocess.kind == "segmentation"
    assert (post | {"output": "out"}).items() <= manifest.postprocess.model_dump().items()
    assert len(manifest.labels) == labels
    mask = build_postprocess(manifest, None)(outputs).tensors["mask"]
    assert mask.shape == tuple(n for n in value.shape if n in (224, 56, 28)) and mask.max() > 0


def test_without_samples_the_graph_alone_decides_and_that_is_said() -> None:
    known = read_facts(skeleton(PICTURE, {"output0": (1, 84, 8400)}))
    guess = guess_picture(known)
    manifest, notes = guess_manifest(known, guess, guess.trials[0], name="m")
    assert manifest.postprocess.kind == "yolo"
    assert "from the graph alone" in notes[-1]
    for outputs, kind in (
        ({"boxes": (1, 1917, 4), "scores": (1, 1917, 91)}, "tensor"),
        ({"out": (1, "C")}, "tensor"),
        ({"out": ("N", 6)}, "classifier"),
        ({"out": ()}, "tensor"),
    ):
        known = read_facts(skeleton(SMALL, outputs))
        guess = guess_picture(known)
        assert guess_manifest(known, guess, guess.trials[0], name="m")[0].postprocess.kind == kind


def test_grey_and_flat_models_are_never_fed_per_channel() -> None:
    grey, notes = guessed({"out": logits(1, 10)}, {"x": (1, 1, 28, 28)})
    assert fed(grey, UNIT, "RGB", "stretch") and "grey" in notes
    flat, notes = guessed({"out": probabilities(1, 10)}, {"x": (1, 784)}, closing={"out": "Softmax"})
    assert (flat.layout, flat.shape, flat.postprocess.kind) == ("flat", (1, 784), "classifier")
    assert len(set(flat.scale)) == 1 and "no picture" in notes


@pytest.mark.parametrize(
    ("said", "labels"),
    [
        ({"0": "a", "1": "b"}, ("a", "b")),
        ({1: "b", 0: "a"}, ("a", "b")),
        (["a", "b"], ("a", "b")),
        ({"1": "a", "2": "b"}, ()),
        (["a", 2], ()),
        ("a", ()),
        (None, ()),
        ([], ()),
    ],
)
def test_labels_in_metadata(said: object, labels: tuple[str, ...]) -> None:
    assert labels_from(said) == labels


@pytest.mark.parametrize(
    ("count", "index", "name"),
    [(80, 79, "toothbrush"), (91, 1, "person"), (90, 0, "person"), (20, 0, "aeroplane"), (21, 0, "background"),
     (19, 18, "bicycle"), (1000, 0, "tench"), (1001, 1, "tench"), (7, 6, "#6")],
)  # fmt: skip
def test_labels_by_count(count: int, index: int, name: str) -> None:
    labels, _ = labels_by_count(count)
    assert len(labels) == count and labels[index] == name
