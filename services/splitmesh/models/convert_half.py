"""Owns the half-size form in which weights are shipped, and the way back to float32. Loses 13 mantissa bits, once.

The shipped file is itself valid ONNX: each float16 weight is followed by a Cast to the name its users read.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from splitmesh.errors import ModelError
from splitmesh.models.convert_graph import checked, constant

EXACT_BELOW = 12_000
"""Weights with fewer elements stay float32: depthwise and stem kernels are small, and rounding them costs most."""

_SUFFIX = ".half"


def to_half(model: ModelProto) -> ModelProto:
    """Store every float32 weight of at least EXACT_BELOW elements as float16 plus a Cast.

    Raises ModelError if a weight does not fit float16's range.
    """
    half = ModelProto()
    half.CopyFrom(model)
    graph = half.graph
    casts, weights = [], []
    for weight in graph.initializer:
        if weight.data_type != TensorProto.FLOAT or math.prod(weight.dims) < EXACT_BELOW:
            weights.append(weight)
            continue
        values = numpy_helper.to_array(weight)
        if np.abs(values).max(initial=0) > float(np.finfo(np.float16).max):
            raise ModelError(f"weight {weight.name!r} exceeds float16's range")
        weights.append(constant(weight.name + _SUFFIX, values.astype(np.float16)))
        casts.append(
            helper.make_node("Cast", [weight.name + _SUFFIX], [weight.name], name=weight.name, to=TensorProto.FLOAT)
        )
    nodes = [*casts, *graph.node]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
    return checked(half)


def to_full(model: ModelProto) -> ModelProto:
    """Undo `to_half`: plain float32 weights, no Casts. A model without half weights comes back unchanged."""
    full = ModelProto()
    full.CopyFrom(model)
    graph = full.graph
    halves = {w.name for w in graph.initializer if w.data_type == TensorProto.FLOAT16 and w.name.endswith(_SUFFIX)}
    casts = {n.input[0]: n.output[0] for n in graph.node if n.op_type == "Cast" and n.input[0] in halves}
    nodes = [n for n in graph.node if not (n.op_type == "Cast" and n.input[0] in casts)]
    weights = []
    for weight in graph.initializer:
        if weight.name in casts:
            values = numpy_helper.to_array(weight).astype(np.float32)
            weight = constant(casts[weight.name], values)
        weights.append(weight)
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
    return checked(full)


def read_model(payload: bytes, *, where: str) -> ModelProto:
    """Parse an ONNX file's bytes. Raises ModelError that names `where`."""
    try:
        return onnx.load_model_from_string(payload)
    except Exception as exc:
        raise ModelError(f"{where} is not an ONNX model: {exc}") from exc
