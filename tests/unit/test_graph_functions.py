"""Functions of a file's own: in the place of their calls, whatever version they are written for."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import FunctionProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from splitmesh.errors import ModelError
from splitmesh.plan.graph.functions import inlined


def opset(version: int, domain: str = "") -> object:
    return helper.make_opsetid(domain, version)


def function(name: str, nodes: list[NodeProto], version: int, *more: object) -> FunctionProto:
    return helper.make_function("own", name, ["a"], ["b"], nodes, [opset(version), *more])


def calling(names: list[str], functions: list[FunctionProto], version: int) -> ModelProto:
    """x (2, 3) through each function in turn, then times a weight."""
    tensors = ["x", *(f"t{index}" for index in range(len(names)))]
    nodes = [
        helper.make_node(name, [source], [target], domain="own")
        for name, source, target in zip(names, tensors, tensors[1:], strict=False)
    ]
    nodes.append(helper.make_node("Mul", [tensors[-1], "k"], ["y"]))
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in ("x", "y")]
    weight = numpy_helper.from_array(np.float32([2, 3, 4]), "k")
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [weight])
    return helper.make_model(graph, opset_imports=[opset(version), opset(1, "own")], functions=functions)


SWISH = [helper.make_node("Sigmoid", ["a"], ["s"]), helper.make_node("Mul", ["a", "s"], ["b"])]
SOFTMAX = [helper.make_node("Softmax", ["a"], ["b"])]


@pytest.mark.parametrize("version", [13, 14, 20])
def test_calls_within_calls_are_replaced_also_over_versions_that_mean_the_same(version: int) -> None:
    twice = [
        helper.make_node("Swish", ["a"], ["m"], domain="own"),
        helper.make_node("Swish", ["m"], ["b"], domain="own"),
    ]
    functions = [function("Swish", SWISH, 13), function("Twice", twice, 13, opset(1, "own"))]
    model = calling(["Twice", "Swish"], functions, version)
    result = inlined(model)
    assert [node.op_type for node in result.graph.node] == ["Sigmoid", "Mul"] * 3 + ["Mul"]
    assert not result.graph.initializer and model.functions
    result.graph.initializer.extend(model.graph.initializer)
    given = {"x": np.random.default_rng(1).standard_normal((2, 3)).astype(np.float32)}
    np.testing.assert_allclose(
        ReferenceEvaluator(result).run(None, given)[0], swished(given["x"], 3) * [2, 3, 4], rtol=1e-5
    )


def swished(value: np.ndarray, times: int) -> np.ndarray:
    for _ in range(times):
        value = value / (1 + np.exp(-value))
    return value


def test_a_model_without_functions_is_not_copied() -> None:
    model = calling([], [], 13)
    assert inlined(model) is model


def test_an_operator_that_meant_another_thing_is_not_taken_for_todays() -> None:
    """Softmax flattened until version 13."""
    with pytest.raises(ModelError, match="own:Old are written for other versions"):
        inlined(calling(["Old"], [function("Old", SOFTMAX, 11)], 13))
    new = inlined(calling(["New"], [function("New", SOFTMAX, 13)], 13))
    assert [node.op_type for node in new.graph.node] == ["Softmax", "Mul"]


def test_a_function_that_calls_itself_is_refused() -> None:
    again = function("Again", [helper.make_node("Again", ["a"], ["b"], domain="own")], 13, opset(1, "own"))
    with pytest.raises(ModelError, match=r"can't be put in the place of their calls: .*Again"):
        inlined(calling(["Again"], [again], 13))
