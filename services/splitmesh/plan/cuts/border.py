"""Owns the nodes at a cut's border: from a graph's tensor to its wire tensor and back. Builds nodes, runs nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from splitmesh.plan.cuts.cut import Crossing

_ONNX_TYPES = {
    "float16": TensorProto.FLOAT16,
    "float64": TensorProto.DOUBLE,
    "uint8": TensorProto.UINT8,
    "int8": TensorProto.INT8,
}
_INTEGER_RANGES = {"uint8": (0.0, 255.0), "int8": (-128.0, 127.0)}


@dataclass(frozen=True, slots=True)
class Border:
    """What stands at the border for one tensor; nothing if it crosses as it is."""

    crossing: Crossing
    leave: tuple[NodeProto, ...] = ()
    """The head's end: from `crossing.name` to `crossing.wire`."""
    enter: tuple[NodeProto, ...] = ()
    """The tail's start: from `crossing.wire` to `crossing.name`."""
    leave_constants: tuple[TensorProto, ...] = ()
    enter_constants: tuple[TensorProto, ...] = ()


def border(crossing: Crossing, taken: Collection[str]) -> Border:
    """Nodes and constants for one crossing; none of their names is in `taken`.

    To the wire: Cast to float32, Reshape. Back: Reshape; for 8-bit integers round (half up) and clip, since a coded
    value need not be whole; Cast. The operators are those of opset 8, so that they mean the same in any model. A
    reshape that leaves the batch axis where it is copies its size instead of stating it.
    """
    if not crossing.adapted:
        return Border(crossing)
    leave = _Chain(crossing.name, f"{crossing.wire}.leave", taken)
    enter = _Chain(crossing.wire, f"{crossing.wire}.enter", taken)
    reshaped = crossing.shape != crossing.graph_shape
    if crossing.dtype != "float32":
        leave.step("Cast", to=TensorProto.FLOAT)
    if reshaped:
        leave.step("Reshape", _sizes(crossing.shape, crossing.graph_shape))
        enter.step("Reshape", _sizes(crossing.graph_shape, crossing.shape))
    if crossing.dtype in _INTEGER_RANGES:
        low, high = _INTEGER_RANGES[crossing.dtype]
        enter.step("Add", np.float32(0.5))
        enter.step("Floor")
        enter.step("Max", np.float32(low))
        enter.step("Min", np.float32(high))
    if crossing.dtype != "float32":
        enter.step("Cast", to=_ONNX_TYPES[crossing.dtype])
    leave.end(crossing.wire)
    enter.end(crossing.name)
    return Border(crossing, tuple(leave.nodes), tuple(enter.nodes), tuple(leave.constants), tuple(enter.constants))


def _sizes(target: tuple[int, ...], source: tuple[int, ...]) -> np.ndarray:
    """Reshape's second input; 0 copies the batch axis."""
    keeps_batch = target[:1] == source[:1] == (1,)
    return np.array([0, *target[1:]] if keeps_batch else target, dtype=np.int64)


class _Chain:
    """Nodes in a row, each reading the one before."""

    def __init__(self, source: str, stem: str, taken: Collection[str]) -> None:
        self.source, self._stem, self._taken = source, stem, taken
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def step(self, op: str, constant: np.ndarray | np.float32 | None = None, **attributes: Any) -> None:
        reads = [self.source]
        if constant is not None:
            name = self._name("constant")
            self.constants.append(numpy_helper.from_array(np.asarray(constant), name))
            reads.append(name)
        self.source = self._name("value")
        self.nodes.append(helper.make_node(op, reads, [self.source], name=self._name(op), **attributes))

    def end(self, target: str) -> None:
        """Let the last node make `target`."""
        if not self.nodes:
            self.step("Identity")
        self.nodes[-1].output[0] = target

    def _name(self, what: str) -> str:
        name = f"{self._stem}.{len(self.nodes)}.{what}"
        while name in self._taken:
            name += "_"
        return name
