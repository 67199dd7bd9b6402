"""Owns opening the batch axis of a model that was exported for one picture. Proves nothing: running it does that."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from splitmesh.plan.graph.names import real_inputs
from splitmesh.plan.graph.view import GraphView

BATCH = "N"
"""Name of the open axis."""


def open_batch(model: ModelProto, shapes: Mapping[str, tuple[int, ...]] | None = None) -> ModelProto | None:
    """A copy of `model` whose inputs and outputs take any leading size, or None if one of them can't.

    `model` has static shapes with a leading 1 at every input and output; `shapes` are those of inner tensors that
    inference does not find. What a one-picture export hard-wired is loosened: the target of a Reshape, the sizes of a
    Resize, constants that are concatenated to features. Steps that mix pictures (a transposed batch, a reduction over
    it) are not seen here; whether the copy is right is told by running it, see `inference.planning.batch`.
    """
    view = GraphView(model, shapes or {})
    ends = [value for value in model.graph.input if value.name in set(real_inputs(model.graph))]
    ends += model.graph.output
    if any(_leading(view, value.name) != 1 for value in ends):
        return None
    opened = ModelProto()
    opened.CopyFrom(model)
    graph = opened.graph
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        if value.name in {end.name for end in ends}:
            _open(value)
    alive = {name for outputs in view.live for name in outputs} | set(view.inputs)
    nodes: list[NodeProto] = []
    for node in graph.node:
        if any(name in alive for name in node.output):
            nodes.extend(_loosened(graph, node, view, alive))
        nodes.append(node)
    fresh = GraphProto()
    fresh.node.extend(nodes)
    del graph.node[:]
    graph.node.extend(fresh.node)
    return opened


def _leading(view: GraphView, name: str) -> int:
    info = view.tensors.get(name)
    return info.shape[0] if info is not None and info.shape else 0


def _open(value: ValueInfoProto) -> None:
    dims = value.type.tensor_type.shape.dim
    if len(dims):
        dims[0].Clear()
        dims[0].dim_param = BATCH


def _loosened(graph: GraphProto, node: NodeProto, view: GraphView, alive: set[str]) -> Iterator[NodeProto]:
    """Rewrites `node` in place where it is bound to one picture; yields nodes that must stand before it."""
    match node.op_type:
        case "Reshape":
            _loosen_reshape(graph, node, view, alive)
        case "Resize" | "Upsample":
            _loosen_resize(graph, node, view)
        case "Concat":
            yield from _loosen_concat(graph, node, view, alive)


def _loosen_reshape(graph: GraphProto, node: NodeProto, view: GraphView, alive: set[str]) -> None:
    made = view.tensors.get(node.output[0])
    if made is None or not made.shape or node.input[1] in alive:
        return
    target = np.array([-1, *made.shape[1:]], np.int64)
    if 0 not in made.shape:
        node.input[1] = _constant(graph, f"{node.output[0]}::any-batch", target)


def _loosen_resize(graph: GraphProto, node: NodeProto, view: GraphView) -> None:
    """Sizes become scales, if these lead to the same sizes."""
    if node.op_type != "Resize" or len(node.input) < 4 or not node.input[3]:
        return
    given, made = view.tensors.get(node.input[0]), view.tensors.get(node.output[0])
    plain = not any(attribute.name == "axes" for attribute in node.attribute)
    if given is None or made is None or not given.shape or not made.shape or not plain:
        return
    scales = np.array([m / g for m, g in zip(made.shape, given.shape, strict=True)], np.float32)
    reached = tuple(math.floor(np.float32(g) * s) for g, s in zip(given.shape, scales, strict=True))
    if reached == made.shape:
        scaled = _constant(graph, f"{node.output[0]}::scales", scales)
        names = [*node.input[:2], scaled]
        del node.input[:]
        node.input.extend(names)


def _loosen_concat(graph: GraphProto, node: NodeProto, view: GraphView, alive: set[str]) -> Iterator[NodeProto]:
    """Constants (a class token, say) are repeated for each picture."""
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
    live = next((name for name in node.input if name in alive), None)
    made = view.tensors.get(node.output[0])
    if axis == 0 or live is None or made is None or made.shape is None or axis == -len(made.shape):
        return
    for position, name in enumerate(node.input):
        info = view.tensors.get(name)
        if name in alive or info is None or not info.shape or info.shape[0] != 1:
            continue
        prefix = f"{node.output[0]}::{position}"
        first = _constant(graph, "::first-axis", np.array([0], np.int64))
        rest = _constant(graph, f"{prefix}::rest", np.array(info.shape[1:], np.int64))
        yield helper.make_node("Shape", [live], [f"{prefix}::shape"])
        yield helper.make_node("Gather", [f"{prefix}::shape", first], [f"{prefix}::batch"])
        yield helper.make_node("Concat", [f"{prefix}::batch", rest], [f"{prefix}::target"], axis=0)
        yield helper.make_node("Expand", [name, f"{prefix}::target"], [f"{prefix}::repeated"])
        node.input[position] = f"{prefix}::repeated"


def _constant(graph: GraphProto, name: str, value: np.ndarray[tuple[int], np.dtype[np.int64 | np.float32]]) -> str:
    if all(tensor.name != name for tensor in graph.initializer):
        tensor: TensorProto = numpy_helper.from_array(value, name)
        graph.initializer.append(tensor)
    return name
