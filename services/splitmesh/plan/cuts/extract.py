"""Owns taking a model apart at a cut: head and tail as models of their own, and how far they are from the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper

from splitmesh.errors import ModelError
from splitmesh.plan.cuts.border import Border, border
from splitmesh.plan.cuts.cut import Cut
from splitmesh.plan.graph.names import reads, real_inputs

Arrays = dict[str, npt.NDArray[Any]]
Run = Callable[[Arrays], Arrays]
PARITY_LIMIT = 1e-4
_TINY = 1e-6
_FIRST_IR_WITHOUT_WEIGHTS_AS_INPUTS = 4


def split_model(model: ModelProto, cut: Cut) -> tuple[ModelProto, ModelProto]:
    """Head (model inputs → wire tensors) and tail (wire tensors → model outputs).

    The head ends with the cast and reshape that each wire tensor needs, the tail starts with the way back; see
    `border`. Both hold only the nodes, weights and shapes that they need; constants that both need are copied.
    Weights may be external: nothing reads them. Raises ModelError if a part would need a tensor that it can't have
    (the tail the model's input, say), or would be no well-formed graph.
    """
    graph = model.graph
    taken = {t.name for t in graph.initializer} | {
        name for node in graph.node for name in (*node.input, *node.output)
    }
    borders = [border(crossing, taken) for crossing in cut.tensors]
    wires = [helper.make_tensor_value_info(t.wire, TensorProto.FLOAT, t.shape) for t in cut.tensors]
    inputs = [i for i in graph.input if i.name in set(real_inputs(graph))]
    return (
        _part(model, f"{cut.name}-head", inputs, wires, ends=borders),
        _part(model, f"{cut.name}-tail", wires, graph.output, starts=borders),
    )


def _part(
    model: ModelProto,
    name: str,
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    *,
    starts: Sequence[Border] = (),
    ends: Sequence[Border] = (),
) -> ModelProto:
    """The nodes between, with the borders at their start or end."""
    graph = model.graph
    given = {i.name for i in inputs} | {b.crossing.name for b in starts}
    keep, needed = _backward(graph, given, [b.crossing.name for b in ends] or [o.name for o in outputs])
    part = GraphProto(name=name, input=inputs, output=outputs)
    part.node.extend(node for b in starts for node in b.enter)
    part.node.extend(graph.node[index] for index in keep)
    part.node.extend(node for b in ends for node in b.leave)
    weights = [t for t in graph.initializer if t.name in needed and t.name not in given]
    part.initializer.extend(weights)
    part.initializer.extend(t for b in (*starts, *ends) for t in (b.enter_constants if starts else b.leave_constants))
    part.sparse_initializer.extend(t for t in graph.sparse_initializer if t.values.name in needed)
    inside = {out for node in part.node for out in node.output} - {o.name for o in outputs}
    part.value_info.extend(v for v in graph.value_info if v.name in inside)
    _check(part)
    return ModelProto(
        ir_version=max(model.ir_version, _FIRST_IR_WITHOUT_WEIGHTS_AS_INPUTS),
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        domain=model.domain,
        model_version=model.model_version,
        opset_import=model.opset_import,
        metadata_props=model.metadata_props,
        functions=model.functions,
        graph=part,
    )


def _backward(graph: GraphProto, stop: set[str], goals: Iterable[str]) -> tuple[list[int], set[str]]:
    """Indices of the nodes (in order) that lead from `stop` to `goals`, and all names they read."""
    producer = {out: index for index, node in enumerate(graph.node) for out in node.output if out}
    keep: set[int] = set()
    needed: set[str] = set()
    pending = list(goals)
    while pending:
        name = pending.pop()
        if name in needed:
            continue
        needed.add(name)
        index = producer.get(name)
        if name in stop or index is None or index in keep:
            continue
        keep.add(index)
        pending.extend(reads(graph.node[index]))
    return sorted(keep), needed


def _check(part: GraphProto) -> None:
    """Every tensor is made once, before it is read. The ONNX checker would ask for external weights."""
    known = {i.name for i in part.input}
    known.update(t.name for t in part.initializer)
    known.update(t.values.name for t in part.sparse_initializer)
    missing: dict[str, None] = {}
    twice: dict[str, None] = {}
    for node in part.node:
        missing.update(dict.fromkeys(name for name in reads(node) if name not in known))
        made = [name for name in node.output if name]
        twice.update(dict.fromkeys(name for name in made if name in known))
        known.update(made)
    missing.update(dict.fromkeys(o.name for o in part.output if o.name not in known))
    if missing:
        raise ModelError(
            f"{part.name} can't be cut out of the model: it would also need {', '.join(sorted(missing))}"
        )
    if twice:
        raise ModelError(f"{part.name} can't be cut out of the model: it would make {', '.join(sorted(twice))} twice")


def relative_error(got: Mapping[str, npt.NDArray[Any]], wanted: Mapping[str, npt.NDArray[Any]]) -> float:
    """Largest |got − wanted| over the largest |wanted|, the worst over all outputs, of any number or truth type.

    NaN and infinity equal themselves only. Outputs that are missing, of another shape, or not finite where the
    wanted ones are (or the other way) give inf.
    """
    return max((_relative_error(got.get(name), want) for name, want in wanted.items()), default=0.0)


def _relative_error(have: npt.NDArray[Any] | None, want: npt.NDArray[Any]) -> float:
    if have is None or have.shape != want.shape:
        return float("inf")
    left, right = have.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(right)
    if not np.array_equal(left[~finite], right[~finite], equal_nan=True) or not np.isfinite(left[finite]).all():
        return float("inf")
    left, right = left[finite], right[finite]
    if not right.size:
        return 0.0
    return float(np.max(np.abs(left - right))) / max(float(np.max(np.abs(right))), _TINY)


def parity_error(head: Run, tail: Run, cases: Iterable[tuple[Arrays, Arrays]]) -> float:
    """Worst `relative_error` of tail∘head over `cases`: (model inputs, the whole model's outputs for them)."""
    return max((relative_error(tail(head(inputs)), wanted) for inputs, wanted in cases), default=0.0)
