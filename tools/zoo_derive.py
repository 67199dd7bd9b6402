"""Owns models made from real ones, for forms that no package of the list ships. Fetches nothing, runs no plan.

Each recipe takes a float32 model with one (1 or N, 3, height, width) input and writes another ONNX file with the same
weights. All are deterministic.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

CALIBRATION_PICTURES = 8


def derive(recipe: str, source: Path, target: Path) -> None:
    """Write the model that `recipe` makes of `source`. Raises KeyError for a recipe that is not there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    RECIPES[recipe](source, target)


def quantised(source: Path, target: Path) -> None:
    """Static int8 with QuantizeLinear/DequantizeLinear pairs, as onnxruntime's quantiser writes it."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    name, shape = _picture_input(onnx.load(source))

    class Pictures(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest: Iterator[Mapping[str, Any]] = iter([{name: p} for p in _pictures(shape)])

        def get_next(self) -> Mapping[str, Any] | None:
            return next(self.rest, None)

    logging.getLogger().setLevel(logging.ERROR)  # it advises a step that a trained classifier does not need
    quantize_static(
        source,
        target,
        Pictures(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )


def external(source: Path, target: Path) -> None:
    """All weights of at least 1 kB in a file beside the model."""
    model = onnx.load(source)
    data = target.with_suffix(".weights")
    data.unlink(missing_ok=True)
    onnx.save_model(model, target, save_as_external_data=True, location=data.name, size_threshold=1024)


def half(source: Path, target: Path) -> None:
    """float16 from the input to the outputs, as converters write it."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=False), target)


def bytes_last(source: Path, target: Path) -> None:
    """uint8 (N, height, width, 3) at the input; cast, transpose and ImageNet's normalisation are in the graph."""
    model = onnx.load(source)
    name, (_, channels, height, width) = _picture_input(model)
    graph = model.graph
    scale = (1 / (255 * np.array([0.229, 0.224, 0.225]))).astype(np.float32)
    offset = (-np.array([0.485, 0.456, 0.406]) / np.array([0.229, 0.224, 0.225])).astype(np.float32)
    _add_constant(graph, "pixel_scale", scale)
    _add_constant(graph, "pixel_offset", offset)
    head = [
        helper.make_node("Cast", ["pixels"], ["pixels_f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pixels_f", "pixel_scale"], ["pixels_s"]),
        helper.make_node("Add", ["pixels_s", "pixel_offset"], ["pixels_n"]),
        helper.make_node("Transpose", ["pixels_n"], [name], perm=[0, 3, 1, 2]),
    ]
    _replace_input(
        graph, name, helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", height, width, channels])
    )
    _prepend(graph, head)
    _save(model, target)


def two_inputs(source: Path, target: Path) -> None:
    """A second input `scale_factor` (1, 2), by which the first output is multiplied, as PaddleDetection asks for."""
    model = onnx.load(source)
    graph = model.graph
    graph.input.append(helper.make_tensor_value_info("scale_factor", TensorProto.FLOAT, [1, 2]))
    old = _rename_output(graph, 0)
    graph.node.append(helper.make_node("ReduceMean", ["scale_factor"], ["scale_mean"], keepdims=0))
    graph.node.append(helper.make_node("Mul", [old, "scale_mean"], [graph.output[0].name]))
    _save(model, target)


def opened(source: Path, target: Path) -> None:
    """Batch, height and width of input and outputs open, as a program leaves them that feeds pictures of any size."""
    model = onnx.load(source)
    constants = {i.name for i in model.graph.initializer}
    del model.graph.value_info[:]
    for value in [v for v in model.graph.input if v.name not in constants] + list(model.graph.output):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if axis != 1:
                dim.dim_param = {0: "batch"}.get(axis, f"{value.name}_{axis}")
    _save(model, target)


def suppressed(source: Path, target: Path) -> None:
    """YOLOv8's output (1, 4 + C, N) with non-maximum suppression in the graph: (found, 7) of picture, x1 y1 x2 y2,
    class, score; `found` depends on the picture. An open size becomes 320."""
    model = _pinned(onnx.load(source), 320)
    graph = model.graph
    raw = graph.output[0].name
    for name, values in {
        "s_four": np.array([4]),
        "s_zero": np.array([0]),
        "s_far": np.array([1 << 30]),
        "s_one": np.array([1]),
        "s_boxes_max": np.array([100]),
        "c_class": np.array(1),
        "c_anchor": np.array(2),
    }.items():
        _add_constant(graph, name, values.astype(np.int64))
    for name, value in {"t_iou": 0.45, "t_score": 0.25, "c_half": 0.5}.items():
        _add_constant(graph, name, np.array([value], np.float32))
    _add_constant(graph, "pick_box", np.array([0, 2], np.int64))
    nodes = [
        helper.make_node("Slice", [raw, "s_zero", "s_four", "s_one"], ["xywh_t"]),
        helper.make_node("Slice", [raw, "s_four", "s_far", "s_one"], ["class_scores"]),
        helper.make_node("Transpose", ["xywh_t"], ["xywh"], perm=[0, 2, 1]),
        helper.make_node(
            "NonMaxSuppression",
            ["xywh", "class_scores", "s_boxes_max", "t_iou", "t_score"],
            ["chosen"],
            center_point_box=1,
        ),
        helper.make_node("Gather", ["chosen", "c_class"], ["chosen_class"], axis=1),
        helper.make_node("Gather", ["chosen", "c_anchor"], ["chosen_anchor"], axis=1),
        helper.make_node("Gather", ["chosen", "pick_box"], ["picture_and_anchor"], axis=1),
        helper.make_node("GatherND", ["xywh", "picture_and_anchor"], ["chosen_xywh"]),
        helper.make_node("GatherND", ["class_scores", "chosen"], ["chosen_score"]),
        helper.make_node("Split", ["chosen_xywh", "two_two"], ["centre", "size"], axis=1),
        helper.make_node("Mul", ["size", "c_half"], ["half_size"]),
        helper.make_node("Sub", ["centre", "half_size"], ["low"]),
        helper.make_node("Add", ["centre", "half_size"], ["high"]),
        helper.make_node("Cast", ["chosen_class"], ["class_f"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["class_f", "s_one"], ["class_column"]),
        helper.make_node("Unsqueeze", ["chosen_score", "s_one"], ["score_column"]),
        helper.make_node("Sub", ["class_column", "class_column"], ["picture_column"]),
        helper.make_node(
            "Concat", ["picture_column", "low", "high", "class_column", "score_column"], ["detections"], axis=1
        ),
    ]
    _add_constant(graph, "two_two", np.array([2, 2], np.int64))
    graph.node.extend(nodes)
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("detections", TensorProto.FLOAT, ["found", 7]))
    _save(model, target)


def branched(source: Path, target: Path) -> None:
    """An If in the middle that sees a tensor from outside, and a Loop of three rounds at the end."""
    model = onnx.load(source)
    graph = model.graph
    middle = next(n for n in graph.node[len(graph.node) // 2 :] if n.op_type in ("Relu", "Clip", "Add"))
    inner, outer = f"{middle.output[0]}_before", middle.output[0]
    middle.output[0] = inner
    _add_constant(graph, "b_none", np.zeros((), np.float32))
    _add_constant(graph, "b_half", np.full((), 0.5, np.float32))
    _add_constant(graph, "b_rounds", np.array(3, np.int64))
    _add_constant(graph, "b_go", np.array(True))
    choose = [
        helper.make_node("ReduceMean", [inner], ["b_mean"], keepdims=0),
        helper.make_node("Greater", ["b_mean", "b_none"], ["b_positive"]),
        helper.make_node(
            "If",
            ["b_positive"],
            [outer],
            then_branch=_body("b_then", [helper.make_node("Identity", [inner], ["b_as_is"])], "b_as_is"),
            else_branch=_body("b_else", [helper.make_node("Mul", [inner, "b_half"], ["b_less"])], "b_less"),
        ),
    ]
    at = list(graph.node).index(middle) + 1
    for offset, node in enumerate(choose):
        graph.node.insert(at + offset, node)
    old = _rename_output(graph, 0)
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["l_go"], ["l_go_out"]),
            helper.make_node("Mul", ["l_in", "b_half"], ["l_scaled"]),
            helper.make_node("Add", ["l_scaled", old], ["l_out"]),
        ],
        "l_body",
        [
            helper.make_tensor_value_info("l_round", TensorProto.INT64, []),
            helper.make_tensor_value_info("l_go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("l_in", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("l_go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("l_out", TensorProto.FLOAT, None),
        ],
    )
    graph.node.append(helper.make_node("Loop", ["b_rounds", "b_go", old], [graph.output[0].name], body=body))
    _save(model, target)


def _body(name: str, nodes: list[NodeProto], output: str) -> GraphProto:
    return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)])


def _picture_input(model: ModelProto) -> tuple[str, tuple[int, int, int, int]]:
    """Name and (1, C, H, W) of the only input that is no initializer."""
    constants = {i.name for i in model.graph.initializer}
    value = next(v for v in model.graph.input if v.name not in constants)
    _, channels, height, width = (d.dim_value for d in value.type.tensor_type.shape.dim)
    return value.name, (1, channels, height, width)


def _pictures(shape: tuple[int, ...]) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    """Smooth made-up pictures in about [-2, 2]: what an ImageNet-normalised input holds."""
    random = np.random.default_rng(0)
    *lead, height, width = shape
    coarse = random.normal(size=(CALIBRATION_PICTURES, *lead, -(-height // 16), -(-width // 16))).astype(np.float32)
    return [np.kron(c, np.ones((16, 16), np.float32))[..., :height, :width] for c in coarse]


def _pinned(model: ModelProto, side: int) -> ModelProto:
    """Its open dimensions made 1 (the first) and `side`; shapes that followed from them are forgotten."""
    constants = {i.name for i in model.graph.initializer}
    for value in model.graph.input:
        if value.name in constants:
            continue
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.dim_value:
                dim.dim_value = side if axis else 1
    del model.graph.value_info[:]
    return model


def _add_constant(graph: GraphProto, name: str, values: np.ndarray[Any, Any]) -> None:
    graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))


def _replace_input(graph: GraphProto, name: str, value: onnx.ValueInfoProto) -> None:
    kept = [v for v in graph.input if v.name != name]
    del graph.input[:]
    graph.input.extend([value, *kept])


def _prepend(graph: GraphProto, nodes: list[NodeProto]) -> None:
    for at, node in enumerate(nodes):
        graph.node.insert(at, node)


def _rename_output(graph: GraphProto, index: int) -> str:
    """Free the output's name for a node that comes after; returns what its values are called from now on."""
    name = graph.output[index].name
    inner = f"{name}_raw"
    for node in graph.node:
        node.output[:] = [inner if o == name else o for o in node.output]
        node.input[:] = [inner if i == name else i for i in node.input]
    return inner


def _save(model: ModelProto, target: Path) -> None:
    onnx.checker.check_model(model)
    onnx.save(model, target)


RECIPES: dict[str, Callable[[Path, Path], None]] = {
    "quantised": quantised,
    "external": external,
    "half": half,
    "bytes-last": bytes_last,
    "two-inputs": two_inputs,
    "opened": opened,
    "suppressed": suppressed,
    "branched": branched,
}
