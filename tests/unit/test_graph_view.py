"""What is read off a graph: types and shapes of everything, what hangs on the picture, what it costs."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import plan_graphs
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from splitmesh.plan.graph.names import all_names, fresh, reads, rename_reads
from splitmesh.plan.graph.shapes import TensorInfo
from splitmesh.plan.graph.view import BYTES_WEIGHT, GraphView

FLOAT, INT64, BOOL, UINT8 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.UINT8


def model(
    nodes: list[NodeProto],
    weights: Sequence[TensorProto] = (),
    *,
    outputs: tuple[str, ...] = ("y",),
    batch: int | str = 1,
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, [batch, 3, 8, 12])],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        weights,
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def kernel(name: str, *shape: int, dtype: type = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.ones(shape, dtype), name)


def elsewhere(tensor: TensorProto) -> TensorProto:
    """The same weight in a file that is not there."""
    other = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    other.data_location = TensorProto.EXTERNAL
    other.external_data.add(key="location", value="absent.bin")
    return other


def test_integers_truths_and_scalars_have_their_type_and_shape() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0),
        helper.make_node("Greater", ["x", "top"], ["yes"]),
        helper.make_node("Cast", ["yes"], ["u"], to=UINT8),
        helper.make_node("TopK", ["x", "k"], ["v", "i"]),
        helper.make_node("Cast", ["u"], ["y"], to=FLOAT),
    ]
    view = GraphView(model(nodes, [numpy_helper.from_array(np.array([2], np.int64), "k")]))
    full = (1, 3, 8, 12)
    assert view.tensors == {
        "x": TensorInfo(FLOAT, full),
        "k": TensorInfo(INT64, (1,)),
        "s": TensorInfo(INT64, (4,)),
        "top": TensorInfo(FLOAT, ()),
        "yes": TensorInfo(BOOL, full),
        "u": TensorInfo(UINT8, full),
        "v": TensorInfo(FLOAT, (1, 3, 8, 2)),
        "i": TensorInfo(INT64, (1, 3, 8, 2)),
        "y": TensorInfo(FLOAT, full),
    }
    assert view.tensors["top"].elements == 1


def test_observed_shapes_fill_in_what_is_not_known_and_inference_goes_on_from_there() -> None:
    nodes = [
        helper.make_node("Gelu", ["x"], ["g"], domain="com.microsoft"),
        helper.make_node("Conv", ["g", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    proto = model(nodes, [kernel("w", 4, 3, 1, 1)])
    assert GraphView(proto).tensors["y"].shape is None
    view = GraphView(proto, {"g": (1, 3, 8, 12)}, {"g": FLOAT})
    assert view.tensors["g"] == TensorInfo(FLOAT, (1, 3, 8, 12))
    assert view.tensors["y"] == TensorInfo(FLOAT, (1, 4, 8, 12))
    assert view.cost(1) == 4 * 8 * 12 * 3 + BYTES_WEIGHT * 4 * 8 * 12
    # What can be inferred is not up to an observation, nor is a name that the graph does not have a reason to fail.
    view = GraphView(proto, {"x": (9,), "g": (1, 3, 8, 12), "else": (2,)}, {"else": BOOL, "x": INT64})
    assert view.tensors["x"] == TensorInfo(FLOAT, (1, 3, 8, 12))
    assert view.tensors["else"] == TensorInfo(BOOL, (2,))


def test_a_skeleton_is_viewed_like_the_whole_and_neither_is_changed() -> None:
    whole = plan_graphs.residual_classifier(batch="N")
    skeleton = ModelProto()
    skeleton.CopyFrom(whole)
    del skeleton.graph.initializer[:]
    skeleton.graph.initializer.extend(elsewhere(tensor) for tensor in whole.graph.initializer)
    before = skeleton.SerializeToString()
    one, other = GraphView(whole), GraphView(skeleton)
    assert skeleton.SerializeToString() == before
    assert one.tensors == other.tensors and one.live == other.live and one.inputs == other.inputs == ["image"]
    assert [one.cost(i) for i in range(len(one.nodes))] == [other.cost(i) for i in range(len(other.nodes))]
    assert all(one.tensors[name].shape for live in one.live for name in live)


def test_what_hangs_on_the_picture_or_on_chance_is_live() -> None:
    nodes = [
        helper.make_node("Range", ["from", "upto", "step"], ["row"]),
        helper.make_node("RandomNormal", [], ["noise"], shape=[12]),
        helper.make_node("Add", ["row", "noise"], ["sum"]),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    ends = [
        numpy_helper.from_array(np.array(n, np.float32), name) for name, n in (("from", 0), ("upto", 12), ("step", 1))
    ]
    view = GraphView(model(nodes, ends))
    assert view.live == [(), ("noise",), ("sum",), ("y",)]
    assert view.cost(0) == 0.0 < view.cost(1)
    assert view.last_read == {"from": 0, "upto": 0, "step": 0, "row": 2, "noise": 2, "x": 3, "sum": 3, "y": 4}


@pytest.mark.parametrize(
    ("node", "weights", "work"),
    [
        (("Conv", ["x", "w"], {"strides": [2, 2]}), [kernel("w", 5, 3, 2, 2)], 5 * 4 * 6 * 12),
        (("Conv", ["x", "w"], {"group": 3}), [kernel("w", 3, 1, 1, 1)], 3 * 8 * 12),
        (("ConvTranspose", ["x", "w"], {}), [kernel("w", 3, 5, 2, 2)], 3 * 8 * 12 * 20),
        (("MatMul", ["x", "w"], {}), [kernel("w", 12, 7)], 3 * 8 * 7 * 12),
        (("MatMul", ["x", "w"], {}), [kernel("w", 12)], 0),
        (("Relu", ["x"], {}), [], 0),
    ],
)
def test_the_cost_is_multiplications_and_what_is_written(node, weights, work: int) -> None:
    op, inputs, attributes = node
    view = GraphView(model([helper.make_node(op, inputs, ["y"], **attributes)], weights))
    assert view.cost(0) == work + BYTES_WEIGHT * view.tensors["y"].elements


def test_the_cost_of_a_quantised_convolution_is_that_of_its_kernel() -> None:
    scale = numpy_helper.from_array(np.array(0.1, np.float32), "s")
    zero = numpy_helper.from_array(np.array(0, np.uint8), "z")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("QLinearConv", ["q", "s", "z", "w", "s", "z", "s", "z"], ["c"]),
        helper.make_node("DequantizeLinear", ["c", "s", "z"], ["y"]),
    ]
    view = GraphView(model(nodes, [scale, zero, kernel("w", 4, 3, 1, 1, dtype=np.uint8)]))
    assert view.tensors["c"] == TensorInfo(UINT8, (1, 4, 8, 12))
    assert view.cost(1) == 4 * 8 * 12 * 3 + BYTES_WEIGHT * 4 * 8 * 12


def test_a_graph_that_inference_refuses_is_viewed_with_what_is_said() -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "to"], ["r"]),
        helper.make_node("Concat", ["r", "x"], ["y"], axis=9),
    ]
    to = numpy_helper.from_array(np.array([5, 5], np.int64), "to")
    view = GraphView(model(nodes, [to]), {"y": (2, 2)}, {"y": FLOAT})
    assert view.tensors["x"].shape == (1, 3, 8, 12)
    assert view.tensors["y"].shape == (2, 2)


def test_five_thousand_nodes_take_a_moment() -> None:
    nodes = [helper.make_node("Conv", [f"t{i}", "w"], [f"t{i + 1}"]) for i in range(5000)]
    nodes[0].input[0], nodes[-1].output[0] = "x", "y"
    proto = model(nodes, [kernel("w", 3, 3, 1, 1)])
    start = time.perf_counter()
    view = GraphView(proto)
    total = sum(view.cost(i) for i in range(5000))
    assert time.perf_counter() - start < 5
    assert total == 5000 * (3 * 8 * 12) * (3 + BYTES_WEIGHT)


def nested() -> NodeProto:
    """An If that reads "a" and "b" from outside, and has tensors of its own called "c" and (in one body) "a"."""
    inner = helper.make_graph([helper.make_node("Neg", ["b"], ["d"])], "inner", [], [out("d")])
    deep = helper.make_node("If", ["c"], ["e"], then_branch=inner, else_branch=inner)
    left = helper.make_graph([helper.make_node("Not", ["a"], ["c"]), deep], "left", [], [out("e")])
    right = helper.make_graph(
        [helper.make_node("Neg", ["b"], ["a"]), helper.make_node("Abs", ["a"], ["f"])], "right", [], [out("f")]
    )
    return helper.make_node("If", ["yes"], ["y"], then_branch=left, else_branch=right)


def out(name: str):
    return helper.make_tensor_value_info(name, FLOAT, None)


def test_renaming_reaches_into_bodies_but_not_what_they_call_so_themselves() -> None:
    node = nested()
    assert reads(node) == ["yes", "b", "a"]
    rename_reads([node], {"a": "a2", "b": "b2", "yes": "no", "c": "never", "y": "never"})
    assert reads(node) == ["no", "b2", "a2"]
    bodies = {attribute.name: attribute.g for attribute in node.attribute}
    left, right = bodies["then_branch"], bodies["else_branch"]
    assert (left.node[0].input[0], right.node[0].input[0]) == ("a2", "b2")
    assert right.node[1].input[0] == "a" and left.node[1].input[0] == "c"


def test_new_names_are_new_at_any_depth() -> None:
    names = all_names(model([nested()], outputs=("y",)).graph)
    assert names == {"x", "yes", "y", "a", "b", "c", "d", "e", "f"}
    assert [fresh("d", names), fresh("d", names), fresh("z", names)] == ["d_2", "d_3", "z"]
