"""Folding around bodies: names that they capture, branches that are decided."""

from __future__ import annotations

import numpy as np
import pytest
from graph_models import (
    BOOL,
    FLOAT,
    folded,
    graph,
    model,
    node,
    ops,
    value,
    weights,
)
from onnx import GraphProto, helper

from splitmesh.plan.graph.fold import fold_constants


def test_what_is_captured_by_a_body_stays_under_its_name() -> None:
    """The If is on the picture itself, so both bodies stay; one reads a folded shape, one what an Identity made."""
    bodies = [
        graph([node("Reshape", ["x", "to"], "a")], ["a"]),
        graph([node("Reshape", ["same", "to"], "r"), node("Neg", ["r"], "b")], ["b"]),
    ]
    nodes = [
        node("Identity", ["x"], "same"),
        node("Shape", ["x"], "s"),
        node("Slice", ["s", "zero", "two"], "front"),
        node("Concat", ["front", "minus"], "to", axis=0),
        node("ReduceMax", ["x"], "top", keepdims=0),
        node("Greater", ["top", "limit"], "yes"),
        node("If", ["yes"], "y", then_branch=bodies[0], else_branch=bodies[1]),
    ]
    constants = [value("zero", [0]), value("two", [2]), value("minus", [-1]), value("limit", 9, np.float32)]
    result = folded(model(nodes, constants))
    assert ops(result) == ["ReduceMax", "Greater", "If"]
    assert weights(result) == {"to": [1, 3, -1], "limit": 9.0}


def test_a_by_pass_is_kept_where_a_body_uses_the_other_name_for_something_else() -> None:
    bodies = [
        graph([node("Neg", ["same"], "r"), node("Abs", ["r"], "a")], ["a"]),
        graph([node("Neg", ["same"], "b")], ["b"]),
    ]
    bodies[0].node[0].output[0] = bodies[0].node[1].input[0] = "early"
    nodes = [
        node("Relu", ["x"], "early"),
        node("Identity", ["early"], "same"),
        node("ReduceMax", ["x"], "top", keepdims=0),
        node("Greater", ["top", "limit"], "yes"),
        node("If", ["yes"], "y", then_branch=bodies[0], else_branch=bodies[1]),
    ]
    proto = model(nodes, [value("limit", 9, np.float32)])
    fold_constants(proto)
    assert ops(proto) == ["Relu", "Identity", "ReduceMax", "Greater", "If"]


@pytest.mark.parametrize("wide", [True, False])
def test_an_if_on_a_shape_gives_way_to_the_branch_it_takes(wide: bool) -> None:
    """Names inside both branches are the same; one output is made inside, one is a weight, one comes from outside."""

    def branch(op: str, factor: float) -> GraphProto:
        nodes = [node("Mul", ["r", "k"], "a"), node("Constant", [], "two", value_float=2.0)]
        nodes += [node(op, ["a"], "b"), node("Mul", ["b", "two"], "c")]
        inner = graph(nodes, ["c", "k", "b"], [value("k", factor, np.float32)])
        outer = graph([node("If", ["later"], "d", then_branch=leaf("b"), else_branch=leaf("k"))], ["d"])
        inner.node.append(outer.node[0])
        inner.output.append(helper.make_tensor_value_info("d", FLOAT, None))
        return inner

    def leaf(name: str) -> GraphProto:
        return graph([node("Neg", [name], "l")], ["l"])

    nodes = [
        node("Relu", ["x"], "r"),
        node("ReduceMax", ["x"], "top", keepdims=0),
        node("Cast", ["top"], "later", to=BOOL),
        node("Shape", ["r"], "s"),
        node("Gather", ["s", "three"], "w"),
        node("Greater", ["w", "ten"], "yes"),
        node("If", ["yes"], "o", "p", "q", "d", then_branch=branch("Exp", 3), else_branch=branch("Abs", 5)),
        node("Sum", ["o", "p", "q", "d", "r"], "y"),
    ]
    proto = model(nodes, [value("three", 3), value("ten", 10 if wide else 20)])
    result = folded(proto)
    assert ("Exp" in ops(result), "Abs" in ops(result)) == (wide, not wide)
    assert ops(result).count("If") == 1
    assert not {"Constant", "Greater", "Shape", "Identity"} & set(ops(result))


def test_a_decided_if_may_make_an_output_of_the_model() -> None:
    bodies = [graph([node(op, ["x"], "y_")], ["y_"]) for op in ("Exp", "Abs")]
    nodes = [node("If", ["yes"], "y", then_branch=bodies[0], else_branch=bodies[1])]
    result = folded(model(nodes, [value("yes", True, np.bool_)]))
    assert ops(result) == ["Exp"]
    assert result.graph.node[0].output == ["y"]


def test_an_if_whose_branch_is_decided_inside_a_branch_is_inlined_in_turn() -> None:
    deep = [graph([node(op, ["x"], "z")], ["z"]) for op in ("Exp", "Abs")]
    inner = graph([node("If", ["no"], "i", then_branch=deep[0], else_branch=deep[1])], ["i"])
    other = graph([node("Neg", ["x"], "j")], ["j"])
    nodes = [node("If", ["yes"], "o", then_branch=inner, else_branch=other), node("Neg", ["o"], "y")]
    result = folded(model(nodes, [value("yes", True, np.bool_), value("no", False, np.bool_)]))
    assert ops(result) == ["Abs", "Neg"]
