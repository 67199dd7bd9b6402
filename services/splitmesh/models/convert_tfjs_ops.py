"""Owns the meaning of each TensorFlow operator in ONNX terms, and what folds into a convolution."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from splitmesh.models.convert_graph import Array
from splitmesh.models.convert_tfjs_emit import Emitter, HeldConv, HeldSum, Operator, Tensor, Value

Attributes = Mapping[str, Any]


def _constant(value: Value) -> Array:
    if isinstance(value, Tensor):
        raise ValueError(f"operand {value.node!r} must be a constant")
    return value


def _tensor(value: Value) -> Tensor:
    if not isinstance(value, Tensor):
        raise ValueError("an operand that must depend on the input is a constant")
    return value


def _text(attributes: Attributes, key: str, default: str) -> str:
    if key not in attributes:
        return default
    raw = attributes[key]["s"]
    return (bytes(raw) if isinstance(raw, list) else base64.b64decode(raw)).decode()


def _integers(attributes: Attributes, key: str, default: Sequence[int] = ()) -> list[int]:
    if key not in attributes:
        return list(default)
    return [int(i) for i in attributes[key]["list"].get("i", ())]


def _conv(e: Emitter, node: str, inputs: Sequence[Value], attributes: Attributes, *, depthwise: bool) -> Value:
    source, kernel = _tensor(inputs[0]), _constant(inputs[1]).astype(np.float64)
    if _text(attributes, "data_format", "NHWC") != "NHWC":
        raise ValueError("only data_format NHWC is converted")
    strides = _integers(attributes, "strides")[1:3]
    dilations = _integers(attributes, "dilations", (1, 1, 1, 1))[1:3]
    window = list(kernel.shape[:2])
    padding = _text(attributes, "padding", "")
    if padding not in ("SAME", "VALID"):
        raise ValueError(f"padding {padding!r} is not converted")
    begins, ends, sizes = [], [], []
    for size, k, s, d in zip(source.shape[1:3], window, strides, dilations, strict=True):
        reach = (k - 1) * d + 1
        out = -(-size // s) if padding == "SAME" else (size - reach) // s + 1
        total = max((out - 1) * s + reach - size, 0) if padding == "SAME" else 0
        begins.append(total // 2)
        ends.append(total - total // 2)
        sizes.append(out)
    channels = source.shape[3]
    # HWIO → OIHW; depthwise kernels are (h, w, channel, multiplier).
    weight = kernel.transpose(2, 3, 0, 1).reshape(-1, 1, *window) if depthwise else kernel.transpose(3, 2, 0, 1)
    if weight.shape[1] != (1 if depthwise else channels):
        raise ValueError(f"kernel {kernel.shape} does not fit an input of {channels} channels")
    written = {
        "kernel_shape": window,
        "strides": strides,
        "dilations": dilations,
        "pads": begins + ends,
        "group": channels if depthwise else 1,
    }
    held = HeldConv(e.channels_first(source), np.ascontiguousarray(weight), np.zeros(len(weight)), written)
    return e.hold(node, (source.shape[0], *sizes, len(weight)), held)


def _conv2d(e: Emitter, node: str, inputs: Sequence[Value], attributes: Attributes) -> Value:
    return _conv(e, node, inputs, attributes, depthwise=False)


def _depthwise(e: Emitter, node: str, inputs: Sequence[Value], attributes: Attributes) -> Value:
    return _conv(e, node, inputs, attributes, depthwise=True)


def _mul(e: Emitter, node: str, inputs: Sequence[Value], _: Attributes) -> Value:
    value, factor = _pair(inputs)
    channels = _per_channel(factor, value)
    if isinstance(value.held, HeldConv) and channels is not None and e.sole_reader(value):
        return e.hold(node, value.shape, value.held.scaled(channels))
    return _with_constant(e, "Mul", node, value, factor)


def _add(e: Emitter, node: str, inputs: Sequence[Value], _: Attributes) -> Value:
    if all(isinstance(i, Tensor) for i in inputs):
        terms = tuple(_tensor(i) for i in inputs)
        if len(terms) != 2 or terms[0].shape != terms[1].shape:
            raise ValueError("only sums of two tensors of one shape are converted")
        return e.hold(node, terms[0].shape, HeldSum(terms))
    value, offset = _pair(inputs)
    channels = _per_channel(offset, value)
    if channels is not None and e.sole_reader(value) and _shift(e, value, channels):
        value.node = node
        return value
    return _with_constant(e, "Add", node, value, offset)


def _shift(e: Emitter, value: Tensor, channels: Array) -> bool:
    """Add per-channel constants to a held convolution, or to a convolution that only a held sum reads."""
    held = value.held
    if isinstance(held, HeldConv):
        value.held = held.shifted(channels)
        return True
    if isinstance(held, HeldSum):
        return any(isinstance(t.held, HeldConv) and e.sole_reader(t) and _shift(e, t, channels) for t in held.terms)
    return False


def _batch_norm(e: Emitter, node: str, inputs: Sequence[Value], attributes: Attributes) -> Value:
    value = _tensor(inputs[0])
    gamma, beta, mean, variance = (_constant(i).astype(np.float64) for i in inputs[1:5])
    if attributes.get("is_training", {}).get("b", True):
        raise ValueError("a batch norm in training mode can't be converted")
    epsilon = float(attributes["epsilon"]["f"])
    factor = gamma / np.sqrt(variance + epsilon)
    offset = beta - mean * factor
    if isinstance(value.held, HeldConv) and e.sole_reader(value):
        return e.hold(node, value.shape, value.held.scaled(factor).shifted(offset))
    raise ValueError("a batch norm that does not follow a convolution of its own is not converted")


def _relu(e: Emitter, node: str, inputs: Sequence[Value], _: Attributes) -> Value:
    value = _tensor(inputs[0])
    return e.emit("Relu", node, [e.any_order(value)], value, value.shape)


def _sigmoid(e: Emitter, node: str, inputs: Sequence[Value], _: Attributes) -> Value:
    value = _tensor(inputs[0])
    return e.emit("Sigmoid", node, [e.any_order(value)], value, value.shape)


def _relu6(e: Emitter, node: str, inputs: Sequence[Value], _: Attributes) -> Value:
    value = _tensor(inputs[0])
    low = e.graph.weight("relu6_min", np.zeros((), np.float32))
    high = e.graph.weight("relu6_max", np.full((), 6, np.float32))
    return e.emit("Clip", node, [e.any_order(value), low, high], value, value.shape)


def _identity(_e: Emitter, _node: str, inputs: Sequence[Value], _: Attributes) -> Value:
    return inputs[0]


def _shape(_e: Emitter, _node: str, inputs: Sequence[Value], _: Attributes) -> Value:
    return np.array(inputs[0].shape, np.int32)


def _strided_slice(_e: Emitter, _node: str, inputs: Sequence[Value], attributes: Attributes) -> Value:
    values, begin, end, step = (_constant(i) for i in inputs)
    masks = {k: int(attributes.get(k, {}).get("i", 0)) for k in attributes if k.endswith("_mask")}
    if masks.get("ellipsis_mask") or masks.get("new_axis_mask") or values.ndim != 1 or len(begin) != 1:
        raise ValueError("only plain slices of vectors are converted")
    if masks.get("shrink_axis_mask"):
        return np.array(values[int(begin[0])])
    first = None if masks.get("begin_mask") else int(begin[0])
    last = None if masks.get("end_mask") else int(end[0])
    return values[first : last : int(step[0])]


def _pack(_e: Emitter, _node: str, inputs: Sequence[Value], attributes: Attributes) -> Value:
    return np.stack([_constant(i) for i in inputs], axis=int(attributes.get("axis", {}).get("i", 0)))


def _reshape(e: Emitter, node: str, inputs: Sequence[Value], _: Attributes) -> Value:
    target = [int(n) for n in _constant(inputs[1])]
    value = inputs[0]
    if not isinstance(value, Tensor):
        return value.reshape(target)
    known = -math.prod(target) if -1 in target else math.prod(target)
    shape = tuple(math.prod(value.shape) // known if n == -1 else n for n in target)
    if math.prod(shape) != math.prod(value.shape):
        raise ValueError(f"{value.shape} can't be reshaped to {target}")
    return _reshaped(e, node, value, shape)


def _squeeze(e: Emitter, node: str, inputs: Sequence[Value], attributes: Attributes) -> Value:
    value = _tensor(inputs[0])
    axes = {i % len(value.shape) for i in _integers(attributes, "squeeze_dims")}
    axes = axes or {i for i, n in enumerate(value.shape) if n == 1}
    if any(value.shape[i] != 1 for i in axes):
        raise ValueError(f"axes {sorted(axes)} of {value.shape} are not all 1")
    return _reshaped(e, node, value, tuple(n for i, n in enumerate(value.shape) if i not in axes))


def _concat(e: Emitter, node: str, inputs: Sequence[Value], _: Attributes) -> Value:
    tensors = [_tensor(i) for i in inputs[:-1]]
    rank = len(tensors[0].shape)
    axis = int(_constant(inputs[-1])) % rank
    shape = list(tensors[0].shape)
    shape[axis] = sum(t.shape[axis] for t in tensors)
    names = e.common_order(tensors)
    onnx_axis = (0, 2, 3, 1)[axis] if tensors[0].first and rank == 4 else axis
    name = e.graph.node("Concat", names, e.name(node, rank), axis=onnx_axis)
    return e.placed(node, tuple(shape), name, tensors[0])


def _reshaped(e: Emitter, node: str, value: Tensor, shape: tuple[int, ...]) -> Tensor:
    source = e.tensorflow_order(value)
    target = e.graph.weight("shape_" + "x".join(map(str, shape)), np.array(shape, np.int64))
    return e.emit("Reshape", node, [source, target], None, shape)


def _pair(inputs: Sequence[Value]) -> tuple[Tensor, Array]:
    a, b = inputs
    return (a, _constant(b)) if isinstance(a, Tensor) else (_tensor(b), a)


def _per_channel(values: Array, of: Tensor) -> Array | None:
    """The constants as (channels,) float64 if they differ along the last axis of `of` at most, else None."""
    channels = of.shape[-1]
    if values.size == 1 or (values.size == channels and values.shape[-1] == channels):
        return np.broadcast_to(values.astype(np.float64).ravel(), (channels,))
    return None


def _with_constant(e: Emitter, op: str, node: str, value: Tensor, values: Array) -> Tensor:
    name = e.any_order(value)
    operand = values.astype(np.float32)
    if value.first and len(value.shape) == 4 and values.ndim:
        operand = operand.reshape((1,) * (4 - values.ndim) + values.shape).transpose(0, 3, 1, 2)
    written = e.graph.weight(f"{e.name(node)}.constant", np.ascontiguousarray(operand))
    return e.emit(op, node, [name, written], value, value.shape)


OPERATORS: dict[str, Operator] = {
    "Add": _add,
    "AddN": _add,
    "AddV2": _add,
    "BiasAdd": _add,
    "ConcatV2": _concat,
    "Conv2D": _conv2d,
    "DepthwiseConv2dNative": _depthwise,
    "FusedBatchNorm": _batch_norm,
    "FusedBatchNormV2": _batch_norm,
    "FusedBatchNormV3": _batch_norm,
    "Identity": _identity,
    "Mul": _mul,
    "Pack": _pack,
    "Relu": _relu,
    "Relu6": _relu6,
    "Reshape": _reshape,
    "Shape": _shape,
    "Sigmoid": _sigmoid,
    "Squeeze": _squeeze,
    "StridedSlice": _strided_slice,
}
