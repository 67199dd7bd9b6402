"""Owns making what a model takes out of the picture's tensor, and constants of its other inputs. Guesses nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, TensorShapeProto, ValueInfoProto, helper, numpy_helper

from splitmesh.errors import ModelError
from splitmesh.plan.graph.emit import FLOATS, NUMBERS, Emitter
from splitmesh.plan.graph.names import real_inputs
from splitmesh.plan.manifest import ExtraInput, Manifest, is_fed, picture_layout

_LUMA = {"RGB": (0.299, 0.587, 0.114), "BGR": (0.114, 0.587, 0.299)}
"""ITU-R BT.601, as a JPEG's grey is made."""
Dimension = TensorShapeProto.Dimension
_BEFORE_THE_FIRST_CONV = frozenset(
    {"Cast", "Transpose", "Identity", "Add", "Sub", "Mul", "Div", "BatchNormalization"}
    | {"QuantizeLinear", "DequantizeLinear"}
)


@dataclass
class Feed:
    """What stands between the picture's tensor, called `manifest.input`, and the model."""

    sizes: dict[str, int]
    """Symbolic dimension → size."""
    instead: dict[str, str] = field(default_factory=dict)
    """The model's input → the tensor to read in its place."""
    batch: int = 1
    """What the model fixes; it is taken as 1."""


def feed(emitter: Emitter, model: ModelProto, manifest: Manifest, sizes: Mapping[str, int]) -> Feed:
    """Write all that the model's inputs need.

    The picture's input gets the picture in its own layout, channels (one: luma) and element type, without a batch
    axis if it has none; with layout "flat" the first elements of it. A batch that the model fixes is taken as 1.
    Other inputs become constants: those of manifest.extra; of what is left those that can take a picture get the same
    one, resized to the nearest pixel, and the rest 0. Axes that are still open are 1.
    Raises ModelError for a picture's input that the manifest does not fit, and for inputs that are no tensors.
    """
    graph = model.graph
    names = set(real_inputs(graph))
    inputs = {value.name: value for value in graph.input if value.name in names}
    if manifest.input not in inputs:
        raise ModelError(
            f"manifest {manifest.name!r} feeds {manifest.input}, the model takes {', '.join(inputs) or 'nothing'}",
            advice="set `input` to the name of the input for the picture",
        )
    extra = {each.name: each for each in manifest.extra}
    picture = inputs.pop(manifest.input)
    done = Feed(dict(sizes))
    shape = _picture_shape(picture, manifest, graph)
    _bind(picture, shape, done.sizes)
    if manifest.layout != "flat" and len(_dims(picture)) == len(shape):
        done.batch = max(1, _dims(picture)[0].dim_value)
    _join(done, manifest, emitter, picture, shape, manifest.layout)
    for name, value in inputs.items():
        given = extra.get(name)
        layout = _layout(value) if given is None else ""
        if layout:
            shape = _like_the_picture(value, layout, manifest, done.sizes)
            _bind(value, shape, done.sizes)
            _join(done, manifest, emitter, value, shape, layout)
        else:
            given = given or ExtraInput(name=name)
            shape = given.shape or tuple(_size(dim, done.sizes, 1) for dim in _dims(value))
            _bind(value, shape, done.sizes)
            emitter.constants.append(_constant(name, _dtype(value), given, shape))
    return done


def _join(
    done: Feed, manifest: Manifest, emitter: Emitter, value: ValueInfoProto, shape: tuple[int, ...], layout: str
) -> None:
    """Nodes from the picture's tensor (1, 3, H, W) to `value`, of `shape`."""
    base, now = value.name, manifest.input
    if layout == "flat":
        now = emitter.reshape(now, [-1], f"{base}_row")
        if math.prod(shape) < 3 * manifest.height * manifest.width:
            now = emitter.first(now, math.prod(shape), f"{base}_first")
        now = emitter.reshape(now, shape, f"{base}_shaped")
    else:
        channels, height, width = (shape[1], *shape[2:]) if layout == "NCHW" else (shape[3], *shape[1:3])
        for axis, have, want in ((2, manifest.height, height), (3, manifest.width, width)):
            if have != want:
                now = emitter.pick(
                    now, axis, [(2 * i + 1) * have // (2 * want) for i in range(want)], f"{base}_sized"
                )
        if channels == 1:
            luma = emitter.constant(np.array(_LUMA[manifest.color], np.float32).reshape(1, 3, 1, 1), f"{base}_luma")
            now = emitter.node("Conv", [now, luma], f"{base}_grey")
        if layout == "NHWC":
            now = emitter.node("Transpose", [now], f"{base}_nhwc", perm=[0, 2, 3, 1])
        if len(_dims(value)) == len(shape) - 1:
            now = emitter.reshape(now, shape[1:], f"{base}_single")
    now = emitter.cast(now, _dtype(value), f"{base}_native")
    if now != base:
        done.instead[base] = now


def _picture_shape(value: ValueInfoProto, manifest: Manifest, graph: GraphProto) -> tuple[int, ...]:
    """The shape of the picture's input with nothing left open. Raises ModelError if the manifest says otherwise."""
    height, width = manifest.height, manifest.width
    dims = _dims(value)
    if manifest.layout == "flat":
        want = manifest.shape or ()
    else:
        axis = 1 if manifest.layout == "NCHW" else 3
        given = dims[axis - 4 :] if len(dims) in (3, 4) else []
        channels = given[0].dim_value if given and not _is_open(given[0]) else _channels(value.name, graph)
        want = (1, channels, height, width) if axis == 1 else (1, height, width, channels)
    sizes = tuple(None if _is_open(dim) else dim.dim_value for dim in dims)
    fits = not dims or is_fed(sizes, want, manifest.layout)
    if not fits or (manifest.layout != "flat" and want[axis] not in (1, 3)):
        has = [dim.dim_param or (dim.dim_value if not _is_open(dim) else "?") for dim in dims]
        says = f"manifest {manifest.name!r} says input {value.name} is {manifest.layout} {list(want)}"
        raise ModelError(
            f"{says}, the model has {has}",
            advice="set `layout`, `width` and `height` (`shape` if flat) to those of the model",
        )
    return want


def _channels(name: str, graph: GraphProto) -> int:
    """1 or 3, as the first convolution takes them; 3 if none is found."""
    kernels = {t.name: tuple(t.dims) for t in graph.initializer if len(t.dims) == 4}
    same = {name}
    for node in graph.node:
        if not node.input or node.input[0] not in same:
            continue
        if node.op_type == "Conv" and node.input[1] in kernels:
            group = next((a.i for a in node.attribute if a.name == "group"), 1)
            channels = kernels[node.input[1]][1] * group
            return channels if channels in (1, 3) else 3
        if node.op_type in _BEFORE_THE_FIRST_CONV:
            same.add(node.output[0])
    return 3


def _layout(value: ValueInfoProto) -> str:
    """ "NCHW" or "NHWC" of an input that can take a picture, else ""."""
    if _dtype(value) == TensorProto.BOOL:
        return ""
    return picture_layout(tuple(None if _is_open(dim) else dim.dim_value for dim in _dims(value)))


def _like_the_picture(
    value: ValueInfoProto, layout: str, manifest: Manifest, sizes: Mapping[str, int]
) -> tuple[int, ...]:
    first = 2 if layout == "NCHW" else 1
    otherwise = {first: manifest.height, first + 1: manifest.width}
    return tuple(_size(dim, sizes, otherwise.get(axis, 1)) for axis, dim in enumerate(_dims(value)))


def _constant(name: str, dtype: int, given: ExtraInput, shape: tuple[int, ...]) -> TensorProto:
    count = math.prod(shape)
    values = np.atleast_1d(np.array(given.value, np.float64))
    if values.size not in (1, count) or dtype not in NUMBERS:
        raise ModelError(
            f"input {name} of shape {list(shape)} can't be made a constant of {values.size} numbers",
            advice=f"give value and shape of {name} under [[extra]]; only inputs of numbers can be fed",
        )
    full = np.broadcast_to(values, (count,)).reshape(shape)
    if dtype == TensorProto.BFLOAT16:
        return helper.make_tensor(name, dtype, shape, full.ravel().tolist())
    whole = full if dtype in FLOATS else np.rint(full)
    return numpy_helper.from_array(whole.astype(helper.tensor_dtype_to_np_dtype(dtype)), name)


def _bind(value: ValueInfoProto, shape: tuple[int, ...], sizes: dict[str, int]) -> None:
    """Note what the symbolic dimensions of `value` are, unless that is known."""
    dims = _dims(value)
    for dim, size in zip(dims, shape[-len(dims) :], strict=False):
        if dim.dim_param:
            sizes.setdefault(dim.dim_param, size)


def _dims(value: ValueInfoProto) -> Sequence[Dimension]:
    if value.type.WhichOneof("value") != "tensor_type":
        kind = value.type.WhichOneof("value") or "of no type"
        raise ModelError(f"input {value.name} is no tensor ({kind})", advice="export the model with tensor inputs")
    return value.type.tensor_type.shape.dim


def _dtype(value: ValueInfoProto) -> int:
    return value.type.tensor_type.elem_type


def _is_open(dim: Dimension) -> bool:
    """No size is given; old writers put 0 or -1 for that."""
    return dim.dim_value <= 0


def _size(dim: Dimension, sizes: Mapping[str, int], otherwise: int) -> int:
    return sizes.get(dim.dim_param, otherwise) if _is_open(dim) else dim.dim_value
