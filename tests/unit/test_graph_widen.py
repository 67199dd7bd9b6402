"""Floats that runtimes lack kernels for: a file in them runs, and gives what its numbers mean."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnxruntime as ort
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from splitmesh.plan.graph.load import load_model

BF16, DOUBLE, FLOAT = TensorProto.BFLOAT16, TensorProto.DOUBLE, TensorProto.FLOAT
node = helper.make_node
RNG = np.random.default_rng(4)


def loaded(
    path: Path, nodes: list[NodeProto], weights: dict[str, np.ndarray], kind: int, *, opset: int = 19
) -> ModelProto:
    """A file from x (1, 3, 6, 8) to y, both of `kind`, read back."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, [1, 3, 6, 8])],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return load_model(path)


def run(model: ModelProto, value: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(
        None, {"x": value}
    )[0]


def body(name: str, operator: str, kind: int) -> object:
    made = node(operator, ["c"], [name])
    return helper.make_graph([made], name, [], [helper.make_tensor_value_info(name, kind, None)])


def test_bfloat16_is_float32_wherever_it_stands(tmp_path: Path) -> None:
    kernel = RNG.standard_normal((4, 3, 3, 3)).astype(ml_dtypes.bfloat16)
    half = numpy_helper.from_array(np.array(0.5, ml_dtypes.bfloat16))
    filled = numpy_helper.from_array(np.array([2], ml_dtypes.bfloat16))
    nodes = [
        node("Conv", ["x", "k"], ["c"]),
        node("Constant", [], ["half"], value=half),
        node("Cast", ["c"], ["f"], to=FLOAT),
        node("ReduceMean", ["f"], ["m"], keepdims=0),
        node("Less", ["m", "many"], ["yes"]),
        node("If", ["yes"], ["i"], then_branch=body("t", "Neg", BF16), else_branch=body("e", "Abs", BF16)),
        node("ConstantOfShape", ["one"], ["two"], value=filled),
        node("Mul", ["i", "half"], ["h"]),
        node("Cast", ["f"], ["again"], to=BF16),
        node("Add", ["h", "again"], ["s"]),
        node("Mul", ["s", "two"], ["y"]),
    ]
    weights = {"k": kernel, "many": np.float32(1e9), "one": np.array([1], np.int64)}
    model = loaded(tmp_path / "m.onnx", nodes, weights, BF16)
    value = RNG.standard_normal((1, 3, 6, 8)).astype(np.float32)
    convolved = run(
        loaded(tmp_path / "c.onnx", [node("Conv", ["x", "k"], ["y"])], {"k": kernel.astype(np.float32)}, FLOAT), value
    )
    np.testing.assert_allclose(run(model, value), convolved, rtol=1e-4, atol=1e-4)


def test_float64_is_float32_only_where_convolutions_compute_in_it(tmp_path: Path) -> None:
    kernel = np.full((1, 3, 1, 1), 1e300)
    kernel[0, 0] = 2.0
    model = loaded(tmp_path / "m.onnx", [node("Conv", ["x", "k"], ["y"])], {"k": kernel}, DOUBLE)
    value = np.zeros((1, 3, 6, 8), np.float32)
    value[0, 0] = 3.0
    np.testing.assert_array_equal(run(model, value), np.full((1, 1, 6, 8), 6.0, np.float32))
    exact = loaded(tmp_path / "e.onnx", [node("Add", ["x", "k"], ["y"])], {"k": np.array([1 + 1e-12])}, DOUBLE)
    assert run(exact, np.zeros((1, 3, 6, 8)))[0, 0, 0, 0] == 1 + 1e-12


@pytest.mark.parametrize("kind", [FLOAT, TensorProto.FLOAT16])
def test_other_floats_stay(tmp_path: Path, kind: int) -> None:
    kernel = RNG.standard_normal((1, 3, 1, 1)).astype(helper.tensor_dtype_to_np_dtype(kind))
    model = loaded(tmp_path / "m.onnx", [node("Conv", ["x", "k"], ["y"])], {"k": kernel}, kind)
    assert model.graph.initializer[0].data_type == model.graph.input[0].type.tensor_type.elem_type == kind
