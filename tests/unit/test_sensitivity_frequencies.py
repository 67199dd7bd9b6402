"""What noise at a spatial frequency costs the answer: of tails where it is known, on real sessions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from splitmesh.inference.planning.relevance import relevant
from splitmesh.inference.planning.sensitivity_frequencies import (
    FEWEST_FRAMES,
    MOST_FRAMES,
    SIGNS,
    bands_of,
    frequency_sensitivity,
)
from splitmesh.inference.session import Session, open_session
from splitmesh.plan.manifest_kinds import ClassifierPostprocess, TensorPostprocess

SIDE = 9
CLASSES = 7


def tail_of(path: Path, *ops: str, shape: tuple[int, ...] = (5, SIDE, SIDE), batch: int | str = "N") -> Session:
    """`ops` in a row on "x" (batch, *shape), their weights made up."""
    rng = np.random.default_rng(0)
    nodes, weights, before = [], [], "x"
    for at, op in enumerate(ops):
        inputs = [before]
        if op in ("Conv", "Gemm"):
            size = (CLASSES, shape[0], 3, 3) if op == "Conv" else (CLASSES, CLASSES)
            weights.append(numpy_helper.from_array(rng.standard_normal(size).astype(np.float32), f"w{at}"))
            inputs.append(f"w{at}")
        more = {"pads": [1, 1, 1, 1]} if op == "Conv" else {}
        nodes.append(helper.make_node(op, inputs, [f"y{at}"], **more))
        before = f"y{at}"
    graph = helper.make_graph(
        nodes,
        "tail",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *shape])],
        [helper.make_tensor_value_info(before, TensorProto.FLOAT, None)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(onnx.shape_inference.infer_shapes(model), str(path))
    return open_session(path, providers=("cpu",))


def frames(*shape: int, count: int = 6, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


@pytest.mark.parametrize("batch", ["N", 1])
def test_a_classifier_behind_a_pool_looks_at_the_mean_alone(tmp_path: Path, batch: int | str) -> None:
    tail = tail_of(tmp_path / "t.onnx", "GlobalAveragePool", "Flatten", batch=batch)
    look = relevant(ClassifierPostprocess(kind="classifier", output="y1", activation="softmax"))
    assert look is not None
    found = frequency_sensitivity(tail, look, {"x": frames(5, SIDE, SIDE)}, runs=1000)["x"]
    assert found.shape == (SIDE, SIDE) and found.mean() == pytest.approx(1)
    assert found[0, 0] == pytest.approx(SIDE * SIDE, rel=1e-3)
    assert np.delete(found.reshape(-1), 0).max() < 1e-3


def test_what_a_convolution_mixes_before_the_pool_keeps_low_frequencies_important(tmp_path: Path) -> None:
    tail = tail_of(tmp_path / "t.onnx", "Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm")
    look = relevant(ClassifierPostprocess(kind="classifier", output="y4", activation="softmax"))
    assert look is not None
    found = frequency_sensitivity(tail, look, {"x": frames(5, SIDE, SIDE, count=12)}, runs=2000)["x"]
    assert found[0, 0] > 3 * found[SIDE // 2 :, SIDE // 2 :].mean() > 0


def test_a_map_looks_at_all_frequencies_alike(tmp_path: Path) -> None:
    tail = tail_of(tmp_path / "t.onnx", "Identity")
    look = relevant(TensorPostprocess(kind="tensor"))
    assert look is not None
    found = frequency_sensitivity(tail, look, {"x": frames(5, SIDE, SIDE)}, runs=1000)["x"]
    np.testing.assert_allclose(found, 1, atol=1e-3)


def test_a_tensor_is_seen_by_its_channels_axis(tmp_path: Path) -> None:
    tail = tail_of(tmp_path / "t.onnx", "Identity", shape=(6, 6, 4))
    look = relevant(TensorPostprocess(kind="tensor"))
    assert look is not None
    found = frequency_sensitivity(tail, look, {"x": frames(6, 6, 4, count=24)}, runs=1000)["x"]
    assert found.shape == (6, 6)


def test_bands_are_narrow_below_and_wide_above() -> None:
    along = bands_of(1, 40)[0]
    assert list(along[:10]) == [0, 1, 2, 3, 4, 4, 5, 5, 5, 6]
    assert (np.diff(along) >= 0).all() and np.diff(along).max() == 1
    both = bands_of(13, 13)
    assert both.max() + 1 == 49 and len(np.unique(both)) == 49
    assert len(np.unique(bands_of(28, 28))) <= 100


def test_what_there_is_no_time_for_is_left_out(tmp_path: Path) -> None:
    class Counted:
        def __init__(self, tail: Session) -> None:
            self.inputs, self.frames, self._tail = tail.inputs, 0, tail

        def run(self, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            self.frames += len(tensors["x"])
            return self._tail.run(tensors)

    look = relevant(TensorPostprocess(kind="tensor"))
    assert look is not None
    tail = tail_of(tmp_path / "t.onnx", "Identity")
    per_frame = SIGNS * (int(bands_of(SIDE, SIDE).max()) + 1)
    some = frames(5, SIDE, SIDE, count=40)
    for runs, expected in (
        (FEWEST_FRAMES * per_frame - 1, 0),
        (FEWEST_FRAMES * per_frame, FEWEST_FRAMES),
        (10**6, MOST_FRAMES),
    ):
        counted = Counted(tail)
        found = frequency_sensitivity(counted, look, {"x": some}, runs=runs)  # type: ignore[arg-type]
        assert bool(found) == bool(expected)
        assert counted.frames == expected * (per_frame + 1)
    assert not frequency_sensitivity(tail, look, {"x": frames(300)}, runs=10**6), "a vector has no frequencies"
