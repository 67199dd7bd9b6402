"""What noise at a cut costs the answer: held against derivatives that are known, on real sessions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from splitmesh.inference.planning.relevance import CHANCE, relevant
from splitmesh.inference.planning.sensitivity import sensitivity
from splitmesh.inference.session import Session, open_session
from splitmesh.plan.manifest_kinds import (
    CenternetPostprocess,
    ClassifierPostprocess,
    DetectionsPostprocess,
    Postprocess,
    SegmentationPostprocess,
    SsdPostprocess,
    TensorPostprocess,
    YoloPostprocess,
    YoloxPostprocess,
    YunetPostprocess,
)


def mixing(path: Path, weights: dict[str, np.ndarray], *, batch: int | str = "N") -> Session:
    """A tail whose output is a 1×1 convolution of each input (batch, C, 6, 6) by its weights (D, C), added up."""
    nodes, terms = [], []
    for name in weights:
        nodes.append(helper.make_node("Conv", [name, f"{name}_w"], [f"{name}_y"]))
        terms.append(f"{name}_y")
    nodes.append(helper.make_node("Sum", terms, ["y"]))
    outputs = len(next(iter(weights.values())))
    graph = helper.make_graph(
        nodes,
        "tail",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, weight.shape[1], 6, 6])
            for name, weight in weights.items()
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, outputs, 6, 6])],
        [
            numpy_helper.from_array(weight.astype(np.float32)[:, :, None, None], f"{name}_w")
            for name, weight in weights.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return open_session(path, providers=("cpu",))


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


TENSORS = relevant(TensorPostprocess(kind="tensor"))


@pytest.mark.parametrize("batch", ["N", 1])
def test_of_a_linear_tail_it_is_the_product_of_its_weights(tmp_path: Path, batch: int | str) -> None:
    weight = normal(3, 5) * np.array([4, 1, 1, 0.1, 0])
    assert TENSORS is not None
    tail = mixing(tmp_path / "t.onnx", {"x": weight}, batch=batch)
    found = sensitivity(tail, TENSORS, {"x": normal(10, 5, 6, 6, seed=1)})["x"]
    known = weight.T.astype(np.float64) @ weight
    np.testing.assert_allclose(found / np.trace(found), known / np.trace(known), atol=1e-4)
    assert np.linalg.eigvalsh(found).min() > -1e-9 * np.trace(found)


def test_tensors_of_a_cut_are_comparable(tmp_path: Path) -> None:
    weights = {"a": normal(3, 4), "b": 0.1 * normal(3, 4)}
    assert TENSORS is not None
    tail = mixing(tmp_path / "t.onnx", weights)
    found = sensitivity(tail, TENSORS, {name: normal(8, 4, 6, 6, seed=2) for name in weights})
    assert np.trace(found["a"]) / np.trace(found["b"]) == pytest.approx(100, rel=1e-2)


def test_too_many_channels_get_one_weight(tmp_path: Path) -> None:
    weights = {"a": normal(2, 600), "b": 3 * normal(2, 4)}
    assert TENSORS is not None
    tail = mixing(tmp_path / "t.onnx", weights)
    features = {"a": normal(70, 600, 6, 6), "b": normal(70, 4, 6, 6)}
    found = sensitivity(tail, TENSORS, features)
    assert np.count_nonzero(found["a"] - np.diag(np.diag(found["a"]))) == 0
    per_channel = float(np.trace(weights["a"].T @ weights["a"])) / 600
    known = per_channel / float(np.trace(weights["b"].T @ weights["b"]))
    assert np.diag(found["a"]).mean() / np.trace(found["b"]) == pytest.approx(known, rel=0.3)


def test_the_same_seed_gives_the_same_numbers(tmp_path: Path) -> None:
    assert TENSORS is not None
    tail = mixing(tmp_path / "t.onnx", {"x": normal(3, 5)})
    features = {"x": normal(9, 5, 6, 6)}
    first, again = (sensitivity(tail, TENSORS, features)["x"] for _ in range(2))
    assert first.tobytes() == again.tobytes()


def logit(p: np.ndarray | float) -> np.ndarray:
    return np.log(p / (1 - np.asarray(p, np.float64))).astype(np.float32)


def boxes_of(p: np.ndarray) -> list[tuple[Postprocess, dict[str, np.ndarray]]]:
    """For every kind of detector, outputs (B, …) whose candidates have the scores p (B, 6, 2)."""
    b = len(p)
    raw, four = logit(p), np.zeros((b, 6, 4), np.float32)
    one = np.ones((b, 6, 1), np.float32)
    best = p.max(axis=2, keepdims=True)
    grid = {f"cls_{s}": best[:, i * 2 : i * 2 + 2] for i, s in enumerate((8, 16, 32))}
    grid |= {f"obj_{s}": best[:, i * 2 : i * 2 + 2] for i, s in enumerate((8, 16, 32))}
    first = np.concatenate([logit(np.full((b, 6, 1), 0.9)), raw], axis=2)
    return [
        (SsdPostprocess(kind="ssd", anchors="a.npy"), {"boxes": four, "class_logits": first}),
        (YoloxPostprocess(kind="yolox"), {"output": np.concatenate([four, one, p], axis=2)}),
        (YoloPostprocess(kind="yolo"), {"output0": np.concatenate([four, p], axis=2).transpose(0, 2, 1)}),
        (
            YoloPostprocess(kind="yolo", box_per="row", objectness=True, activation="sigmoid"),
            {"output0": np.concatenate([four, logit(one * 0.999999), raw], axis=2)},
        ),
        (YunetPostprocess(kind="yunet"), grid),
        (
            CenternetPostprocess(kind="centernet"),
            {"heatmap": raw.transpose(0, 2, 1).reshape(b, 2, 2, 3), "size": np.zeros((b, 2, 2, 3))},
        ),
        (
            DetectionsPostprocess(kind="detections", boxes="b", scores="s", suppressed=False, activation="sigmoid"),
            {"b": four, "s": raw},
        ),
    ]


KINDS = [case[0].kind for case in boxes_of(np.full((1, 6, 2), 0.5, np.float32))]


@pytest.mark.parametrize("which", range(len(KINDS)), ids=KINDS)
def test_scores_count_by_what_a_change_tells(which: int) -> None:
    p = np.full((1, 6, 2), CHANCE / 4, np.float32)
    p[0, 2] = 0.5
    p[0, 3:6] = 0.3
    p[0, 0] = 0.1
    moved = np.repeat(p, 3, axis=0)
    moved[0, 2] += 0.01
    moved[1, 0] += 0.01
    moved[2, 1] += 0.01
    post, base = boxes_of(p)[which]
    look = relevant(post)
    assert look is not None
    start, there = look(base, base), look(base, boxes_of(moved)[which][1])
    assert there.shape == (3, start.shape[1]) and there.dtype == np.float32
    middle, unlikely, hopeless = np.square(there - start).sum(axis=1)
    assert unlikely / middle == pytest.approx(0.25 / 0.09, rel=0.1), "Fisher information: 1/(p(1 - p))"
    assert hopeless == 0, "what has no chance is not looked at"


def test_something_is_looked_at_even_where_nothing_has_a_chance() -> None:
    for post, outputs in boxes_of(np.full((1, 6, 2), CHANCE / 4, np.float32)):
        look = relevant(post)
        assert look is not None and look(outputs, outputs).shape[1] >= 5


@pytest.mark.parametrize(
    ("post", "shape"),
    [
        (ClassifierPostprocess(kind="classifier", output="y"), (2, 5)),
        (ClassifierPostprocess(kind="classifier", output="y"), (2, 5, 1, 1)),
        (SegmentationPostprocess(kind="segmentation", output="y"), (2, 3, 4, 4)),
        (SegmentationPostprocess(kind="segmentation", output="y", layout="NHWC"), (2, 4, 4, 3)),
        (SegmentationPostprocess(kind="segmentation", output="y", activation="sigmoid"), (2, 1, 4, 4)),
    ],
)
def test_of_maps_and_classes_only_differences_of_scores_count(post: Postprocess, shape: tuple[int, ...]) -> None:
    y = normal(*shape)
    look = relevant(post)
    assert look is not None
    r = look({"y": y[:1]}, {"y": y})
    assert r.shape[0] == 2 and not np.allclose(r[0], r[1])
    if shape[1] != 1:
        np.testing.assert_allclose(look({"y": y[:1]}, {"y": y + 7}), r, atol=1e-5)


@pytest.mark.parametrize(
    "post",
    [
        DetectionsPostprocess(kind="detections", output="y"),
        DetectionsPostprocess(kind="detections", boxes="b", scores="s"),
        SegmentationPostprocess(kind="segmentation", holds="labels"),
    ],
)
def test_answers_that_the_graph_has_already_chosen_say_nothing(post: Postprocess) -> None:
    assert relevant(post) is None
