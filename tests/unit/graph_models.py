"""Small graphs of any kind for tests of what is done to a graph, and the real runtime to hold them against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from splitmesh.frames.normalize import Normalizer
from splitmesh.plan.graph.fold import fold_constants
from splitmesh.plan.manifest import Manifest, parse_manifest

H, W = 16, 20
FLOAT, HALF, DOUBLE = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE
OPSETS = (7, 9, 10, 11, 12, 13, 18, 21)
IR_OF_OPSET = {7: 3, 9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 18: 8, 21: 10}
INT64, BOOL = TensorProto.INT64, TensorProto.BOOL


def manifest(**changes: object) -> Manifest:
    return parse_manifest(
        {
            "name": "any",
            "input": "x",
            "width": W,
            "height": H,
            "scale": [1.0, 0.5, 0.25],
            "offset": [0.0, 1.0, 2.0],
            "postprocess": {"kind": "tensor"},
            "licence": "CC0-1.0",
            "source": "made by the tests",
            **changes,
        },
        where="test",
    )


def picture(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (H, W, 3), dtype=np.uint8)


def port(name: str, dtype: int, shape: Sequence[int | str] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def build(
    nodes: Sequence[NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Sequence[TensorProto] = (),
    *,
    opset: int = 13,
) -> ModelProto:
    graph = helper.make_graph(list(nodes), "any", list(inputs), list(outputs), list(weights))
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_OF_OPSET.get(opset, 8)
    )


def run(model: ModelProto, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def feed(described: Manifest, rgb: np.ndarray) -> dict[str, np.ndarray]:
    return {described.input: Normalizer.from_manifest(described).normalize(rgb)}


def check(model: ModelProto, described: Manifest) -> None:
    """Canonical as promised, and accepted by ONNX' own checker."""
    onnx.checker.check_model(model, full_check=True)
    (only,) = model.graph.input
    kind = only.type.tensor_type
    assert (only.name, kind.elem_type) == (described.input, FLOAT)
    assert [d.dim_value for d in kind.shape.dim] == [1, 3, described.height, described.width]


def mirror(dtype: int, shape: Sequence[int | str], opset: int) -> ModelProto:
    """Gives what it takes."""
    node = helper.make_node("Identity", ["x"], ["y"])
    return build([node], [port("x", dtype, shape)], [port("y", dtype, shape)], opset=opset)


def node(op: str, inputs: Sequence[str], *outputs: str, **attributes: object) -> NodeProto:
    return helper.make_node(op, list(inputs), list(outputs), **attributes)


def value(name: str, content: object, dtype: type = np.int64) -> TensorProto:
    return numpy_helper.from_array(np.array(content, dtype), name)


def graph(
    nodes: Sequence[NodeProto], outputs: Sequence[str], weights: Sequence[TensorProto] = (), dtype: int = FLOAT
) -> GraphProto:
    infos = [helper.make_tensor_value_info(name, dtype, None) for name in outputs]
    return helper.make_graph(list(nodes), "g", [], infos, list(weights))


def model(
    nodes: Sequence[NodeProto],
    weights: Sequence[TensorProto] = (),
    *,
    outputs: Sequence[str] = ("y",),
    shape: Sequence[int | str] = (1, 3, 8, 12),
    opset: int = 13,
    dtype: int = FLOAT,
) -> ModelProto:
    whole = graph(nodes, outputs, weights, dtype)
    whole.input.append(helper.make_tensor_value_info("x", FLOAT, shape))
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def run_on_noise(proto: ModelProto, tensor: np.ndarray | None = None) -> dict[str, np.ndarray]:
    tensor = np.random.default_rng(3).standard_normal((1, 3, 8, 12)).astype(np.float32) if tensor is None else tensor
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: tensor}), strict=True))


def folded(proto: ModelProto, shapes: dict[str, tuple[int, ...]] | None = None) -> ModelProto:
    """Folded, with the outputs that it had."""
    before = run_on_noise(proto)
    result = fold_constants(proto, shapes or {})
    assert result is proto
    after = run_on_noise(result)
    assert list(before) == list(after)
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])
    return result


def ops(proto: ModelProto) -> list[str]:
    return [n.op_type for n in proto.graph.node]


def weights(proto: ModelProto) -> dict[str, list]:
    return {t.name: numpy_helper.to_array(t).tolist() for t in proto.graph.initializer}
