"""Outputs, names, bodies, constants and functions of a model in its canonical form."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from graph_models import (
    DOUBLE,
    FLOAT,
    HALF,
    H,
    W,
    build,
    check,
    feed,
    manifest,
    mirror,
    picture,
    port,
    run,
)
from onnx import TensorProto, helper, numpy_helper

from splitmesh.errors import ModelError
from splitmesh.plan.graph.canonical import canonical_model


@pytest.mark.parametrize("kind", [HALF, DOUBLE, TensorProto.BFLOAT16])
def test_outputs_are_float32_under_their_own_names(kind: int) -> None:
    """One that is read further on, one that a body hands out, one that is a weight."""
    body = helper.make_graph([], "body", [], [port("first", kind, None)])
    other = helper.make_graph([helper.make_node("Identity", ["first"], ["o"])], "other", [], [port("o", kind, None)])
    body.node.append(helper.make_node("Identity", ["first"], ["t"]))
    body.output[0].name = "t"
    nodes = [
        helper.make_node("Cast", ["x"], ["first"], to=kind),
        helper.make_node("If", ["yes"], ["second"], then_branch=body, else_branch=other),
        helper.make_node("Cast", ["first"], ["back"], to=FLOAT),
    ]
    weights = [numpy_helper.from_array(np.array(True), "yes"), helper.make_tensor("third", kind, [2], [0.5, 2.0])]
    outputs = [port(name, kind, None) for name in ("first", "second", "third")] + [port("back", FLOAT, None)]
    described = manifest(scale=[1.0] * 3, offset=[0.0] * 3)
    model = build(nodes, [port("x", FLOAT, [1, 3, H, W])], outputs, weights, opset=13)
    result = canonical_model(model, described)
    tensors = feed(described, picture())
    got = run(result, tensors)
    assert list(got) == ["first", "second", "third", "back"]
    assert {value.dtype for value in got.values()} == {np.dtype(np.float32)}
    for name in ("first", "second", "back"):
        np.testing.assert_array_equal(got[name], tensors["x"])
    np.testing.assert_array_equal(got["third"], [0.5, 2.0])


def test_names_that_the_model_uses_itself_are_left_alone() -> None:
    nodes = [
        helper.make_node("Identity", ["x"], ["x_native"]),
        helper.make_node("Identity", ["x_native"], ["x_nhwc"]),
        helper.make_node("Add", ["x_nhwc", "x"], ["y_native"]),
        helper.make_node("Identity", ["y_native"], ["y"]),
    ]
    described = manifest(layout="NHWC")
    result = canonical_model(build(nodes, [port("x", HALF, [1, H, W, 3])], [port("y", HALF, None)]), described)
    check(result, described)
    tensors = feed(described, picture())
    want = 2 * tensors["x"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(run(result, tensors)["y"], want, rtol=1e-3)


def test_a_body_reads_the_picture_in_the_models_own_form() -> None:
    bodies = [
        helper.make_graph([helper.make_node(op, ["x"], [op])], op, [], [port(op, HALF, None)])
        for op in ("Neg", "Abs")
    ]
    nodes = [helper.make_node("If", ["yes"], ["y"], then_branch=bodies[0], else_branch=bodies[1])]
    yes = numpy_helper.from_array(np.array(True), "yes")
    described = manifest(layout="NHWC")
    model = build(nodes, [port("x", HALF, [1, H, W, 3])], [port("y", HALF, None)], [yes])
    tensors = feed(described, picture())
    got = run(canonical_model(model, described), tensors)["y"]
    np.testing.assert_allclose(got, -tensors["x"].transpose(0, 2, 3, 1), rtol=1e-3)


def test_weights_listed_as_inputs_constants_and_sparse_weights_become_plain_initializers() -> None:
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.array([3.0, 4.0], np.float32), "sparse"),
        numpy_helper.from_array(np.array([[0, 1], [1, 0]], np.int64), "sparse_places"),
        [2, 2],
    )
    linear = helper.make_sparse_tensor(
        numpy_helper.from_array(np.array([5.0], np.float32), "v"),
        numpy_helper.from_array(np.array([3], np.int64), "i"),
        [2, 2],
    )
    constants = {
        "value": numpy_helper.from_array(np.array([7.0], np.float32)),
        "value_float": 1.5,
        "value_floats": [1.0, 2.0],
        "value_int": 4,
        "value_ints": [4, 5],
        "sparse_value": linear,
    }
    nodes = [helper.make_node("Constant", [], [name], **{name: value}) for name, value in constants.items()]
    names = ["x", "listed", "sparse", *constants]
    nodes += [helper.make_node("Identity", [name], [f"{name}_out"]) for name in names]
    kinds = {"value_int": TensorProto.INT64, "value_ints": TensorProto.INT64}
    model = build(
        nodes,
        [port("x", FLOAT, [1, 3, H, W]), port("listed", FLOAT, [1])],
        [port(f"{name}_out", kinds.get(name, FLOAT), None) for name in names],
        [numpy_helper.from_array(np.array([9.0], np.float32), "listed")],
    )
    model.graph.sparse_initializer.append(sparse)
    model.ir_version = 3
    helper.set_model_props(model, {"author": "us"})
    before = model.SerializeToString()
    described = manifest()
    result = canonical_model(model, described)
    assert model.SerializeToString() == before
    check(result, described)
    assert not result.graph.sparse_initializer
    assert [p.value for p in result.metadata_props] == ["us"]
    assert {n.op_type for n in result.graph.node} == {"Identity"}
    got = run(result, feed(described, picture()))
    want = {
        "listed": [9.0],
        "sparse": [[0, 3], [4, 0]],
        "value": [7.0],
        "value_float": 1.5,
        "value_floats": [1, 2],
        "value_int": 4,
        "value_ints": [4, 5],
        "sparse_value": [[0, 0], [0, 5]],
    }
    for name, value in want.items():
        np.testing.assert_array_equal(got[f"{name}_out"], value)


def test_only_outputs_that_are_read_and_can_be_carried_stay() -> None:
    nodes = [helper.make_node("Neg", ["x"], ["a"]), helper.make_node("Abs", ["x"], ["b"])]
    nodes.append(helper.make_node("SequenceConstruct", ["a", "b"], ["s"]))
    row = onnx.helper.make_tensor_sequence_value_info("s", FLOAT, None)
    model = build(nodes, [port("x", FLOAT, [1, 3, H, W])], [port("a", FLOAT, None), row, port("b", FLOAT, None)])
    assert [o.name for o in canonical_model(model, manifest()).graph.output] == ["a", "b"]
    read = manifest(postprocess={"kind": "classifier", "output": "b"}, labels=["only"])
    assert [o.name for o in canonical_model(model, read).graph.output] == ["b"]
    del model.graph.output[0], model.graph.output[1]
    with pytest.raises(ModelError, match="s: no tensor of numbers"):
        canonical_model(model, manifest())


def test_a_file_of_a_format_that_is_newer_than_the_runtime_runs() -> None:
    proto = mirror(FLOAT, [1, 3, H, W], 13)
    proto.ir_version = 99
    with pytest.raises(Exception, match="IR version"):
        run(proto, feed(manifest(), picture()))
    assert run(canonical_model(proto, manifest()), feed(manifest(), picture()))["y"].shape == (1, 3, H, W)


def test_a_version_newer_than_the_runtime_is_lowered_where_that_changes_nothing() -> None:
    for version, wanted in ((99, 26), (26, 26), (13, 13)):
        proto = mirror(FLOAT, [1, 3, H, W], version)
        result = canonical_model(proto, manifest())
        assert [(o.domain, o.version) for o in result.opset_import] == [("", wanted)]
        assert run(result, feed(manifest(), picture()))["y"].shape == (1, 3, H, W)
    new = mirror(FLOAT, [1, 3, H, W], 99)
    new.graph.node[0].op_type = "OfTomorrow"
    assert canonical_model(new, manifest()).opset_import[0].version == 99


def test_local_functions_are_inlined() -> None:
    function = helper.make_function(
        "own", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 13)]
    )
    model = build(
        [helper.make_node("Twice", ["x"], ["y"], domain="own")],
        [port("x", FLOAT, [1, 3, H, W])],
        [port("y", FLOAT, None)],
    )
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    result = canonical_model(model, manifest())
    assert [n.op_type for n in result.graph.node] == ["Add"]
    assert not result.functions


def test_onnx_own_operators_have_one_name_and_a_version() -> None:
    proto = mirror(HALF, [1, 3, H, W], 13)
    proto.opset_import[0].domain = proto.graph.node[0].domain = "ai.onnx"
    result = canonical_model(proto, manifest())
    assert [(o.domain, o.version) for o in result.opset_import] == [("", 13)]
    assert {n.domain for n in result.graph.node} == {""}
    assert run(result, feed(manifest(), picture()))["y"].dtype == np.float32
    foreign = build(
        [helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")],
        [port("x", FLOAT, [1, H, W, 3])],
        [port("y", FLOAT, None)],
    )
    foreign.opset_import[0].domain, foreign.opset_import[0].version = "com.microsoft", 1
    described = manifest(layout="NHWC")
    assert run(canonical_model(foreign, described), feed(described, picture()))["y"].shape == (1, H, W, 3)


def test_a_file_without_versions_is_of_the_first() -> None:
    proto = mirror(HALF, [1, 3, H, W], 13)
    del proto.opset_import[:]
    with pytest.raises(ModelError, match="opset 1"):
        canonical_model(proto, manifest())
