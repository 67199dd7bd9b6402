"""Random small ONNX models for hypothesis: skips, branches, constants, several outputs, many types and ranks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

SIZE = 8
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


@dataclass(frozen=True)
class Tensor:
    name: str
    shape: tuple[int, ...]
    dtype: int = TensorProto.FLOAT


class Dag:
    """A model under construction: `pool` holds what the next node may read."""

    def __init__(self, draw: Callable[..., int], *, half: bool) -> None:
        self.draw, self.half = draw, half
        self.rng = np.random.default_rng(self.pick(1000))
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self.pool = [Tensor("image", (1, 3, SIZE, SIZE))]

    def pick(self, count: int) -> int:
        return self.draw(st.integers(0, count - 1))

    def some(self, fits: Callable[[Tensor], bool]) -> Tensor | None:
        """A tensor that fits: mostly the last that nobody read yet, else any of the last few: a skip."""
        found = [t for t in self.pool[1:][-6:] if fits(t)]
        read = {name for node in self.nodes for name in node.input}
        loose = [t for t in self.pool[1:] if fits(t) and t.name not in read]
        if loose and self.pick(4):
            return loose[-1]
        return found[self.pick(len(found))] if found else None

    def constant(self, array: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, *shape: int) -> str:
        scale = 1.0 / np.sqrt(max(int(np.prod(shape[1:])), 1))
        return self.constant((self.rng.standard_normal(shape) * scale).astype(np.float32))

    def add(self, op: str, reads: list[str], *shapes: tuple[int, ...], dtype: int = TensorProto.FLOAT, **how: object):
        made = [Tensor(f"t{len(self.nodes)}_{i}", shape, dtype) for i, shape in enumerate(shapes)]
        self.nodes.append(helper.make_node(op, reads, [t.name for t in made], name=f"node{len(self.nodes)}", **how))
        self.pool.extend(made)

    def step(self) -> None:
        """One node of a drawn kind, if anything fits it."""
        steps = [self.conv, self.relu, self.sum, self.concat, self.split, self.matmul, self.reshape, self.shift]
        steps += [self.quantise] if not self.half else [self.cast, self.cast]
        steps[self.pick(len(steps))]()

    def conv(self) -> None:
        source = self.some(lambda t: len(t.shape) == 4 and t.dtype == TensorProto.FLOAT) or self.pool[0]
        _, channels, height, width = source.shape
        stride, made = 1 + self.pick(2), 1 + self.pick(4)
        shape = (1, made, -(-height // stride), -(-width // stride))
        weight = self.weight(made, channels, 3, 3)
        self.add("Conv", [source.name, weight], shape, pads=[1] * 4, strides=[stride] * 2)

    def relu(self) -> None:
        source = self.some(lambda t: t.dtype in FLOATS)
        if source:
            self.add("Relu", [source.name], source.shape, dtype=source.dtype)

    def sum(self) -> None:
        left = self.some(lambda t: t.dtype in FLOATS)
        right = left and self.some(lambda t: t.shape == left.shape and t.dtype == left.dtype)
        if left and right:
            self.add("Add", [left.name, right.name], left.shape, dtype=left.dtype)

    def concat(self) -> None:
        left = self.some(lambda t: len(t.shape) == 4 and t.shape[1] <= 8)
        right = left and self.some(
            lambda t: len(t.shape) == 4 and t.shape[2:] == left.shape[2:] and t.dtype == left.dtype
        )
        if left and right:
            shape = (1, left.shape[1] + right.shape[1], *left.shape[2:])
            self.add("Concat", [left.name, right.name], shape, dtype=left.dtype, axis=1)

    def split(self) -> None:
        source = self.some(lambda t: len(t.shape) >= 2 and t.shape[1] >= 2 and t.dtype in FLOATS)
        if source:
            first = source.shape[1] // 2
            parts = [first, source.shape[1] - first]
            shapes = [(source.shape[0], part, *source.shape[2:]) for part in parts]
            self.add("Split", [source.name, self.constant(np.array(parts))], *shapes, dtype=source.dtype, axis=1)

    def matmul(self) -> None:
        source = self.some(lambda t: t.dtype == TensorProto.FLOAT and len(t.shape) >= 2)
        if source:
            made = 1 + self.pick(6)
            self.add("MatMul", [source.name, self.weight(source.shape[-1], made)], (*source.shape[:-1], made))

    def reshape(self) -> None:
        source = self.some(lambda t: len(t.shape) > 1)
        if source:
            count = int(np.prod(source.shape))
            flat = source.shape[-1]
            kinds = [(1, count), (1, count // flat, flat), (count // flat, flat), (1, 1, count // flat, flat, 1)]
            shape = kinds[self.pick(len(kinds))]
            self.add("Reshape", [source.name, self.constant(np.array(shape))], shape, dtype=source.dtype)

    def shift(self) -> None:
        """A constant of a Constant node is added; both sides of a cut may need it."""
        source = self.some(lambda t: t.dtype == TensorProto.FLOAT)
        if source:
            if not any(node.op_type == "Constant" for node in self.nodes):
                self.nodes.append(helper.make_node("Constant", [], ["half"], value_float=0.5))
            self.add("Add", [source.name, "half"], source.shape)

    def cast(self) -> None:
        source = self.some(lambda t: t.dtype in FLOATS)
        if source:
            to = FLOATS[1 - FLOATS.index(source.dtype)]
            self.add("Cast", [source.name], source.shape, dtype=to, to=to)

    def quantise(self) -> None:
        """QuantizeLinear, mostly with its DequantizeLinear."""
        source = self.some(lambda t: t.dtype == TensorProto.FLOAT)
        if source:
            scale, zero = self.constant(np.float32(0.05)), self.constant(np.uint8(100))
            self.add("QuantizeLinear", [source.name, scale, zero], source.shape, dtype=TensorProto.UINT8)
            if self.pick(4):
                self.add("DequantizeLinear", [self.pool[-1].name, scale, zero], source.shape)

    def finish(self) -> ModelProto:
        """Some of what nobody read are outputs; the rest is flattened and joined into one more."""
        read = {name for node in self.nodes for name in node.input}
        loose = [t for t in self.pool if t.name not in read and t.name != "image"]
        outputs = loose[max(1, len(loose) - self.pick(3)) :]
        joined = []
        for tensor in (t for t in loose if t not in outputs):
            count = int(np.prod(tensor.shape))
            self.add("Reshape", [tensor.name, self.constant(np.array([1, count]))], (1, count), dtype=tensor.dtype)
            if tensor.dtype != TensorProto.FLOAT:
                self.add("Cast", [self.pool[-1].name], (1, count), to=TensorProto.FLOAT)
            joined.append(self.pool[-1])
        if joined:
            total = sum(t.shape[1] for t in joined)
            self.add("Concat", [t.name for t in joined], (1, total), axis=1)
            outputs = [*outputs, self.pool[-1]]
        graph = helper.make_graph(
            self.nodes,
            "random",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
            [helper.make_tensor_value_info(t.name, t.dtype, list(t.shape)) for t in outputs],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


@st.composite
def models(draw: Callable[..., int], *, half: bool = False, most: int = 16) -> ModelProto:
    """A valid model, image (1, 3, 8, 8) float32 → one to three outputs, of about `most` nodes. half: some fp16."""
    dag = Dag(draw, half=half)
    dag.conv()
    for _ in range(draw(st.integers(2, most))):
        dag.step()
    return dag.finish()
