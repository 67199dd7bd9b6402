"""Owns computing in float32 what a file computes in floats that runtimes lack the kernels for. Touches no others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, numpy_helper

from splitmesh.plan.graph.names import subgraphs

_TYPES_AS_NUMBERS = frozenset({"to", "dtype", "output_dtype", "precision"})
"""Attributes that hold an element type."""
_OF_A_CONVOLUTION = 3
"""Weights with at least so many axes."""


def widen(model: ModelProto) -> None:
    """bfloat16 becomes float32, and so does float64 if convolutions compute in it. In place; nothing else changes.

    No loss for the former; constants of the latter that float32 can't hold become its largest number.
    """
    kinds = _kinds(model)
    if not kinds:
        return
    for node in (node for function in model.functions for node in function.node):
        _widen_node(node, kinds)
    _widen_graph(model.graph, kinds)


def _kinds(model: ModelProto) -> frozenset[int]:
    """The element types that are to go."""
    found = {tensor.data_type for tensor in model.graph.initializer}
    found |= {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    nodes = [*_nodes(model.graph.node), *_nodes(node for function in model.functions for node in function.node)]
    found |= {a.i for node in nodes for a in node.attribute if a.name in _TYPES_AS_NUMBERS}
    found |= {a.t.data_type for node in nodes for a in node.attribute if a.HasField("t")}
    kinds = {TensorProto.BFLOAT16} & found
    doubles = (t for t in model.graph.initializer if t.data_type == TensorProto.DOUBLE)
    if any(len(tensor.dims) >= _OF_A_CONVOLUTION for tensor in doubles):
        kinds.add(TensorProto.DOUBLE)
    return frozenset(kinds)


def _nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    for node in nodes:
        yield node
        for body in subgraphs(node):
            yield from _nodes(body.node)


def _widen_graph(graph: GraphProto, kinds: frozenset[int]) -> None:
    for tensor in graph.initializer:
        _widen_tensor(tensor, kinds)
    for sparse in graph.sparse_initializer:
        _widen_tensor(sparse.values, kinds)
    for value in (*graph.input, *graph.output, *graph.value_info):
        _widen_type(value.type, kinds)
    for node in graph.node:
        _widen_node(node, kinds)


def _widen_node(node: NodeProto, kinds: frozenset[int]) -> None:
    for attribute in node.attribute:
        if attribute.name in _TYPES_AS_NUMBERS and attribute.i in kinds:
            attribute.i = TensorProto.FLOAT
        if attribute.HasField("t"):
            _widen_tensor(attribute.t, kinds)
        if attribute.HasField("tp"):
            _widen_type(attribute.tp, kinds)
    for body in subgraphs(node):
        _widen_graph(body, kinds)


def _widen_type(kind: TypeProto, kinds: frozenset[int]) -> None:
    match kind.WhichOneof("value"):
        case "tensor_type" if kind.tensor_type.elem_type in kinds:
            kind.tensor_type.elem_type = TensorProto.FLOAT
        case "sequence_type":
            _widen_type(kind.sequence_type.elem_type, kinds)
        case "optional_type":
            _widen_type(kind.optional_type.elem_type, kinds)


def _widen_tensor(tensor: TensorProto, kinds: frozenset[int]) -> None:
    if tensor.data_type not in kinds:
        return
    values = numpy_helper.to_array(tensor)
    if tensor.data_type == TensorProto.DOUBLE:
        most = float(np.finfo(np.float32).max)
        values = np.where(np.isfinite(values), np.clip(values, -most, most), values)
    name = tensor.name
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))
