"""Small real ONNX models for plan and inference tests, with fixed pseudo-random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from splitmesh.plan.manifest import Manifest, parse_manifest

SIZE = 48


class Builder:
    """Adds nodes and weights one after the other."""

    def __init__(self, seed: int = 1) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []

    def weight(self, name: str, *shape: int, gain: float = 1.0) -> str:
        fan = int(np.prod(shape[1:])) or 1
        array = (self.rng.standard_normal(shape) * gain / np.sqrt(fan)).astype(np.float32)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def add(self, op: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"node_{output}", **attributes))
        return output

    def conv(self, source: str, output: str, channels: tuple[int, int], *, kernel: int = 3, stride: int = 1) -> str:
        made, given = channels
        weight = self.weight(f"{output}_w", made, given, kernel, kernel, gain=1.5)
        bias = self.weight(f"{output}_b", made)
        pad = kernel // 2
        return self.add("Conv", [source, weight, bias], output, strides=[stride, stride], pads=[pad] * 4)

    def model(self, outputs: dict[str, list[int]], *, batch: int | str = 1) -> ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "test",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, SIZE, SIZE])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model)
        return model


def residual_classifier(*, batch: int | str = 1, open_size: bool = False) -> ModelProto:
    """Stem, then three strided blocks with a residual each, pooling, ten logits."""
    b = Builder()
    now, channels = b.add("Relu", [b.conv("image", "stem", (8, 3), stride=2)], "stem_relu"), 8
    for block, width in enumerate((8, 12, 16)):
        down = b.add("Relu", [b.conv(now, f"down{block}", (width, channels), stride=2)], f"down{block}_relu")
        inner = b.add("Relu", [b.conv(down, f"inner{block}", (width, width))], f"inner{block}_relu")
        outer = b.conv(inner, f"outer{block}", (width, width))
        summed = b.add("Add", [outer, down], f"sum{block}")
        now, channels = b.add("Relu", [summed], f"block{block}"), width
    pooled = b.add("Flatten", [b.add("GlobalAveragePool", [now], "pooled")], "flat")
    b.add("Gemm", [pooled, b.weight("head_w", channels, 10, gain=6.0), b.weight("head_b", 10)], "logits")
    model = b.model({"logits": [1, 10] if batch == 1 else [batch, 10]}, batch=batch)
    if open_size:
        for axis, name in ((2, "height"), (3, "width")):
            model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    return model


def two_outputs() -> ModelProto:
    """A trunk, a first output from its middle, a second from its end."""
    b = Builder(2)
    early = b.add("Relu", [b.conv("image", "c0", (6, 3), stride=2)], "early")
    b.conv(early, "first", (4, 6), kernel=1)
    late = b.add("Relu", [b.conv(early, "c1", (8, 6), stride=2)], "late")
    b.conv(late, "second", (4, 8), kernel=1)
    return b.model({"first": [1, 4, SIZE // 2, SIZE // 2], "second": [1, 4, SIZE // 4, SIZE // 4]})


def with_if() -> ModelProto:
    """A trunk, then an If on a constant whose bodies capture the trunk, then a tail."""
    b = Builder(3)
    trunk = b.add("Relu", [b.conv("image", "c0", (6, 3), stride=2)], "trunk")
    bodies = []
    for name, op in (("then", "Relu"), ("else", "Neg")):
        first = helper.make_node("Tanh", [trunk], [f"{name}_a"])
        second = helper.make_node(op, [f"{name}_a"], [f"{name}_b"])
        half = SIZE // 2
        out = helper.make_tensor_value_info(f"{name}_b", TensorProto.FLOAT, [1, 6, half, half])
        bodies.append(helper.make_graph([first, second], name, [], [out]))
    b.weights.append(numpy_helper.from_array(np.array(True), "flag"))
    b.nodes.append(helper.make_node("If", ["flag"], ["chosen"], then_branch=bodies[0], else_branch=bodies[1]))
    b.add("Relu", [b.conv("chosen", "c1", (4, 6), stride=2)], "out")
    return b.model({"out": [1, 4, SIZE // 4, SIZE // 4]})


def three_branches() -> ModelProto:
    """A trunk and three branches of six layers, stored layer by layer. Each has its narrow tensor at another depth,
    so no frontier of this order, and hardly one of another, goes through all three."""
    b = Builder(4)
    trunk = b.add("Relu", [b.conv("image", "stem", (8, 3), stride=2)], "trunk")
    now = [(trunk, 8)] * 3
    for depth in range(6):
        for branch, narrow in enumerate((0, 2, 4)):
            source, channels = now[branch]
            width = 1 if depth == narrow else 8
            name = f"b{branch}d{depth}"
            now[branch] = b.add("Relu", [b.conv(source, f"{name}_conv", (width, channels))], name), width
    joined = b.add("Concat", [name for name, _ in now], "joined", axis=1)
    b.conv(joined, "out", (2, 24), kernel=1, stride=2)
    return b.model({"out": [1, 2, SIZE // 4, SIZE // 4]})


def quantised() -> ModelProto:
    """Two convolutions as QDQ: what crosses after the first is float32, then uint8, then float32 again."""
    b = Builder(5)
    b.weights += [numpy_helper.from_array(np.float32(0.02), "s"), numpy_helper.from_array(np.uint8(128), "z")]
    q = b.add("QuantizeLinear", [b.conv("image", "c0", (6, 3), stride=2), "s", "z"], "c0_q")
    q = b.add(
        "QuantizeLinear", [b.add("Relu", [b.add("DequantizeLinear", [q, "s", "z"], "c0_dq")], "r0"), "s", "z"], "q"
    )
    late = b.conv(b.add("DequantizeLinear", [q, "s", "z"], "dq"), "c1", (8, 6), stride=2)
    b.conv(b.add("Relu", [late], "late"), "out", (4, 8), kernel=1)
    return b.model({"out": [1, 4, SIZE // 4, SIZE // 4]})


def odd_tensors() -> ModelProto:
    """What can't cross, one after the other: int64 classes, a scalar, a shape that hangs on the data."""
    b = Builder(6)
    classes = b.add("ArgMax", [b.conv("image", "c0", (6, 3), stride=2)], "classes", axis=1)
    total = b.add("ReduceSum", [b.add("Cast", [classes], "classes_f", to=TensorProto.FLOAT)], "total", keepdims=0)
    spread = b.add("Mul", [total, b.weight("spread_w", 1, 4)], "spread")
    where = b.add("NonZero", [spread], "where")
    b.add("ReduceSum", [b.add("Cast", [where], "where_f", to=TensorProto.FLOAT)], "out", keepdims=1)
    return b.model({"out": [1, 1]})


def save(model: ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def classifier_manifest(**changes: object) -> Manifest:
    """Of `residual_classifier`."""
    return parse_manifest(
        {
            "name": "tiny-classifier",
            "input": "image",
            "width": SIZE,
            "height": SIZE,
            "scale": [2 / 255] * 3,
            "offset": [-1.0] * 3,
            "postprocess": {"kind": "classifier", "output": "logits"},
            "labels": [f"label {i}" for i in range(10)],
            "licence": "Apache-2.0",
            "source": "made by the tests",
            **changes,
        },
        where="test",
    )


def moving_squares(count: int) -> list[np.ndarray]:
    """`count` pictures (SIZE, SIZE, 3) uint8: two coloured squares move over a gradient."""
    ramp = np.linspace(0, 120, SIZE).astype(np.uint8)
    pictures = []
    for index in range(count):
        picture = np.repeat(np.repeat(ramp[None, :, None], SIZE, 0), 3, 2).copy()
        x, y = index % (SIZE - 12), (2 * index) % (SIZE - 12)
        picture[y : y + 12, x : x + 12] = (220, 40, 10)
        picture[x : x + 8, y : y + 8, 2] = 250
        pictures.append(picture)
    return pictures
