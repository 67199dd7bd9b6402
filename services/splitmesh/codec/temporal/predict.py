"""Owns what a reference says of the next frame: values moved by blocks, and how large residuals will be.

In integers, the same at both ends. Searches for no motion: that is the encoder's alone (`search`).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from splitmesh.codec.compact.transform import TensorTable
from splitmesh.codec.temporal.state import Planes

I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U16 = npt.NDArray[np.uint16]

BLOCK: Final = 4
"""Height and width in cells of a block that moves as one."""
FAR: Final = 8
"""The largest movement along an axis, in quarters of a cell."""
_SMALLEST: Final = 2 * BLOCK


def moves(tensor: TensorTable) -> bool:
    """Whether blocks of `tensor` may move: its planes hold positions, and are large enough to have blocks."""
    return tensor.frequencies is None and min(tensor.height, tensor.width) >= _SMALLEST


def motion_shape(tensor: TensorTable) -> tuple[int, int, int]:
    """(2, rows, columns) of a tensor's movements: down and right, in quarters of a cell, one each for every block."""
    return 2, -(-tensor.height // BLOCK), -(-tensor.width // BLOCK)


def moved(values: I32, motion: I16) -> I32:
    """values (K, H, W) with every block taken from where it was: motion (2, rows, columns) int16 cells/4 before.

    Between cells linearly, rounded half up, past the border the border. Values within ±2^26 cannot overflow.
    """
    _, height, width = values.shape
    cells = motion.astype(np.int32).repeat(BLOCK, axis=1).repeat(BLOCK, axis=2)[:, :height, :width]
    y, x = np.nonzero(cells[0] | cells[1])
    top, below, row = _between(y, cells[0, y, x], height)
    left, right, column = _between(x, cells[1, y, x], width)
    top, below = top * width, below * width
    places = np.ascontiguousarray(values.reshape(len(values), -1).T)  # all components of a place are moved at once
    upper = _mixed(places.take(top + left, axis=0), places.take(top + right, axis=0), column)
    lower = _mixed(places.take(below + left, axis=0), places.take(below + right, axis=0), column)
    both = _mixed(upper, lower, row)
    both += np.int32(8)
    both >>= np.int32(4)
    places[y * width + x] = both
    return np.ascontiguousarray(places.T).reshape(values.shape)


def _between(at: I64, moved_by: I32, size: int) -> tuple[I32, I32, I32]:
    """The two cells, along an axis of `size` cells, that what is now `at` was between, and the second's quarters."""
    quarters = np.clip(at.astype(np.int32) * 4 - moved_by, 0, 4 * (size - 1))
    first = quarters >> 2
    return first, np.minimum(first + 1, size - 1), quarters & 3


def _mixed(first: I32, second: I32, quarters: I32) -> I32:
    """first · (4 − quarters) + second · quarters, of rows of components. Uses up both."""
    second -= first
    second *= quarters[:, None]
    first *= np.int32(4)
    second += first
    return second


def residual_scale(earlier: Planes, step: int, kept: int) -> U16:
    """(kept,) uint16 ≥ 1: expected magnitude of the residuals of the first components, in 1/16 of a step."""
    magnitude = (earlier.spread[:kept].astype(np.int64) * 16 + step // 2) // step
    return np.clip(magnitude, 1, np.iinfo(np.uint16).max).astype(np.uint16)
