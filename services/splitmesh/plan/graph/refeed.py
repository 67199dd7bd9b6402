"""Owns feeding one model with the tensor that was made for another: pixels back, resized, normalised anew.

With it a second, smaller model runs on the edge without a second preparation of the frame. Touches no weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from splitmesh.errors import ModelError
from splitmesh.plan.manifest import Manifest

_LEAST_OPSET = 11
"""From here on Resize knows half-pixel centres, without which a resized picture is shifted."""


def refed(model: ModelProto, manifest: Manifest, tensor_of: Manifest) -> ModelProto:
    """A copy of `model` whose input is the tensor that `tensor_of` describes, under that manifest's name and size.

    `model`: canonical, one float32 input (1, 3, h, w) as `manifest` says. New first steps take the other tensor
    (1, 3, H, W), undo its scale, offset and channel order, resize bilinearly (half-pixel centres), apply their own.
    A picture that was letterboxed for the other model is seen with its borders: coordinates in [0, 1] of either
    input are then the same. Raises ModelError for an opset before 11.
    """
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < _LEAST_OPSET:
        raise ModelError(
            f"model {manifest.name} is of opset {opset}, and a smaller model beside another needs {_LEAST_OPSET}",
            advice="export it with a newer opset",
        )
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    source, target = tensor_of.input, manifest.input
    if source in taken and source != target:
        raise ModelError(f"model {manifest.name} has an inner tensor that is called {source}, like the other's input")
    inner = f"{target}::refed"
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name == target:
                node.input[position] = inner
    steps = _steps(graph, manifest, tensor_of, source, inner)
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*steps, *rest])
    del graph.input[:]
    shape = (1, 3, tensor_of.height, tensor_of.width)
    graph.input.append(helper.make_tensor_value_info(source, TensorProto.FLOAT, shape))
    return result


def _steps(graph: GraphProto, manifest: Manifest, other: Manifest, source: str, made: str) -> list[NodeProto]:
    """Both affine maps are one, since a bilinear resize keeps affine maps of values."""
    swapped = manifest.color != other.color
    order = [2, 1, 0] if swapped else [0, 1, 2]
    their_scale, their_offset = np.array(other.scale)[order], np.array(other.offset)[order]
    scale = np.array(manifest.scale) / their_scale
    offset = np.array(manifest.offset) - their_offset * scale
    nodes: list[NodeProto] = []
    now = source

    def step(op: str, inputs: list[str], what: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [f"{made}::{what}"], **attributes))
        return f"{made}::{what}"

    if swapped:
        now = step("Gather", [now, _constant(graph, f"{made}::order", np.array(order, np.int64))], "swapped", axis=1)
    if (manifest.height, manifest.width) != (other.height, other.width):
        size = np.array([1, 3, manifest.height, manifest.width], np.int64)
        empty = _constant(graph, f"{made}::none", np.zeros(0, np.float32))
        inputs = [now, empty, empty, _constant(graph, f"{made}::size", size)]
        now = step("Resize", inputs, "resized", mode="linear", coordinate_transformation_mode="half_pixel")
    column = (1, 3, 1, 1)
    now = step("Mul", [now, _constant(graph, f"{made}::scale", scale.astype(np.float32).reshape(column))], "scaled")
    shift = _constant(graph, f"{made}::offset", offset.astype(np.float32).reshape(column))
    nodes.append(helper.make_node("Add", [now, shift], [made]))
    return nodes


def _constant(graph: GraphProto, name: str, value: npt.NDArray[np.int64] | npt.NDArray[np.float32]) -> str:
    if all(tensor.name != name for tensor in graph.initializer):
        graph.initializer.append(numpy_helper.from_array(value, name))
    return name
