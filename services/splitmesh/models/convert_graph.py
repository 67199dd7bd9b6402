"""Owns what every conversion needs to write an ONNX model byte for byte the same each time. Reads no formats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from splitmesh.errors import ModelError

Array = npt.NDArray[Any]

OPSET = 13
IR_VERSION = 8

_ELEMENT_TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(np.int64): TensorProto.INT64,
}


class GraphWriter:
    """Collects nodes and weights in order. Names are kept; a name used twice raises ModelError."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._weights: dict[str, TensorProto] = {}
        self._names: set[str] = set()

    def weight(self, name: str, values: Array) -> str:
        """Add a constant; the same name with the same bytes is added once."""
        tensor = constant(name, values)
        known = self._weights.get(name)
        if known is None:
            self._claim(name)
            self._weights[name] = tensor
        elif known != tensor:
            raise ModelError(f"two different weights are both called {name!r}")
        return name

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node with one output; it is named after that output."""
        self._claim(output)
        self._nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def model(self, name: str, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]) -> ModelProto:
        """The finished, checked model. Raises ModelError if it is not valid ONNX."""
        graph = helper.make_graph(self._nodes, name, inputs, outputs, list(self._weights.values()))
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, producer_name="splitmesh", opset_imports=[opset], ir_version=IR_VERSION)
        return checked(model)

    def _claim(self, name: str) -> None:
        if name in self._names:
            raise ModelError(f"two tensors would both be called {name!r}")
        self._names.add(name)


def constant(name: str, values: Array) -> TensorProto:
    """A weight with raw little-endian bytes, so that equal values are equal bytes."""
    kind = _ELEMENT_TYPES.get(values.dtype)
    if kind is None:
        raise ModelError(f"weight {name!r} has dtype {values.dtype}, which conversion does not write")
    little = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False)
    return helper.make_tensor(name, kind, values.shape, little.tobytes(), raw=True)


def float_tensor(name: str, shape: Sequence[int | str]) -> ValueInfoProto:
    """Declares a float32 input or output; a text dimension is symbolic."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def checked(model: ModelProto) -> ModelProto:
    """The model, after the checker and shape inference accepted it. Raises ModelError otherwise."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as exc:
        raise ModelError(f"the converted graph is not valid ONNX: {exc}") from exc
    return model


def serialize(model: ModelProto) -> bytes:
    """The model's bytes; equal models give equal bytes."""
    payload: bytes = model.SerializeToString(deterministic=True)
    return payload
