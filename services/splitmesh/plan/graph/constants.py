"""Owns reading constants out of a graph's own ways to write them. Computes nothing."""

from __future__ import annotations

import math

import numpy as np
from onnx import NodeProto, SparseTensorProto, TensorProto, numpy_helper

from splitmesh.errors import ModelError
from splitmesh.plan.graph.load import MAX_MODEL_BYTES


def constant_tensor(node: NodeProto) -> TensorProto | None:
    """What a Constant holds, in whichever of its forms; None for another operator."""
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
        return None
    name = node.output[0]
    for attribute in node.attribute:
        match attribute.name:
            case "value":
                return attribute.t
            case "sparse_value":
                return dense(attribute.sparse_tensor, name)
            case "value_float" | "value_floats":
                numbers = attribute.floats if attribute.name.endswith("s") else attribute.f
                return numpy_helper.from_array(np.array(numbers, np.float32), name)
            case "value_int" | "value_ints":
                whole = attribute.ints if attribute.name.endswith("s") else attribute.i
                return numpy_helper.from_array(np.array(whole, np.int64), name)
            case "value_string":
                return TensorProto(data_type=TensorProto.STRING, string_data=[attribute.s])
            case "value_strings":
                return TensorProto(
                    data_type=TensorProto.STRING, dims=[len(attribute.strings)], string_data=attribute.strings
                )
    return None


def dense(sparse: SparseTensorProto, name: str) -> TensorProto:
    """The same weight with its zeros. Raises ModelError for one that would be larger than any model."""
    values = numpy_helper.to_array(sparse.values)
    places = numpy_helper.to_array(sparse.indices)
    if math.prod(sparse.dims) * values.itemsize > MAX_MODEL_BYTES:
        raise ModelError(
            f"sparse weight {name!r} has shape {list(sparse.dims)}, which is too large", advice="export it dense"
        )
    full = np.zeros(tuple(sparse.dims), values.dtype)
    if places.ndim == 1:
        full.reshape(-1)[places] = values
    else:
        full[tuple(places.T)] = values
    return numpy_helper.from_array(full, name)
