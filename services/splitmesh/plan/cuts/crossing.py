"""Owns whether tensors may cross from edge to cloud, and as what. Reasons are values: they end up in the plan."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from onnx import TensorProto

from splitmesh.codec.container import MAX_NAME_BYTES
from splitmesh.plan.cuts.cut import WIRE_DTYPES, Crossing, Cut
from splitmesh.plan.graph.view import GraphView

MAX_TENSORS = 3
MAX_ELEMENTS_RATIO = 2.0
WIRE_AXES = 4
MAX_CUT_NAME = 48
_DTYPE_NAMES: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64",
    TensorProto.UNDEFINED: "no plain tensor",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why tensors can't cross. `text` has a place for `number` where cuts nearby differ in nothing else."""

    text: str
    number: int | None = None


def dtype_name(dtype: int) -> str:
    """numpy's name of an onnx.TensorProto.DataType where it has one."""
    return _DTYPE_NAMES.get(dtype) or TensorProto.DataType.Name(TensorProto.DataType.ValueType(dtype)).lower()


def wire_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """A tensor's shape on the wire: (1, …) with two to four axes, the same elements in the same order.

    Every axis stays where that is so already; else a leading 1 is put before it and axes beyond four are merged
    into the last.
    """
    axes = tuple(shape)
    if len(axes) < 2 or axes[0] != 1:
        axes = (1, *axes)
    return axes if len(axes) <= WIRE_AXES else (*axes[: WIRE_AXES - 1], math.prod(axes[WIRE_AXES - 1 :]))


def crossing(view: GraphView, name: str) -> Crossing | Refusal:
    """How tensor `name` crosses, or why it can't: its type, its unknown shape, or too little in it."""
    info = view.tensors.get(name)
    if info is None or info.shape is None:
        return Refusal(f"the shape of {name} is not known")
    dtype = dtype_name(info.dtype)
    if dtype not in WIRE_DTYPES:
        return Refusal(f"tensor {name} is {dtype} and can't cross")
    if info.elements < 2:
        return Refusal(f"tensor {name} holds {info.elements} elements: nothing to code")
    shape = wire_shape(info.shape)
    as_is = dtype == "float32" and shape == info.shape and len(name.encode()) <= MAX_NAME_BYTES
    return Crossing(name, info.shape, dtype, shape, name if as_is else _wire_name(view, name))


def make_cut(
    view: GraphView, prefix: str, names: Iterable[str], *, node_index: int, head_share: float, suffix: str = ""
) -> Cut | Refusal:
    """A cut through the tensors `names`, or the first reason why one of them can't cross; see also `over_limits`.

    It is called `<prefix>-<largest tensor's wire axes>[-<count>t][-<suffix>]`, at most 48 characters of [a-z0-9-].
    """
    tensors: list[Crossing] = []
    for name in names:
        found = crossing(view, name)
        if isinstance(found, Refusal):
            return found
        tensors.append(found)
    sizes = [math.prod(tensor.shape) for tensor in tensors]
    largest = tensors[sizes.index(max(sizes))].shape[1:]
    several = f"-{len(tensors)}t" if len(tensors) > 1 else ""
    end = f"-{suffix}" if suffix else ""
    stem = f"{prefix}-{'x'.join(map(str, largest))}{several}"[: MAX_CUT_NAME - len(end)]
    return Cut(stem + end, tuple(tensors), sum(sizes), node_index, head_share, sum(sizes) / pixels(view))


def over_limits(view: GraphView, tensors: int, elements: int) -> Refusal | None:
    """Why so many tensors, or elements in all of them, are too much to cross.

    Elements count alike whatever their type: codecs send at most eight bits of each.
    """
    if tensors > MAX_TENSORS:
        return Refusal(f"{{}} live tensors, at most {MAX_TENSORS} cross", tensors)
    limit = MAX_ELEMENTS_RATIO * pixels(view)
    if elements > limit:
        return Refusal("{} % larger than the picture ×2", math.ceil(100 * (elements / limit - 1)))
    return None


def elements_of(tensors: Iterable[Crossing]) -> int:
    return sum(math.prod(tensor.shape) for tensor in tensors)


def pixels(view: GraphView) -> int:
    """Elements of the model's inputs, at least 1."""
    return max(1, sum(view.tensors[name].elements for name in view.inputs))


def _wire_name(view: GraphView, name: str) -> str:
    """A name that no tensor of the graph has and that fits a payload's table."""
    stem = name if len(name.encode()) <= MAX_NAME_BYTES - 16 else hashlib.sha256(name.encode()).hexdigest()[:16]
    wire = f"{stem}.wire"
    while wire in view.tensors:
        wire += "_"
    return wire
