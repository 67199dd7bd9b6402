"""Owns torchvision's MobileNetV2 as an ONNX graph, from its weights alone. Batch norms are folded into convolutions.

Architecture: Sandler et al. 2018, table 2, width 1.0.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto

from splitmesh.errors import ModelError
from splitmesh.models.convert_graph import Array, GraphWriter, float_tensor

_EPSILON = 1e-5
_STEM, _HEAD, _CLASSES = 32, 1280, 1000
# expansion, output channels, repeats, first stride
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class _Builder:
    def __init__(self, state: Mapping[str, Array]) -> None:
        self.state = state
        self.graph = GraphWriter()
        self.graph.weight("relu6_min", np.zeros((), np.float32))
        self.graph.weight("relu6_max", np.full((), 6, np.float32))

    def tensor(self, name: str, shape: tuple[int, ...]) -> Array:
        values = self.state.get(name)
        if values is None:
            raise ModelError(f"MobileNetV2 weights lack {name!r}")
        if values.shape != shape:
            raise ModelError(f"MobileNetV2 weight {name!r} has shape {values.shape}, not {shape}")
        return values.astype(np.float64)

    def conv(
        self, value: str, name: str, at: tuple[str, str], shape: tuple[int, int, int, int], *, stride: int, relu: bool
    ) -> str:
        """Convolution `at[0]` with batch norm `at[1]` folded in float64, then ReLU6 if `relu`."""
        out, kernel = shape[0], shape[2]
        gamma, beta, mean, variance = (
            self.tensor(f"{at[1]}.{part}", (out,)) for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = gamma / np.sqrt(variance + _EPSILON)
        weight = self.tensor(f"{at[0]}.weight", shape) * factor[:, None, None, None]
        inputs = [
            value,
            self.graph.weight(f"{name}.weight", weight.astype(np.float32)),
            self.graph.weight(f"{name}.bias", (beta - mean * factor).astype(np.float32)),
        ]
        self.graph.node(
            "Conv",
            inputs,
            name,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
            group=out if shape[1] == 1 else 1,
        )
        return self.graph.node("Clip", [name, "relu6_min", "relu6_max"], f"{name}.relu6") if relu else name

    def block(self, value: str, index: int, channels: tuple[int, int], expansion: int, stride: int) -> str:
        """An inverted residual: expand 1×1, depthwise 3×3, project 1×1, and the shortcut where shapes agree."""
        entry, out = channels
        hidden, at, name = entry * expansion, f"features.{index}.conv", f"block{index}"
        current, step = value, 0
        if expansion != 1:
            shape = (hidden, entry, 1, 1)
            current = self.conv(current, f"{name}.expand", (f"{at}.0.0", f"{at}.0.1"), shape, stride=1, relu=True)
            step = 1
        at_depthwise, shape = (f"{at}.{step}.0", f"{at}.{step}.1"), (hidden, 1, 3, 3)
        current = self.conv(current, f"{name}.depthwise", at_depthwise, shape, stride=stride, relu=True)
        at_project, shape = (f"{at}.{step + 1}", f"{at}.{step + 2}"), (out, hidden, 1, 1)
        current = self.conv(current, f"{name}.project", at_project, shape, stride=1, relu=False)
        if stride == 1 and entry == out:
            current = self.graph.node("Add", [value, current], f"{name}.add")
        return current


def build_mobilenet_v2(state: Mapping[str, Array]) -> ModelProto:
    """ONNX model `input` (N, 3, 224, 224) float32 → `logits` (N, 1000) from torchvision's state dict.

    Raises ModelError that names the weight if one is missing or has another shape.
    """
    b = _Builder(state)
    shape = (_STEM, 3, 3, 3)
    current = b.conv("input", "stem", ("features.0.0", "features.0.1"), shape, stride=2, relu=True)
    channels, index = _STEM, 1
    for expansion, out, repeats, first_stride in _STAGES:
        for repeat in range(repeats):
            current = b.block(current, index, (channels, out), expansion, first_stride if repeat == 0 else 1)
            channels, index = out, index + 1
    shape = (_HEAD, channels, 1, 1)
    head = (f"features.{index}.0", f"features.{index}.1")
    current = b.conv(current, "head", head, shape, stride=1, relu=True)
    graph = b.graph
    graph.node("GlobalAveragePool", [current], "pool")
    graph.node("Flatten", ["pool"], "features", axis=1)
    weight = graph.weight("classifier.weight", b.tensor("classifier.1.weight", (_CLASSES, _HEAD)).astype(np.float32))
    bias = graph.weight("classifier.bias", b.tensor("classifier.1.bias", (_CLASSES,)).astype(np.float32))
    graph.node("Gemm", ["features", weight, bias], "logits", transB=1)
    return graph.model(
        "mobilenet-v2",
        [float_tensor("input", ("N", 3, 224, 224))],
        [float_tensor("logits", ("N", _CLASSES))],
    )
