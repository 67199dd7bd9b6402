"""Owns planes of small integers ↔ bytes: checks what it is given, hands it to the kernel. Fits nothing.

The coder: planes in order, elements row by row. A magnitude is a ladder of yes/no questions (zero? one? two? …), a
sign one more; the answer's probability is a mix, in the logistic domain, of what the calibrated statistics of several
contexts say (neighbours, earlier planes around the same place, the component, the context's plane, the expected
scale; Mahoney, "Adaptive Weighing of Context Models for Lossless Data Compression", 2005), and is coded by a binary
arithmetic coder. All integer arithmetic: the same bytes on any machine.

What was tried, on the default cut's features (64 planes of 19 × 19; steps of 1.3, 2, 3 and 4.6), bytes of photographs
against each plane's own order-0 entropy, 5995 + 4278 + 2793 + 1506: contexts of neighbours and of what earlier planes
hold −10 %; with values predicted linearly from neighbours across planes −13.5 %, with sizes predicted too −14 %; one
context of both predictions, nothing mixed −12.6 %; five inputs as here −13.7 %; two sets of mixing weights a further
0.1 %; statistics that do not adapt to the payload 4 % more. Differences to a reference frame: a third less than their
entropy. Deciding what a bit is worth: −6 % at equal squared error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from splitmesh.codec.planes.kernel import KERNEL, Kernel
from splitmesh.codec.planes.model import PlaneModel
from splitmesh.errors import CodecError

I16 = npt.NDArray[np.int16]
U16 = npt.NDArray[np.uint16]
I32 = npt.NDArray[np.int32]
Coded = tuple[I16, U16, I16 | None]
Shape = Sequence[int]

MOST_ELEMENTS: Final = 1 << 22
MOST_PLANES: Final = 4096


def encode_planes(tensors: Sequence[Coded], *, model: PlaneModel, kernel: Kernel = KERNEL) -> bytes:
    """Code tensors into one blob.

    Each is (planes int16 (K, H, W), scale uint16 (K,) or (K, H, W), context int16 (K, H, W) or None): the integers,
    their expected magnitude in 1/16, and what both ends know of each element beforehand (0: nothing). Their order is
    that of the model's tensors. Raises CodecError for other shapes or dtypes.
    """
    shapes = [planes.shape for planes, _, _ in tensors]
    if any(planes.dtype != np.int16 for planes, _, _ in tensors):
        raise CodecError(f"planes are {[str(planes.dtype) for planes, _, _ in tensors]}, not int16")
    scales, contexts = [scale for _, scale, _ in tensors], [context for _, _, context in tensors]
    layout = layout_of(shapes, model, scales, contexts)
    values, state = joined([planes for planes, _, _ in tensors]), model.state.copy()
    return kernel.encode(state, model.slots, model.taps, layout, values, joined(scales), joined(contexts))


def decode_planes(
    data: bytes | bytearray | memoryview,
    shapes: Sequence[Shape],
    *,
    model: PlaneModel,
    scales: Sequence[U16],
    contexts: Sequence[I16 | None] | None = None,
    kernel: Kernel = KERNEL,
) -> list[I16]:
    """The planes int16 (K, H, W) of `shapes` that `encode_planes` coded with the same model, scales and contexts.

    Raises CodecError when `data` is not what the encoder writes for any planes: cut short, longer, or altered in a
    way that shows. Takes time and memory bounded by `shapes`, whatever the data.
    """
    contexts = contexts if contexts is not None else [None] * len(shapes)
    layout = layout_of(shapes, model, scales, contexts)
    values = np.zeros(sum(math.prod(shape) for shape in shapes), np.int16)
    try:
        kernel.decode(
            model.state.copy(), model.slots, model.taps, layout, values, joined(scales), joined(contexts), bytes(data)
        )
    except ValueError as exc:
        raise CodecError(f"{len(data)} bytes of coded planes are malformed") from exc
    return _apart(values, shapes)


def _apart(values: I16, shapes: Sequence[Shape]) -> list[I16]:
    ends = [0, *accumulate(math.prod(shape) for shape in shapes)]
    return [values[start:end].reshape(shape) for (start, end), shape in zip(pairwise(ends), shapes, strict=True)]


def layout_of(
    shapes: Sequence[Shape],
    model: PlaneModel,
    scales: Sequence[U16],
    contexts: Sequence[I16 | None],
    *,
    first: int = 0,
) -> I32:
    """(tensors, 6) int32: planes, height, width, first slot, a scale per element?, a context? `first`: the model's
    tensor that the first one is."""
    if not len(shapes) == len(scales) == len(contexts) or not first + len(shapes) <= len(model.planes):
        raise CodecError(
            f"{len(shapes)} tensors, {len(scales)} scales, {len(contexts)} contexts do not fit the model"
        )
    rows, total = [], 0
    for i, (shape, scale, context) in enumerate(zip(shapes, scales, contexts, strict=True)):
        if len(shape) != 3 or min(shape) < 1 or shape[0] > MOST_PLANES:
            raise CodecError(f"planes have shape {tuple(shape)}, not (K, H, W) with K ≤ {MOST_PLANES}")
        total += math.prod(shape)
        if total > MOST_ELEMENTS:
            raise CodecError(f"{total} elements exceed {MOST_ELEMENTS}")
        if scale.dtype != np.uint16 or scale.shape not in ((shape[0],), tuple(shape)):
            raise CodecError(f"scale is {scale.dtype} {scale.shape}, not uint16 ({shape[0]},) or {tuple(shape)}")
        if context is not None and (context.dtype != np.int16 or context.shape != tuple(shape)):
            raise CodecError(f"context is {context.dtype} {context.shape}, not int16 {tuple(shape)}")
        rows.append((*shape, sum(model.planes[: first + i]), scale.ndim == 3, context is not None))
    return np.array(rows, np.int32).reshape(-1, 6)


def joined(arrays: Sequence[npt.NDArray[Any] | None]) -> npt.NDArray[Any]:
    """All elements of the arrays that there are, one after the other."""
    present = [array.reshape(-1) for array in arrays if array is not None]
    return np.concatenate(present) if present else np.empty(0, np.int16)
