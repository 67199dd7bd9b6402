"""Owns reducing a graph to what its picture's size leaves open: known values, no detours. Changes no result.

Exporters write the computation of shapes into the graph. Once the input's size is pinned most of it is constant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from splitmesh.plan.graph.constants import constant_tensor
from splitmesh.plan.graph.emit import INTEGERS, default_opset
from splitmesh.plan.graph.evaluate import evaluate
from splitmesh.plan.graph.inline import inline_branch
from splitmesh.plan.graph.names import all_names, defined_inside, reads, real_inputs, rename_reads
from splitmesh.plan.graph.shapes import SMALL_ELEMENTS, declare_outputs, infer

Array = npt.NDArray[Any]

MAX_ROUNDS = 100
"""Each finds shapes, and with them values, that the one before could not know."""
_OPSET_OF_TRAINING_MODE = 12
_OPSET_OF_INFERENCE_ONLY = 7
_PLAIN = (TensorProto.BOOL, TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, *INTEGERS)


def fold_constants(model: ModelProto, shapes: Mapping[str, tuple[int, ...]] = {}) -> ModelProto:
    """`model` itself, with constant expressions of at most 4096 elements as initializers, under their own names.

    Shapes of tensors count as constant where they can be inferred, or are in `shapes`, observed in a run. Identity,
    and Dropout as it is when nothing is trained, are by-passed; an If on a constant gives way to the branch it takes;
    nodes and weights that lead to no output go. Tensors that stay keep their names. Nodes that make an output stay.
    """
    for _ in range(MAX_ROUNDS):
        if not _Round(model, shapes).run():
            break
    _remove_unused(model.graph)
    declare_outputs(model)
    return model


class _Round:
    """One walk over the graph, in order."""

    def __init__(self, model: ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._model = model
        self._graph = model.graph
        self._opset = default_opset(model)
        self._infos = infer(model, shapes)
        self._weights = {tensor.name: tensor for tensor in self._graph.initializer}
        self._values: dict[str, Array] = {}
        self._made: dict[str, Array] = {}
        self._instead: dict[str, str] = {}
        self._outputs = {o.name for o in self._graph.output}
        self._read = {name for node in self._graph.node for name in reads(node)} | self._outputs
        self._inner = defined_inside(self._graph.node)
        self._taken = all_names(self._graph)

    def run(self) -> bool:
        """Whether values were found that may lead to further ones."""
        kept: list[NodeProto] = []
        grown = False
        for node in self._graph.node:
            rename_reads([node], self._instead)
            if self._is_bypassed(node):
                continue
            values = self._result(node)
            if values is not None:
                self._made.update(values)
                self._values.update(values)
                continue
            branch = self._taken_branch(node)
            if branch is not None:
                nodes, tensors = inline_branch(node, branch, self._taken)
                kept.extend(nodes)
                self._graph.initializer.extend(tensors)
                grown = True
                continue
            kept.append(node)
        if len(kept) == len(self._graph.node) and not grown:
            return False
        del self._graph.node[:]
        self._graph.node.extend(kept)
        read = {name for node in kept for name in reads(node)} | self._outputs
        self._graph.initializer.extend(
            numpy_helper.from_array(value, name) for name, value in self._made.items() if name in read
        )
        return bool(self._made) or grown

    def _is_bypassed(self, node: NodeProto) -> bool:
        """Its readers read its input from now on."""
        if node.domain not in ("", "ai.onnx") or node.op_type not in ("Identity", "Dropout"):
            return False
        source, target = node.input[0], node.output[0]
        if target in self._outputs or source in self._inner:
            return False
        if node.op_type == "Dropout" and not self._drops_nothing(node):
            return False
        self._instead[target] = source
        return True

    def _drops_nothing(self, node: NodeProto) -> bool:
        if any(name in self._read for name in node.output[1:]):
            return False
        if self._opset >= _OPSET_OF_TRAINING_MODE and len(node.input) > 2 and node.input[2]:
            training = self._value(node.input[2])
            return training is not None and not training.any()
        return self._opset >= _OPSET_OF_INFERENCE_ONLY

    def _result(self, node: NodeProto) -> dict[str, Array] | None:
        """Name → value of all that the node makes, if it is known."""
        names = [name for name in node.output if name]
        if not names or self._outputs.intersection(names):
            return None
        made = self._computed(node)
        if made is None or len(made) != len(names):
            return None
        values = dict(zip(names, made, strict=True))
        return values if all(self._agrees(name, value) for name, value in values.items()) else None

    def _computed(self, node: NodeProto) -> list[Array] | None:
        if node.op_type == "Constant":
            tensor = constant_tensor(node)
            value = _small_value(tensor) if tensor is not None else None
            return None if value is None else [value]
        if node.op_type in ("Shape", "Size") and node.input[0] in self._infos:
            shape = self._infos[node.input[0]].shape
            return None if shape is None else [_measured(node, shape)]
        values: dict[str, Array] = {}
        for name in filter(None, node.input):
            value = self._value(name)
            if value is None:
                return None
            values[name] = value
        return evaluate(node, values, self._model.opset_import, SMALL_ELEMENTS)

    def _value(self, name: str) -> Array | None:
        if name not in self._values and name in self._weights:
            value = _small_value(self._weights[name])
            if value is not None:
                self._values[name] = value
        return self._values.get(name)

    def _agrees(self, name: str, value: Array) -> bool:
        """With what ONNX infers."""
        info = self._infos.get(name)
        if info is None:
            return True
        dtype = helper.np_dtype_to_tensor_dtype(value.dtype)
        return info.dtype in (0, dtype) and info.shape in (None, value.shape)

    def _taken_branch(self, node: NodeProto) -> GraphProto | None:
        if node.op_type != "If" or node.domain not in ("", "ai.onnx"):
            return None
        condition = self._value(node.input[0])
        if condition is None or condition.size != 1:
            return None
        wanted = "then_branch" if condition.item() else "else_branch"
        branch = next(attribute.g for attribute in node.attribute if attribute.name == wanted)
        return None if branch.sparse_initializer else branch


def _small_value(tensor: TensorProto) -> Array | None:
    """None for what is large, lies in another file, or is of no plain numbers."""
    if tensor.data_location == TensorProto.EXTERNAL or math.prod(tensor.dims) > SMALL_ELEMENTS:
        return None
    if tensor.data_type not in _PLAIN:
        return None
    return numpy_helper.to_array(tensor)


def _measured(node: NodeProto, shape: tuple[int, ...]) -> Array:
    if node.op_type == "Size":
        return np.array(math.prod(shape), np.int64)
    ends = {attribute.name: attribute.i for attribute in node.attribute}
    return np.array(shape[ends.get("start", 0) : ends.get("end", len(shape))], np.int64)


def _remove_unused(graph: GraphProto) -> None:
    """Nodes, weights and weights' entries among the inputs that lead to no output. In place."""
    needed = {o.name for o in graph.output}
    for index in range(len(graph.node) - 1, -1, -1):
        node = graph.node[index]
        if needed.intersection(node.output):
            needed.update(reads(node))
        else:
            del graph.node[index]
    listed = set(real_inputs(graph))
    for index in range(len(graph.initializer) - 1, -1, -1):
        if graph.initializer[index].name not in needed:
            del graph.initializer[index]
    weights = {tensor.name for tensor in graph.initializer}
    for index in range(len(graph.input) - 1, -1, -1):
        if graph.input[index].name not in listed | weights:
            del graph.input[index]
