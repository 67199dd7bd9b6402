"""Small real models whose outputs are not the usual float tensors of one shape."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper
from plan_graphs import SIZE, Builder, classifier_manifest

from splitmesh.plan.manifest import Manifest


def _constant(b: Builder, name: str, value: object, dtype: type = np.int64) -> str:
    b.weights.append(numpy_helper.from_array(np.array(value, dtype), name))
    return name


def _trunk(b: Builder) -> str:
    """(1, 12, 6, 6)."""
    now, channels = "image", 3
    for index, width in enumerate((8, 12, 12)):
        now = b.add("Relu", [b.conv(now, f"c{index}", (width, channels), stride=2)], f"r{index}")
        channels = width
    return now


def _typed(model: ModelProto, name: str, kind: int, shape: list[int | str]) -> ModelProto:
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(name, kind, shape))
    return model


def suppressed() -> ModelProto:
    """A detector with suppression in the graph: `rows` (K, 6), K depends on the picture."""
    b = Builder(5)
    made = b.conv(_trunk(b), "raw", (5, 12), kernel=1)
    flat = b.add("Reshape", [made, _constant(b, "flat_shape", [1, 5, 36])], "flat")
    columns = b.add("Transpose", [flat], "columns", perm=[0, 2, 1])
    corner = b.add("Sigmoid", [b.add("Slice", [columns, _c(b, 0), _c(b, 2), _c(b, 2)], "corner_raw")], "corner")
    size = b.add("Sigmoid", [b.add("Slice", [columns, _c(b, 2), _c(b, 4), _c(b, 2)], "size_raw")], "size")
    boxes = b.add("Concat", [corner, b.add("Add", [corner, size], "far")], "boxes", axis=2)
    score = b.add("Sigmoid", [b.add("Slice", [flat, _c(b, 4), _c(b, 5), _c(b, 1)], "score_raw")], "scores")
    limits = [
        _constant(b, "most", [20]),
        _constant(b, "iou", [0.5], np.float32),
        _constant(b, "least", [0.45], np.float32),
    ]
    b.add("NonMaxSuppression", [boxes, score, *limits], "chosen")
    index = b.add("Gather", ["chosen", _constant(b, "column", 2)], "index", axis=1)
    some = b.add("Gather", [b.add("Squeeze", [boxes, _c(b, 0)], "plain"), index], "some")
    line = b.add("Reshape", [score, _constant(b, "all", [-1])], "line")
    sure = b.add("Unsqueeze", [b.add("Gather", [line, index], "sure"), _c(b, 1)], "sure_column")
    first = b.add("Mul", [sure, _constant(b, "zero", [0.0], np.float32)], "class_column")
    b.add("Concat", [some, sure, first], "rows", axis=1)
    return _typed(b.model({"rows": [1, 6]}), "rows", TensorProto.FLOAT, ["K", 6])


def _c(b: Builder, value: int) -> str:
    name = f"k{value}"
    return name if any(w.name == name for w in b.weights) else _constant(b, name, [value])


def suppressed_manifest() -> Manifest:
    return classifier_manifest(
        name="suppressed",
        postprocess={"kind": "detections", "output": "rows", "coordinates": "unit"},
        labels=["thing"],
    )


def label_map() -> ModelProto:
    """Class indices (1, 6, 6) int64."""
    b = Builder(6)
    made = b.conv(_trunk(b), "raw", (4, 12), kernel=1)
    b.add("ArgMax", [made], "labels", axis=1, keepdims=0)
    return _typed(b.model({"labels": [1, 6, 6]}), "labels", TensorProto.INT64, [1, 6, 6])


def label_map_manifest() -> Manifest:
    return classifier_manifest(
        name="label-map",
        postprocess={"kind": "segmentation", "output": "labels", "holds": "labels"},
        labels=["a", "b", "c", "d"],
    )


def layers() -> ModelProto:
    """Most of the work is matrix products on vectors (1, 64)."""
    b = Builder(7)
    now = b.add("Flatten", [b.add("MaxPool", [_trunk(b)], "small", kernel_shape=[2, 2], strides=[2, 2])], "flat")
    given = 108
    for index, made in enumerate((64, 640, 64, 640, 48)):
        weights = [b.weight(f"w{index}", given, made, gain=6.0), b.weight(f"b{index}", made)]
        now = b.add("Relu", [b.add("Gemm", [now, *weights], f"g{index}")], f"v{index}")
        given = made
    b.add("Gemm", [now, b.weight("wl", given, 10, gain=6.0), b.weight("bl", 10)], "logits")
    return b.model({"logits": [1, 10]})


def nan_on_white() -> ModelProto:
    """The residual path takes the logarithm of what is 0 or less on a white picture only."""
    b = Builder(8)
    now = b.add("GlobalAveragePool", [_trunk(b)], "pooled")
    mean = b.add("ReduceMean", ["image"], "mean", axes=[1, 2, 3], keepdims=1)
    room = b.add("Sub", [_constant(b, "limit", [0.99], np.float32), mean], "room")
    logits = b.conv(b.add("Add", [now, b.add("Log", [room], "log")], "sum"), "wide", (10, 12), kernel=1)
    b.add("Flatten", [logits], "logits")
    return b.model({"logits": [1, 10]})


def wide() -> ModelProto:
    """1024 pixels a side, and all its cuts send more than a message holds."""
    b = Builder(9)
    big = 1024
    now = b.add("Relu", [b.conv("image", "c0", (6, 3), kernel=1)], "r0")
    now = b.add("Relu", [b.conv(now, "c1", (6, 6), kernel=1)], "r1")
    b.add("Flatten", [b.conv(b.add("GlobalAveragePool", [now], "pooled"), "last", (10, 6), kernel=1)], "logits")
    model = b.model({"logits": [1, 10]})
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = big
    return model


def uncut() -> ModelProto:
    """One layer: there is nothing between input and output."""
    b = Builder(10)
    b.add("Conv", ["image", b.weight("w", 10, 3, SIZE, SIZE)], "logits")
    return b.model({"logits": [1, 10, 1, 1]})
