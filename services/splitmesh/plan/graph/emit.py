"""Owns writing operators in the form that a model's own opset knows. Knows not what they are for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from splitmesh.errors import ModelError
from splitmesh.plan.graph.names import all_names, fresh

Array = npt.NDArray[Any]

OLDEST_OPSET = 7
_OPSET_WHERE_NONE = 13
_CLIP_WITH_INPUTS = 11
_SLICE_WITH_INPUTS = 10
_EXACT_FLOAT32 = float(1 << 24)
"""Beyond this not every integer is a float32."""

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
_SIGNED = (TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64)
_UNSIGNED = (TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64)
INTEGERS = (*_SIGNED, *_UNSIGNED)
NUMBERS = (*FLOATS, *INTEGERS, TensorProto.BOOL)


class Emitter:
    """Collects nodes and constants with names that are new to the model. Valid from opset 7 on."""

    def __init__(self, model: ModelProto) -> None:
        self._opset = default_opset(model)
        self._taken = all_names(model.graph)
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def name(self, wish: str) -> str:
        return fresh(wish, self._taken)

    def node(self, op: str, inputs: Sequence[str], wish: str, **attributes: Any) -> str:
        """One output, called `wish` or the like. Raises ModelError for models of an opset that is too old."""
        if self._opset < OLDEST_OPSET:
            raise ModelError(
                f"the model is of opset {self._opset}; what feeds it and reads it needs {OLDEST_OPSET}",
                advice=f"convert it with onnx.version_converter to opset {OLDEST_OPSET} or later",
            )
        output = self.name(wish)
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def constant(self, values: Array, wish: str) -> str:
        name = self.name(wish)
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def drain(self) -> list[NodeProto]:
        """The nodes since the last time."""
        nodes, self.nodes = self.nodes, []
        return nodes

    def reshape(self, source: str, shape: Sequence[int], wish: str) -> str:
        return self.node("Reshape", [source, self.constant(np.array(shape, np.int64), f"{wish}_shape")], wish)

    def pick(self, source: str, axis: int, places: Sequence[int], wish: str) -> str:
        """The elements at `places` along `axis`."""
        index = self.constant(np.array(places, np.int64), f"{wish}_places")
        return self.node("Gather", [source, index], wish, axis=axis)

    def first(self, source: str, count: int, wish: str) -> str:
        """The first `count` elements along axis 0."""
        if self._opset < _SLICE_WITH_INPUTS:
            return self.node("Slice", [source], wish, axes=[0], starts=[0], ends=[count])
        ends = [self.constant(np.array([n], np.int64), f"{wish}_{end}") for end, n in (("from", 0), ("to", count))]
        return self.node("Slice", [source, *ends], wish)

    def clip(self, source: str, low: float, high: float, wish: str) -> str:
        """float32 only."""
        if self._opset < _CLIP_WITH_INPUTS:
            return self.node("Clip", [source], wish, min=low, max=high)
        ends = [self.constant(np.array(v, np.float32), f"{wish}_{end}") for end, v in (("low", low), ("high", high))]
        return self.node("Clip", [source, *ends], wish)

    def cast(self, source: str, dtype: int, wish: str) -> str:
        """float32 to `dtype`; to integers rounded, half up, and kept within their range; bool is what rounds to 1
        or more. Raises ModelError for what is no number."""
        if dtype == TensorProto.FLOAT:
            return source
        if dtype not in NUMBERS:
            kind = TensorProto.DataType.Name(TensorProto.DataType.ValueType(dtype)).lower()
            raise ModelError(f"{wish} would have to be {kind}", advice="only inputs of numbers can be fed")
        if dtype not in FLOATS:
            half = self.constant(np.array(0.5, np.float32), f"{wish}_half")
            whole = self.node("Floor", [self.node("Add", [source, half], f"{wish}_raised")], f"{wish}_whole")
            source = self.clip(whole, *_range(dtype), f"{wish}_within")
        return self.node("Cast", [source], wish, to=dtype)

    def cast_output(self, source: str, output: str) -> None:
        """Any float to the model's own output, float32."""
        self.nodes.append(
            helper.make_node("Cast", [source], [output], name=self.name(f"{output}_float"), to=TensorProto.FLOAT)
        )


def default_opset(model: ModelProto) -> int:
    """Version of ONNX' own operators in the model; where it uses none of them, that is declared now.

    Files from before there were versions are of version 1.
    """
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            return entry.version
    version = _OPSET_WHERE_NONE if model.opset_import else 1
    model.opset_import.append(helper.make_opsetid("", version))
    return version


def _range(dtype: int) -> tuple[float, float]:
    if dtype == TensorProto.BOOL:
        return 0.0, 1.0
    info = np.iinfo(helper.tensor_dtype_to_np_dtype(dtype))
    return max(float(info.min), -_EXACT_FLOAT32), min(float(info.max), _EXACT_FLOAT32)
