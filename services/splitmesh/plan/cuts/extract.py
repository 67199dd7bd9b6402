"""Owns taking a model apart at a cut: head and tail as models of their own, and how far they are from the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, checker, helper

from splitmesh.errors import ModelError
from splitmesh.plan.cuts.frontiers import Cut
from splitmesh.plan.graph.view import reads, real_inputs

Arrays = dict[str, npt.NDArray[np.float32]]
Run = Callable[[Arrays], Arrays]
PARITY_LIMIT = 1e-4
_TINY = 1e-6


def split_model(model: ModelProto, cut: Cut) -> tuple[ModelProto, ModelProto]:
    """Head (model inputs → cut tensors) and tail (cut tensors → model outputs), both checked.

    Constants that both sides need are copied. Raises ModelError if the tail would still need the model's input or
    the cut names a tensor that the graph does not make.
    """
    graph = model.graph
    wires = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip(cut.tensors, cut.shapes, strict=True)
    ]
    inputs = [i for i in graph.input if i.name in set(real_inputs(graph))]
    head = _part(model, f"{cut.name}-head", inputs, wires)
    tail = _part(model, f"{cut.name}-tail", wires, list(graph.output))
    return head, tail


def _part(
    model: ModelProto, name: str, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]
) -> ModelProto:
    graph = model.graph
    keep, needed = _backward(graph, {i.name for i in inputs}, [o.name for o in outputs])
    made = {out for index in keep for out in graph.node[index].output}
    given = {i.name for i in inputs}
    weights = [t for t in graph.initializer if t.name in needed and t.name not in given]
    sparse = [t for t in graph.sparse_initializer if t.values.name in needed]
    known = given | made | {t.name for t in weights} | {t.values.name for t in sparse}
    missing = sorted(n for n in needed if n not in known)
    if missing:
        raise ModelError(f"{name} can't be cut out of the model: it would also need {', '.join(missing)}")
    part = GraphProto(name=name)
    part.node.extend(graph.node[index] for index in keep)
    part.input.extend(inputs)
    part.output.extend(outputs)
    part.initializer.extend(weights)
    part.sparse_initializer.extend(sparse)
    part.value_info.extend(v for v in graph.value_info if v.name in made and v.name not in {o.name for o in outputs})
    result = ModelProto()
    result.CopyFrom(model)
    result.graph.CopyFrom(part)
    try:
        checker.check_model(result)
    except checker.ValidationError as exc:
        raise ModelError(f"{name} is not a valid model: {exc}") from exc
    return result


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


def relative_error(
    got: Mapping[str, npt.NDArray[np.float32]], wanted: Mapping[str, npt.NDArray[np.float32]]
) -> float:
    """Largest |got − wanted| over the largest |wanted|, the worst over all outputs. Missing outputs give inf."""
    worst = 0.0
    for name, want in wanted.items():
        have = got.get(name)
        if have is None or have.shape != want.shape:
            return float("inf")
        if want.size:
            scale = max(float(np.max(np.abs(want))), _TINY)
            worst = max(worst, float(np.max(np.abs(have - want))) / scale)
    return worst


def parity_error(head: Run, tail: Run, cases: Iterable[tuple[Arrays, Arrays]]) -> float:
    """Worst `relative_error` of tail∘head over `cases`: (model inputs, the whole model's outputs for them)."""
    return max((relative_error(tail(head(inputs)), wanted) for inputs, wanted in cases), default=0.0)
