"""Planes for the tests of the plane coder, by integer arithmetic alone: the same on any machine."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from splitmesh.codec.planes.coding import Coded
from splitmesh.codec.planes.model import PlaneExample

I16 = npt.NDArray[np.int16]


def numbers(seed: int) -> Iterator[int]:
    """0 … 2^24 − 1, evenly: a linear congruential generator's upper bits."""
    state = seed
    while True:
        state = (state * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) % (1 << 64)
        yield state >> 40


def planes(shape: tuple[int, int, int], seed: int, *, size: int = 3) -> I16:
    """Sparse, smooth and falling: every plane half the one before leans on it and on its upper neighbours."""
    count, height, width = shape
    draw = numbers(seed)
    out = np.zeros(shape, np.int16)
    for k in range(count):
        for y in range(height):
            for x in range(width):
                noise = sum(next(draw) % (2 * size + 1) - size for _ in range(3))
                above = int(out[k, y - 1, x]) if y else 0
                left = int(out[k, y, x - 1]) if x else 0
                before = int(out[k - 1, y, x]) if k else 0
                total = 2 * noise + above + left - 3 * before
                out[k, y, x] = (abs(total) * 2 // (5 + 2 * k)) * (1 if total > 0 else -1)
    return out


def scale_of(values: I16) -> npt.NDArray[np.uint16]:
    """(K,) mean magnitudes in 1/16."""
    sums = np.abs(values.astype(np.int64)).sum(axis=(1, 2))
    return np.asarray(16 * sums // (values.shape[1] * values.shape[2]), np.uint16)


SHAPES = ((6, 9, 8), (4, 1, 1), (3, 1, 17))
"""Of the tensors of an invented cut."""


def coded(seed: int, *, size: int = 3, context: bool = True) -> list[Coded]:
    """One frame of the invented cut; its second tensor has a scale for every element, its first a context."""
    tensors: list[Coded] = []
    for i, shape in enumerate(SHAPES):
        values = planes(shape, seed + i, size=size)
        scale = scale_of(values)
        dense = np.ascontiguousarray(np.broadcast_to(scale[:, None, None], shape))
        about = values // 2 if i == 0 and context else None
        tensors.append((values, dense if i == 1 else scale, about))
    return tensors


def examples(*, frames: int = 12) -> list[PlaneExample]:
    return [
        PlaneExample(values, scale, context, tensor)
        for frame in range(frames)
        for tensor, (values, scale, context) in enumerate(coded(1000 + 10 * frame, size=2 + frame % 3))
    ]
