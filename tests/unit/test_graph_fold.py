"""Shape computations as exporters write them, folded; the runtime says that nothing changed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import plan_graphs
import pytest
from graph_models import (
    FLOAT,
    INT64,
    folded,
    model,
    node,
    ops,
    run_on_noise,
    value,
    weights,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper

from splitmesh.plan.graph.evaluate import FOLDED_OPS, evaluate
from splitmesh.plan.graph.fold import fold_constants
from splitmesh.plan.graph.load import load_model
from splitmesh.plan.graph.names import real_inputs
from splitmesh.plan.graph.view import GraphView

MODELS = ["coco_ssdlite_mobilenetv2_300", "face_detection_yunet_2023mar", "mobilenet_v2_imagenet"]
MODELS += ["mp_facemesh192", "squeezenet11_fp16", "yolox_nano"]


def flatten_by_shape(opset: int) -> ModelProto:
    """PyTorch's `x.view(x.size(0), -1, x.size(2) * x.size(3))`, an Identity and a Dropout behind it."""
    axes = {"axes": [0]} if opset < 13 else {}
    more = [] if opset < 13 else ["zero"]
    return model(
        [
            node("Relu", ["x"], "r"),
            node("Constant", [], "i0", value=value("", 0)),
            node("Constant", [], "i2", value=value("", 2)),
            node("Constant", [], "i3", value=value("", 3)),
            node("Shape", ["r"], "s"),
            node("Gather", ["s", "i0"], "n"),
            node("Gather", ["s", "i2"], "h"),
            node("Gather", ["s", "i3"], "w"),
            node("Mul", ["h", "w"], "hw"),
            node("Unsqueeze", ["n", *more], "n1", **axes),
            node("Unsqueeze", ["hw", *more], "hw1", **axes),
            node("Concat", ["n1", "minus", "hw1"], "to", axis=0),
            node("Reshape", ["r", "to"], "t"),
            node("Identity", ["t"], "u"),
            node("Dropout", ["u"], "v", "mask"),
            node("Neg", ["v"], "y"),
            node("Abs", ["r"], "unused"),
        ],
        [value("minus", [-1]), value("zero", [0]), value("heavy", np.zeros((10, 10)), np.float32)],
        opset=opset,
    )


@pytest.mark.parametrize("opset", [9, 11, 12, 13, 18])
def test_a_shape_chain_becomes_one_weight_and_by_passes_go(opset: int) -> None:
    result = folded(flatten_by_shape(opset))
    assert ops(result) == ["Relu", "Reshape", "Neg"]
    assert weights(result) == {"to": [1, -1, 96]}
    assert result.graph.node[2].input[0] == "t"
    assert [d.dim_value for d in result.graph.output[0].type.tensor_type.shape.dim] == [1, 3, 96]


def test_a_chain_that_hangs_on_a_shape_behind_another_chain_takes_further_rounds() -> None:
    """Halves the width again and again by arithmetic that inference does not follow."""
    nodes, now = [], "x"
    for step in range(5):
        nodes += [
            node("Shape", [now], f"s{step}"),
            node("Gather", [f"s{step}", "three"], f"w{step}"),
            node("Cast", [f"w{step}"], f"f{step}", to=FLOAT),
            node("Mul", [f"f{step}", "half"], f"m{step}"),
            node("Ceil", [f"m{step}"], f"c{step}"),
            node("Cast", [f"c{step}"], f"e{step}", to=INT64),
            node("Slice", [now, "zero", f"e{step}", "three1"], f"t{step}"),
        ]
        nodes[-2].output[0] = f"e{step}_"
        nodes.insert(-1, node("Reshape", [f"e{step}_", "one"], f"e{step}"))
        now = f"t{step}"
    nodes.append(node("Neg", [now], "y"))
    constants = [value("three", 3), value("three1", [3]), value("zero", [0]), value("one", [1])]
    result = folded(model(nodes, [*constants, value("half", 0.5, np.float32)]))
    assert ops(result) == ["Slice"] * 5 + ["Neg"]
    assert [weights(result)[f"e{step}"] for step in range(5)] == [[6], [3], [2], [1], [1]]


def test_an_observed_shape_lets_go_what_inference_can_not_know() -> None:
    """Behind an operator of another domain nothing is known."""
    nodes = [
        node("Gelu", ["x"], "g", domain="com.microsoft"),
        node("Shape", ["g"], "s"),
        node("Slice", ["s", "zero", "two"], "front"),
        node("Concat", ["front", "minus"], "to", axis=0),
        node("Reshape", ["g", "to"], "y"),
    ]

    def build() -> ModelProto:
        proto = model(nodes, [value("zero", [0]), value("two", [2]), value("minus", [-1])])
        proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        return proto

    assert len(folded(build()).graph.node) == 5
    result = folded(build(), {"g": (1, 3, 8, 12)})
    assert ops(result) == ["Gelu", "Reshape"]
    assert weights(result) == {"to": [1, 3, -1]}


@pytest.mark.parametrize(("start", "end"), [(0, None), (1, 3), (-2, None), (0, -1)])
def test_a_part_of_a_shape_and_a_size(start: int, end: int | None) -> None:
    ends = {"start": start, **({} if end is None else {"end": end})}
    nodes = [
        node("Shape", ["x"], "s", **ends),
        node("Size", ["x"], "n"),
        node("Mul", ["s", "n"], "m"),
        node("ReduceSum", ["m"], "k", keepdims=0),
        node("Cast", ["k"], "f", to=FLOAT),
        node("Mul", ["x", "f"], "y"),
    ]
    result = folded(model(nodes, opset=15))
    assert ops(result) == ["Mul"]
    assert weights(result) == {"f": 288 * sum((1, 3, 8, 12)[slice(start, end)])}


def test_dropout_that_trains_or_whose_mask_is_read_stays() -> None:
    training = model([node("Dropout", ["x", "rate", "yes"], "d"), node("Neg", ["d"], "y")])
    training.graph.initializer.extend([value("rate", 0.0, np.float32), value("yes", True, np.bool_)])
    assert ops(folded(training)) == ["Dropout", "Neg"]
    idle = model([node("Dropout", ["x", "rate", "no"], "d"), node("Neg", ["d"], "y")])
    idle.graph.initializer.extend([value("rate", 0.5, np.float32), value("no", False, np.bool_)])
    assert ops(folded(idle)) == ["Neg"]
    masked = model([node("Dropout", ["x"], "d", "m"), node("Cast", ["m"], "f", to=FLOAT), node("Add", "df", "y")])
    assert ops(folded(masked)) == ["Dropout", "Cast", "Add"]


def test_nodes_that_make_an_output_stay_whatever_is_known() -> None:
    nodes = [node("Identity", ["x"], "y"), node("Shape", ["x"], "s"), node("Add", ["s", "s"], "t")]
    proto = model(nodes, outputs=("y", "t"))
    proto.graph.output[1].type.tensor_type.elem_type = INT64
    result = folded(proto)
    assert ops(result) == ["Identity", "Add"]
    assert weights(result) == {"s": [1, 3, 8, 12]}


def test_large_values_random_ones_and_dequantised_weights_stay_computed() -> None:
    nodes = [
        node("ConstantOfShape", ["large"], "big"),
        node("Expand", ["one", "large"], "wide"),
        node("Range", ["from", "upto", "step"], "row"),
        node("Tile", ["one", "large"], "tiled"),
        node("DequantizeLinear", ["q", "scale", "zero"], "k"),
        node("Conv", ["x", "k"], "c"),
        *(node("ReduceMax", [name], f"{name}_top", keepdims=0) for name in ("big", "wide", "row", "tiled")),
        node("Sum", ["c", "big_top", "wide_top", "row_top", "tiled_top"], "y"),
    ]
    constants = [
        value("large", [70, 70]),
        value("one", [[1.5]], np.float32),
        *(value(name, n, np.float32) for name, n in (("from", 0), ("upto", 5000), ("step", 1))),
        value("q", np.arange(12).reshape(4, 3, 1, 1), np.uint8),
        value("scale", 0.1, np.float32),
        value("zero", 3, np.uint8),
    ]
    result = folded(model(nodes, constants))
    assert sorted(ops(result)) == sorted(n.op_type for n in nodes)


def test_weights_elsewhere_are_left_there_and_unused_ones_go() -> None:
    proto = model([node("Conv", ["x", "k"], "y")], [value("spare", [1.0], np.float32)])
    kernel = TensorProto(name="k", data_type=FLOAT, dims=[4, 3, 1, 1], data_location=TensorProto.EXTERNAL)
    kernel.external_data.add(key="location", value="weights.bin")
    proto.graph.initializer.append(kernel)
    proto.graph.input.append(helper.make_tensor_value_info("spare", FLOAT, [1]))
    result = fold_constants(proto)
    assert [t.name for t in result.graph.initializer] == ["k"]
    assert [i.name for i in result.graph.input] == ["x"]
    assert [d.dim_value for d in result.graph.output[0].type.tensor_type.shape.dim] == [1, 4, 8, 12]


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("Div", [[4, 1], [0, 2]], {}),
        ("Mod", [[4, 1], [0, 2]], {}),
        ("Cast", [[3e10]], {"to": INT64}),
        ("Reshape", [[1, 2, 3], [2, 2]], {}),
        ("Gather", [[1, 2], [7]], {}),
        ("Softmax", [[1.0, 2.0]], {}),
    ],
)
def test_what_is_not_sure_is_not_computed(op: str, inputs: list, attributes: dict) -> None:
    names = [f"i{index}" for index in range(len(inputs))]
    given_ = {name: np.array(content) for name, content in zip(names, inputs, strict=True)}
    assert evaluate(node(op, names, "o", **attributes), given_, [helper.make_opsetid("", 13)], 100) is None


def test_half_precision_is_cast_too() -> None:
    """Its range ends below that of the integers."""
    nodes = [node("Cast", ["k"], "i", to=INT64), node("Cast", ["i"], "f", to=FLOAT), node("Mul", ["x", "f"], "y")]
    proto = model(nodes, [value("k", [2.5], np.float16)])
    assert ops(folded(proto)) == ["Mul"]


def test_integers_are_divided_as_the_runtime_divides_them() -> None:
    nodes = [node("Div", ["a", "b"], "q"), node("Cast", ["q"], "f", to=FLOAT), node("Mul", ["x", "f"], "y")]
    for left, right in ((7, 2), (-7, 2), (7, -2), (-7, -2)):
        assert ops(folded(model(nodes, [value("a", left), value("b", right)]))) == ["Mul"]


@settings(max_examples=60)
@given(data=st.data())
def test_random_arithmetic_on_shapes_changes_nothing(data: st.DataObject) -> None:
    """Every value that is made is asked for through the picture, so that a wrong one would show."""
    names, nodes = ["s"], [node("Shape", ["x"], "s")]
    for index in range(data.draw(st.integers(1, 8))):
        op = data.draw(
            st.sampled_from(["Add", "Sub", "Mul", "Max", "Min", "Div", "Mod", "Neg", "Abs", "Where", "Cast"])
        )
        first, second = data.draw(st.sampled_from(names)), data.draw(st.sampled_from([*names, "k", "three"]))
        match op:
            case "Neg" | "Abs":
                nodes.append(node(op, [first], f"v{index}"))
            case "Where":
                nodes += [
                    node("Less", [first, second], f"b{index}"),
                    node("Where", [f"b{index}", first, "k"], f"v{index}"),
                ]
            case "Cast":
                nodes += [node("Cast", [first], f"f{index}", to=FLOAT), node("Sqrt", [f"f{index}"], f"r{index}")]
                nodes += [node("Abs", [first], f"a{index}"), node("Max", [f"a{index}", second], f"v{index}")]
            case "Div" | "Mod":
                nodes.append(node(op, [first, "three"], f"v{index}"))
            case _:
                nodes.append(node(op, [first, second], f"v{index}"))
        names.append(f"v{index}")
    nodes += [node("Concat", names, "all", axis=0), node("Cast", ["all"], "floats", to=FLOAT)]
    nodes += [node("ReduceMax", ["x"], "top", keepdims=0), node("Mul", ["floats", "top"], "y")]
    result = folded(model(nodes, [value("k", [5, -3, 2, 7]), value("three", [3, -2, 4, 5])]))
    assert ops(result) == ["ReduceMax", "Mul"]


@pytest.mark.parametrize("build", [plan_graphs.residual_classifier, plan_graphs.two_outputs])
def test_a_model_without_detours_is_left_as_it_is(build) -> None:
    proto = build()
    before = proto.SerializeToString(deterministic=True)
    assert fold_constants(proto).SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("name", MODELS)
def test_shared_models_stay_what_they_are(name: str, shared: Path) -> None:
    proto = load_model(shared / "models" / f"{name}.onnx")
    (port,) = (i for i in proto.graph.input if i.name in real_inputs(proto.graph))
    shape = [d.dim_value or 1 for d in port.type.tensor_type.shape.dim]
    half = port.type.tensor_type.elem_type == TensorProto.FLOAT16
    tensor = np.random.default_rng(1).standard_normal(shape).astype(np.float16 if half else np.float32)
    before, nodes = run_on_noise(proto, tensor), Counter(ops(proto))
    after = run_on_noise(fold_constants(proto), tensor)
    for output, wanted in before.items():
        np.testing.assert_array_equal(after[output], wanted)
    assert nodes - Counter(ops(proto)) <= Counter({"Dropout": 1})
    onnx.checker.check_model(proto, full_check=True)
    view = GraphView(proto)
    assert all(view.tensors[made].shape for live in view.live for made in live)


def test_every_folded_operator_has_a_reference() -> None:
    for op in FOLDED_OPS:
        assert onnx.defs.has(op)
        onnx.reference.ops.load_op("", op, onnx.defs.onnx_opset_version())
