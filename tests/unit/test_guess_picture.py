"""Guessing how a model is fed: which input is the picture, its form and range, and what the others get."""

from __future__ import annotations

import pytest
from guess_models import facts, skeleton
from onnx import TensorProto, helper

from splitmesh.errors import ModelError
from splitmesh.plan.guess.facts import read_facts
from splitmesh.plan.guess.feed import CENTRED, FEW, RAW, UNIT, Range
from splitmesh.plan.guess.model import draft_manifest, model_name
from splitmesh.plan.guess.picture import Trial, guess_picture, of_one_picture
from splitmesh.plan.manifest import ExtraInput

OUT = {"out": (1, 10)}


@pytest.mark.parametrize(
    ("shape", "layout", "channels", "first"),
    [
        ((1, 3, 480, 640), "NCHW", 3, Trial(480, 640)),
        (("N", 3, 320, 320), "NCHW", 3, Trial(320, 320)),
        ((1, 1, 28, 28), "NCHW", 1, Trial(28, 28)),
        ((1, 224, 192, 3), "NHWC", 3, Trial(224, 192)),
        ((None, 28, 28, 1), "NHWC", 1, Trial(28, 28)),
        (("N", 3, "H", "W"), "NCHW", 3, Trial(224, 224)),
        (("N", "H", "W", 3), "NHWC", 3, Trial(224, 224)),
        ((1, 3, 48, "W"), "NCHW", 3, Trial(48, 320)),
        ((1, 3, "H", 96), "NCHW", 3, Trial(96, 96)),
        ((3, 200, 300), "NCHW", 3, Trial(200, 300)),
        ((200, 300, 3), "NHWC", 3, Trial(200, 300)),
        ((3, "H", "W"), "NCHW", 3, Trial(224, 224)),
        (("H", "W", 3), "flat", 0, Trial(8, 8, (1, 16, 3))),
        ((1, 200, 300), "flat", 0, Trial(142, 141, (1, 200, 300))),
        ((4, 3, 64, 64), "flat", 0, Trial(128, 128, (4, 3, 64, 64))),
        ((1, 128), "flat", 0, Trial(8, 8, (1, 128))),
        ((1, 6, 64, 64), "flat", 0, Trial(92, 90, (1, 6, 64, 64))),
        ((1, 3, 4, 4), "flat", 0, Trial(8, 8, (1, 3, 4, 4))),
        ((16,), "flat", 0, Trial(8, 8, (16,))),
        ((), "flat", 0, Trial(8, 8, ())),
    ],
)
def test_layout_and_size(shape: tuple, layout: str, channels: int, first: Trial) -> None:
    known = facts({"x": shape}, OUT)
    guess = guess_picture(known)
    assert (guess.layout, guess.channels) == (layout, channels)
    assert guess.trials[0] == first
    assert draft_manifest(known, guess, first, name="m").output_names == ("out",)


def test_open_sizes_start_with_what_suits_the_outputs() -> None:
    shape = {"x": ("N", 3, "H", "W")}
    assert guess_picture(facts(shape, {"out": (1, "C", "N")})).trials[0] == Trial(640, 640)
    assert guess_picture(facts(shape, {"out": (1, "T", 6625)})).trials[0] == Trial(48, 320)
    said = facts(shape, {"out": (1, "C", "N")}, metadata={"imgsz": "[384, 512]"})
    assert guess_picture(said).trials[0] == Trial(384, 512)
    assert len(set(guess_picture(said).trials)) == len(guess_picture(said).trials) > 10


def test_open_channels_are_those_that_the_first_transposition_moves() -> None:
    known = facts({"x": ("N", "A", "B", "C")}, OUT, opening=[("Transpose", [0, 3, 1, 2])])
    assert guess_picture(known).layout == "NHWC"
    assert guess_picture(facts({"x": ("N", "A", "B", "C")}, OUT)).layout == "NCHW"


@pytest.mark.parametrize(
    ("opening", "dtype", "expected", "reason"),
    [
        ([], TensorProto.FLOAT, None, ""),
        ([("Div", 255.0)], TensorProto.FLOAT, RAW, "Div 255"),
        ([("Mul", 1 / 127.5), ("Sub", 1.0)], TensorProto.FLOAT, RAW, "Mul 0.007843"),
        (
            [("Cast", None), ("Transpose", [0, 3, 1, 2]), ("Sub", [123.7, 116.3, 103.5])],
            TensorProto.FLOAT,
            RAW,
            "Sub",
        ),
        ([("Sub", [0.485, 0.456, 0.406]), ("Div", [0.229, 0.224, 0.225])], TensorProto.FLOAT, UNIT, "Sub 0.485"),
        ([("Mul", 2.0), ("Sub", 1.0)], TensorProto.FLOAT, UNIT, "Mul 2"),
        ([("BatchNormalization", [120.0, 110.0, 100.0])], TensorProto.FLOAT, RAW, "around 110"),
        ([("BatchNormalization", [0.5, 0.4, 0.45])], TensorProto.FLOAT, UNIT, "around 0.45"),
        ([("Add", 1.0)], TensorProto.FLOAT, None, ""),
        ([], TensorProto.UINT8, RAW, "uint8"),
        ([], TensorProto.INT8, CENTRED, "int8"),
        ([("Div", 255.0)], TensorProto.FLOAT16, RAW, "Div 255"),
    ],
)
def test_the_range_that_the_graph_shows(opening: list, dtype: int, expected: Range | None, reason: str) -> None:
    guess = guess_picture(facts({"x": (1, 3, 64, 64)}, OUT, opening=opening, dtypes={"x": dtype}))
    assert guess.shown == expected
    assert reason in guess.why


def test_whole_numbers_that_are_no_picture_stay_small() -> None:
    assert guess_picture(facts({"ids": (1, 16)}, OUT, dtypes={"ids": TensorProto.INT64})).shown == FEW


def test_the_picture_is_found_among_other_inputs_and_these_get_constants() -> None:
    known = facts(
        {
            "im_shape": ("N", 2),
            "origImSize": (1, 3),
            "scale_factor": ("N", 2),
            "pixel_mask": ("N", "H", "W"),
            "iou_threshold": (1,),
            "conf_threshold": (),
            "max_boxes": (1,),
            "state": (2, "N", 64),
            "image": ("N", 3, "H", "W"),
            "small": (1, 3, 8, 8),
        },
        OUT,
        dtypes={"pixel_mask": TensorProto.INT64},
    )
    guess = guess_picture(known)
    assert guess.port.name == "image"
    trial = Trial(320, 640)
    assert [port.name for port in guess.also] == ["small"]
    assert guess.extra(trial) == (
        ExtraInput(name="im_shape", value=(320, 640), shape=(1, 2)),
        ExtraInput(name="origImSize", value=(320, 640, 1)),
        ExtraInput(name="scale_factor", value=1, shape=(1, 2)),
        ExtraInput(name="pixel_mask", value=1, shape=(1, 320, 640)),
        ExtraInput(name="iou_threshold", value=0.45),
        ExtraInput(name="conf_threshold", value=0.25),
        ExtraInput(name="max_boxes", value=100),
        ExtraInput(name="state", value=0, shape=(2, 1, 64)),
    )


def test_weights_that_are_listed_as_inputs_are_none() -> None:
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Conv", ["x", "w"], ["y"])],
            "g",
            [
                helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 3, 1, 1]),
                helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, None, None, 8]),
            ],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [helper.make_tensor("w", TensorProto.FLOAT, [4, 3, 1, 1], [0.0] * 12)],
        )
    )
    known = read_facts(model)
    assert [port.name for port in known.inputs] == ["x"]
    assert (guess_picture(known).layout, guess_picture(known).channels) == ("NCHW", 3)


def test_whole_numbers_with_their_channels_last_are_a_picture_also_in_open_sizes() -> None:
    known = facts({"x": ("H", "W", 3)}, OUT, dtypes={"x": TensorProto.UINT8})
    assert (guess_picture(known).layout, guess_picture(known).channels) == ("NHWC", 3)


def test_an_input_of_no_known_rank_is_what_the_first_convolution_takes() -> None:
    model = skeleton({"x": (1,)}, OUT)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    assert guess_picture(read_facts(model)).layout == "NCHW"
    del model.graph.node[0]
    assert guess_picture(read_facts(model)).layout == "flat"


@pytest.mark.parametrize("batch", [4, "N", 1])
def test_a_batch_that_the_file_fixes_may_be_taken_as_one(batch: int | str) -> None:
    known = facts({"x": (batch, 3, 64, 64)}, OUT)
    alone = of_one_picture(known)
    assert (alone is None) == (batch != 4)
    if alone is not None:
        assert guess_picture(alone).trials == (Trial(64, 64),)


def test_outputs_that_are_no_numbers_are_left_out() -> None:
    model = skeleton({"x": (1, 3, 64, 64)}, OUT | {"text": (1,)}, dtypes={"text": TensorProto.STRING})
    model.graph.output.append(helper.make_tensor_sequence_value_info("list", TensorProto.FLOAT, None))
    known = read_facts(model)
    assert [port.name for port in known.outputs] == ["out"] and known.left_out == ("text", "list")
    del model.graph.output[0]
    with pytest.raises(ModelError, match="gives text, list: no tensor of numbers"):
        read_facts(model)


def test_what_a_function_of_the_files_own_does_is_seen() -> None:
    nodes = [helper.make_node("Div", ["a", "n"], ["b"]), helper.make_node("Conv", ["b", "k"], ["c"])]
    opset = helper.make_opsetid("", 13)
    function = helper.make_function("own", "Start", ["a", "n", "k"], ["c"], nodes, [opset])
    graph = helper.make_graph(
        [helper.make_node("Start", ["x", "scale", "kernel"], ["y"], domain="own")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, None, None, None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            helper.make_tensor("scale", TensorProto.FLOAT, [], [255.0]),
            helper.make_tensor("kernel", TensorProto.FLOAT, [2, 1, 1, 1], [1.0, 2.0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[opset, helper.make_opsetid("own", 1)], functions=[function])
    guess = guess_picture(read_facts(model))
    assert guess.channels == 1 and guess.shown is RAW


@pytest.mark.parametrize(
    ("inputs", "dtype", "says"),
    [({}, TensorProto.FLOAT, "no input"), ({"x": (1,)}, TensorProto.STRING, "'x' of the model takes string, not a")],
)
def test_what_can_take_no_numbers_is_refused(inputs: dict, dtype: int, says: str) -> None:
    model = helper.make_model(
        helper.make_graph(
            [],
            "g",
            [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        )
    )
    with pytest.raises(ModelError, match=says):
        read_facts(model)


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("YOLOv8n_best (2)", "yolov8n-best-2"),
        ("own", "own"),
        ("__", "model"),
        ("x" * 47 + "-y", "x" * 47),
        ("modèle", "mod-le"),
    ],
)
def test_names_follow_from_the_file(stem: str, name: str) -> None:
    assert model_name(stem) == name
