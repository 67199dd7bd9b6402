"""Owns computing one operator on known values, with ONNX' reference implementation. Refuses unsure ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, OperatorSetIdProto, helper
from onnx.reference import ReferenceEvaluator

Array = npt.NDArray[Any]

_SHAPES = frozenset(
    {"Concat", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Reshape", "ScatterElements"}
    | {
        "ScatterND",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "Where",
        "ConstantOfShape",
        "Range",
    }
    | {"Shape", "Size", "Cast", "Trilu", "NonZero"}
)
_NUMBERS = frozenset(
    {"Abs", "Add", "Ceil", "Clip", "CumSum", "Div", "Exp", "Floor", "Log", "Max", "Min", "Mod", "Mul", "Neg", "Pow"}
    | {"Reciprocal", "Round", "Sign", "Sqrt", "Sub", "Sum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum"}
    | {"ArgMax", "ArgMin"}
)
_TRUTHS = frozenset(
    {"And", "Equal", "Greater", "GreaterOrEqual", "IsNaN", "IsInf", "Less", "LessOrEqual", "Not", "Or", "Xor"}
)
FOLDED_OPS = _SHAPES | _NUMBERS | _TRUTHS
"""Operators whose reference was found to be what the runtime computes. DequantizeLinear and its like are left out on
purpose: the runtime looks for them."""

_FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What the reference raises on things it does not know."""


def evaluate(
    node: NodeProto, values: Mapping[str, Array], opsets: Sequence[OperatorSetIdProto], limit: int
) -> list[Array] | None:
    """Outputs of `node` in order, or None: an operator not in FOLDED_OPS, more than `limit` elements, no result.

    values: every input by name.
    """
    given = [values[name] if name else None for name in node.input]
    if node.op_type not in FOLDED_OPS or node.domain not in ("", "ai.onnx") or not _is_sure(node.op_type, given):
        return None
    if _grown(node.op_type, given) > limit:
        return None
    names = list(dict.fromkeys(name for name in node.input if name))
    outputs = [name for name in node.output if name]
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_empty_tensor_value_info(name) for name in names],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
    )
    try:
        with np.errstate(all="ignore"):
            made = ReferenceEvaluator(ModelProto(graph=graph, opset_import=opsets)).run(
                None, {name: values[name] for name in names}
            )
    except _FAILURES:
        return None
    arrays = [np.asarray(value) for value in made]
    if any(array.size > limit or array.dtype.kind not in "biuf" for array in arrays):
        return None
    return arrays


def _is_sure(op: str, given: Sequence[Array | None]) -> bool:
    """Integers divided by 0 and numbers that do not fit what they are cast to mean another thing everywhere."""
    if op in ("Div", "Mod"):
        divisor = given[1]
        return divisor is not None and (divisor.dtype.kind == "f" or bool(np.all(divisor != 0)))
    if op == "Cast":
        source = given[0]
        if source is None or source.dtype.kind != "f":
            return source is not None
        return bool(np.all(np.abs(source.astype(np.float64)) < 2**31))
    return True


def _grown(op: str, given: Sequence[Array | None]) -> float:
    """Elements that an operator would write whose inputs do not bound them."""
    known = [value for value in given if value is not None]
    if op == "ConstantOfShape":
        return math.prod(int(n) for n in known[0].ravel())
    if op == "Expand":
        return known[0].size * math.prod(int(n) for n in known[1].ravel())
    if op == "Tile":
        return known[0].size * math.prod(int(n) for value in known[1:2] for n in value.ravel())
    if op == "Range" and len(known) == 3 and known[2]:
        return float((known[1] - known[0]) / known[2])
    return 0
