"""Owns element types and static shapes of a graph's tensors: what ONNX infers, with what a run observed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper, shape_inference

from splitmesh.plan.graph.names import real_inputs

SMALL_ELEMENTS = 4096
"""Constants up to this size take part in inference with their values: shapes may hang on them."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Element type (onnx.TensorProto.DataType) and static shape; None where the shape is not known."""

    dtype: int
    shape: tuple[int, ...] | None

    @property
    def elements(self) -> int:
        return math.prod(self.shape) if self.shape is not None else 0


def infer(
    model: ModelProto, shapes: Mapping[str, tuple[int, ...]] = {}, dtypes: Mapping[str, int] = {}
) -> dict[str, TensorInfo]:
    """Tensor name → what is known of it, for the top-level graph. An open batch axis of an input counts as 1.

    shapes, dtypes: observed ones; they fill in what inference can't find, and inference goes on from them. The
    model may be a skeleton whose large weights lie elsewhere; it is not changed. A graph that inference can't cope
    with yields what its inputs and weights say, and what was observed.
    """
    light = _without_weights(model)
    known = {name: TensorInfo(t.data_type, tuple(t.dims)) for t in model.graph.initializer if (name := t.name)}
    infos = known | _inferred(light)
    missing = [n for n in shapes if (n not in infos or infos[n].shape is None) and _dtype(n, infos, dtypes)]
    if missing:
        light.graph.value_info.extend(
            helper.make_tensor_value_info(name, _dtype(name, infos, dtypes), shapes[name]) for name in missing
        )
        infos = known | _inferred(light)
    for name in shapes.keys() | dtypes.keys():
        found = infos.get(name, TensorInfo(TensorProto.UNDEFINED, None))
        shape = shapes.get(name) if found.shape is None else found.shape
        infos[name] = TensorInfo(found.dtype or dtypes.get(name, TensorProto.UNDEFINED), shape)
    return infos


def declare_outputs(model: ModelProto, sizes: Mapping[str, int] = {}) -> None:
    """Give the outputs the shapes that follow from the rest, as far as that is known. In place.

    sizes: symbolic dimension → size, for what can't be inferred.
    """
    infos = infer(model)
    for value in model.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]
        info = infos.get(value.name)
        if info is not None and info.shape is not None and info.dtype:
            value.CopyFrom(helper.make_tensor_value_info(value.name, info.dtype, info.shape))


def _dtype(name: str, infos: Mapping[str, TensorInfo], dtypes: Mapping[str, int]) -> int:
    return (infos[name].dtype if name in infos else 0) or dtypes.get(name, TensorProto.UNDEFINED)


def _without_weights(model: ModelProto) -> ModelProto:
    """A copy for inference: large weights become inputs of their shape, so that it costs little memory."""
    graph = model.graph
    names = set(real_inputs(graph))
    light = GraphProto(name=graph.name, node=graph.node, sparse_initializer=graph.sparse_initializer)
    for value in graph.input:
        if value.name in names:
            copy = light.input.add()
            copy.CopyFrom(value)
            dims = copy.type.tensor_type.shape.dim
            if len(dims) and not dims[0].dim_value:
                dims[0].dim_value = 1
    for tensor in graph.initializer:
        if math.prod(tensor.dims) > SMALL_ELEMENTS or tensor.data_location == TensorProto.EXTERNAL:
            light.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            light.initializer.append(tensor)
    for value in graph.output:
        copy = light.output.add()
        copy.CopyFrom(value)
        copy.type.tensor_type.ClearField("shape")
    return ModelProto(
        ir_version=max(model.ir_version, 4),
        opset_import=model.opset_import,
        functions=model.functions,
        graph=light,
    )


def _inferred(light: ModelProto) -> dict[str, TensorInfo]:
    for with_values in (True, False):
        try:
            found = shape_inference.infer_shapes(light, strict_mode=False, data_prop=with_values)
        except (shape_inference.InferenceError, RuntimeError, ValueError):
            continue
        return _infos(found.graph)
    return _infos(light.graph)


def _infos(graph: GraphProto) -> dict[str, TensorInfo]:
    return {value.name: _info(value) for value in (*graph.value_info, *graph.output, *graph.input)}


def _info(value: ValueInfoProto) -> TensorInfo:
    kind = value.type.tensor_type
    dims = [d.dim_value for d in kind.shape.dim]
    known = kind.HasField("shape") and all(d > 0 for d in dims)
    return TensorInfo(kind.elem_type, tuple(dims) if known else None)
