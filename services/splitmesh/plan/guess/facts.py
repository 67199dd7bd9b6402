"""Owns what guessing reads off an ONNX graph: ports, metadata, first and last operators. Draws no conclusions.

Functions of the file's own count as what they are made of.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from splitmesh.errors import ModelError
from splitmesh.plan.graph.emit import FLOATS, NUMBERS
from splitmesh.plan.graph.functions import inlined
from splitmesh.plan.graph.names import real_inputs, subgraphs
from splitmesh.plan.graph.shapes import infer
from splitmesh.plan.manifest import Shape

_SMALL = 64
"""Elements of a constant up to which its values are looked at: means and deviations, not weights."""
_STEPS = 12
"""How far an input is followed; what normalises comes first."""

_TRANSPARENT = frozenset(
    {"Cast", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Dropout"}
    | {"QuantizeLinear", "DequantizeLinear", "Pad", "Expand"}
)
"""Operators that leave the numbers as they are, or nearly so."""
_JOINING = _TRANSPARENT | {"Concat", "Slice", "Split", "Gather"}
_ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div"})
_ASIDE = frozenset({"Shape", "Size"})
_NUMBERS = frozenset(NUMBERS)


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output. symbols: each axis' name in the file, "" where it has none."""

    name: str
    dtype: int
    shape: Shape
    symbols: tuple[str, ...]

    @property
    def dtype_name(self) -> str:
        return helper.tensor_dtype_to_np_dtype(self.dtype).name

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOATS


@dataclass(frozen=True, slots=True)
class Step:
    """One operator that an input goes through. values: the small constant it is combined with, else None."""

    op: str
    values: npt.NDArray[np.float64] | None = None
    mean: npt.NDArray[np.float64] | None = None
    """Of a BatchNormalization: the running mean."""
    channels: int | None = None
    """Of a Conv: how many channels it takes."""
    perm: tuple[int, ...] | None = None
    """Of a Transpose."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything about a graph that a guess looks at; holds no weights."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    """Those that are tensors of numbers."""
    left_out: tuple[str, ...]
    """The other outputs: texts, sequences, maps."""
    producer: str
    """In lower case."""
    metadata: Mapping[str, str]
    operators: frozenset[str]
    """Of the graph and of all bodies."""
    opening: Mapping[str, tuple[Step, ...]]
    """Input name → what it goes through first, in order, until the paths part."""
    closing: Mapping[str, frozenset[str]]
    """Output name → the operators that made its numbers, behind all that only moves numbers."""

    def said(self, key: str) -> Any:
        """The metadata entry `key` as the list, mapping or number that it spells, else None."""
        for read in (json.loads, ast.literal_eval):
            try:
                return read(self.metadata.get(key, ""))
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
        return None


def read_facts(model: ModelProto) -> Facts:
    """Raises ModelError for a model without inputs, with one that takes no numbers, or that gives no numbers."""
    graph, nodes = model.graph, inlined(model).graph.node
    constants = dict(_constants(graph, nodes))
    readers = _readers(nodes)
    names = set(real_inputs(graph))
    opening = {name: tuple(_follow(name, readers, constants)) for name in names}
    inputs = tuple(_input(value, opening[value.name]) for value in graph.input if value.name in names)
    outputs = _outputs(model)
    if not inputs or not outputs:
        given = ", ".join(value.name for value in graph.output)
        raise ModelError(
            "the model takes no input" if not inputs else f"the model gives {given}: no tensor of numbers",
            advice="export it with tensors of numbers in and out",
        )
    makers = {name: node for node in nodes for name in node.output if name}
    return Facts(
        inputs,
        tuple(outputs.values()),
        tuple(value.name for value in graph.output if value.name not in outputs),
        model.producer_name.lower(),
        {prop.key: prop.value for prop in model.metadata_props},
        frozenset(_operators(nodes)),
        opening,
        {name: frozenset(_origins(name, makers)) for name in outputs},
    )


def _input(value: ValueInfoProto, opening: tuple[Step, ...]) -> Port:
    form = value.type.WhichOneof("value") or "a value of no type"
    port = _port(value)
    if form != "tensor_type" or port.dtype not in _NUMBERS:
        if form == "tensor_type":
            form = TensorProto.DataType.Name(TensorProto.DataType.ValueType(port.dtype)).lower()
        raise ModelError(
            f"input {value.name!r} of the model takes {form}, not a tensor of numbers",
            advice="export it with inputs of floats, integers or truth values",
        )
    if not value.type.tensor_type.HasField("shape") and any(step.op == "Conv" for step in opening):
        return replace(port, shape=(None,) * 4, symbols=("",) * 4)
    return port


def _outputs(model: ModelProto) -> dict[str, Port]:
    """By name, those that are tensors of numbers; types that the file does not say are inferred."""
    untyped = any(not value.type.tensor_type.elem_type for value in model.graph.output)
    infos = infer(model) if untyped else {}
    ports = [_port(value) for value in model.graph.output if value.type.WhichOneof("value") in (None, "tensor_type")]
    known = [replace(p, dtype=infos[p.name].dtype) if not p.dtype and p.name in infos else p for p in ports]
    return {port.name: port for port in known if port.dtype in _NUMBERS}


def _port(value: ValueInfoProto) -> Port:
    dims = value.type.tensor_type.shape.dim
    shape = tuple(d.dim_value if d.dim_value > 0 else None for d in dims)
    return Port(value.name, value.type.tensor_type.elem_type, shape, tuple(d.dim_param for d in dims))


def _constants(graph: GraphProto, nodes: Iterable[NodeProto]) -> Iterator[tuple[str, TensorProto]]:
    yield from ((tensor.name, tensor) for tensor in graph.initializer)
    for node in nodes:
        if node.op_type == "Constant":
            yield from ((node.output[0], a.t) for a in node.attribute if a.name == "value")


def _readers(nodes: Iterable[NodeProto]) -> dict[str, list[NodeProto]]:
    readers: dict[str, list[NodeProto]] = {}
    for node in nodes:
        if node.op_type not in _ASIDE:
            for name in dict.fromkeys(node.input):
                readers.setdefault(name, []).append(node)
    return readers


def _operators(nodes: Iterable[NodeProto]) -> Iterator[str]:
    for node in nodes:
        yield node.op_type
        for body in subgraphs(node):
            yield from _operators(body.node)


def _follow(
    name: str, readers: Mapping[str, list[NodeProto]], constants: Mapping[str, TensorProto]
) -> Iterator[Step]:
    for _ in range(_STEPS):
        following = readers.get(name, [])
        if len(following) != 1:
            return
        node = following[0]
        if node.op_type in _ARITHMETIC:
            other = [n for n in node.input if n != name]
            values = _values(constants.get(other[0])) if other else None
            if values is None or (node.op_type in ("Sub", "Div") and node.input[0] != name):
                return
            yield Step(node.op_type, values=values)
        elif node.op_type == "BatchNormalization":
            yield Step(node.op_type, mean=_values(constants.get(node.input[3])))
            return
        elif node.op_type == "Conv":
            weight = constants.get(node.input[1])
            group = next((a.i for a in node.attribute if a.name == "group"), 1)
            yield Step(node.op_type, channels=weight.dims[1] * group if weight is not None else None)
            return
        elif node.op_type == "Transpose":
            yield Step(node.op_type, perm=next((tuple(a.ints) for a in node.attribute if a.name == "perm"), None))
        elif node.op_type in _TRANSPARENT:
            yield Step(node.op_type)
        else:
            return
        name = node.output[0]


def _values(tensor: TensorProto | None) -> npt.NDArray[np.float64] | None:
    if tensor is None or int(np.prod(tensor.dims)) > _SMALL:
        return None
    return numpy_helper.to_array(tensor).astype(np.float64).ravel()


def _origins(name: str, makers: Mapping[str, NodeProto]) -> Iterator[str]:
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        node = makers.get(waiting.pop())
        if node is None or node.output[0] in seen:
            continue
        seen.add(node.output[0])
        if node.op_type in _JOINING:
            waiting.extend(node.input if node.op_type == "Concat" else node.input[:1])
        else:
            yield node.op_type
