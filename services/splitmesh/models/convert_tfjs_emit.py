"""Owns values during a TensorFlow.js conversion: their axis order, and convolutions held back for folding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from splitmesh.models.convert_graph import Array, GraphWriter


@dataclass(frozen=True, slots=True)
class HeldConv:
    """A convolution that is not written yet. weight: (out, in / group, h, w) float64; bias: (out,) float64."""

    source: str
    weight: Array
    bias: Array
    attributes: Mapping[str, Any]

    def scaled(self, factor: Array) -> HeldConv:
        return replace(self, weight=self.weight * factor.reshape(-1, 1, 1, 1), bias=self.bias * factor)

    def shifted(self, offset: Array) -> HeldConv:
        return replace(self, bias=self.bias + offset)


@dataclass(frozen=True, slots=True)
class HeldSum:
    """A sum that is not written yet, so that a constant added later can go into one of its convolutions."""

    terms: tuple[Tensor, ...]


@dataclass(slots=True)
class Tensor:
    """A value that depends on the input.

    shape is TensorFlow's. `rows` names the ONNX tensor in that axis order, `first` the one with channels first
    (4-D only); each is "" until something needs it. `held` is set while nothing is written at all.
    """

    node: str
    shape: tuple[int, ...]
    first: str = ""
    rows: str = ""
    held: HeldConv | HeldSum | None = None


Value = Tensor | Array


class Emitter:
    """Writes ONNX nodes, transposing only where a reader needs the other axis order."""

    def __init__(self, strip: Sequence[str], outputs: Mapping[str, str], readers: Counter[str]) -> None:
        self.graph = GraphWriter()
        self._strip = strip
        self._outputs = outputs
        self._readers = readers

    def name(self, node: str, rank: int = 0) -> str:
        """The ONNX name for a TensorFlow node: the output's name if it is one, else shortened."""
        if node in self._outputs and rank != 4:
            return self._outputs[node]
        for part in self._strip:
            node = node.replace(part, "")
        return node.strip("/")

    def sole_reader(self, tensor: Tensor) -> bool:
        """True if only one node (or output) reads the tensor, so that it may vanish into that node."""
        return self._readers[tensor.node] == 1

    def hold(self, node: str, shape: tuple[int, ...], held: HeldConv | HeldSum) -> Tensor:
        return Tensor(node, shape, held=held)

    def emit(self, op: str, node: str, inputs: Sequence[str], like: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        """Write a node whose axis order is that of `like`, or TensorFlow's if None."""
        name = self.graph.node(op, inputs, self.name(node, len(shape)))
        return self.placed(node, shape, name, like)

    @staticmethod
    def placed(node: str, shape: tuple[int, ...], name: str, like: Tensor | None) -> Tensor:
        if like is not None and like.first and len(shape) == 4:
            return Tensor(node, shape, first=name)
        return Tensor(node, shape, rows=name)

    def any_order(self, tensor: Tensor) -> str:
        """The tensor's name in whichever axis order it has; channels first if it has both."""
        self._write(tensor)
        return tensor.first or tensor.rows

    def channels_first(self, tensor: Tensor) -> str:
        """The name of the 4-D tensor in NCHW order."""
        self._write(tensor)
        if not tensor.first:
            tensor.first = self.graph.node("Transpose", [tensor.rows], f"{tensor.rows}/nchw", perm=[0, 3, 1, 2])
        return tensor.first

    def tensorflow_order(self, tensor: Tensor) -> str:
        """The name of the tensor in TensorFlow's axis order (NHWC if 4-D)."""
        self._write(tensor)
        if not tensor.rows:
            tensor.rows = self.graph.node("Transpose", [tensor.first], f"{tensor.first}/nhwc", perm=[0, 2, 3, 1])
        return tensor.rows

    def common_order(self, tensors: Sequence[Tensor]) -> list[str]:
        """Names of all tensors in one axis order: channels first if the first tensor has it."""
        self._write(tensors[0])
        if tensors[0].first:
            return [self.channels_first(t) for t in tensors]
        return [self.tensorflow_order(t) for t in tensors]

    def output(self, tensor: Tensor, name: str) -> None:
        """Make the tensor, in TensorFlow's axis order, the model's output `name`."""
        rows = self.tensorflow_order(tensor)
        if rows != name:
            self.graph.node("Identity", [rows], name)

    def _write(self, tensor: Tensor) -> None:
        held, tensor.held = tensor.held, None
        if held is None:
            return
        name = self.name(tensor.node, len(tensor.shape))
        if isinstance(held, HeldSum):
            order = self.common_order(held.terms)
            written = self.placed(tensor.node, tensor.shape, self.graph.node("Add", order, name), held.terms[0])
            tensor.first, tensor.rows = written.first, written.rows
            return
        inputs = [
            held.source,
            self.graph.weight(f"{name}.weight", held.weight.astype(np.float32)),
            self.graph.weight(f"{name}.bias", held.bias.astype(np.float32)),
        ]
        tensor.first = self.graph.node("Conv", inputs, name, **held.attributes)


Operator = Callable[[Emitter, str, Sequence[Value], Mapping[str, Any]], Value]
