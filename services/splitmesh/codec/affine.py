"""Owns the affine quantiser: float32 rows ↔ uint8 symbols, one offset and step per row, in cache-sized blocks.

Works block by block, so that a value is read from memory once and what lies between (differences, scaled values)
never leaves the cache: on a tensor of a few megabytes that is worth two to three times the speed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]

LARGEST: Final = 1e30
"""Magnitude above which an element is refused, so that no step overflows float32."""
_SMALLEST_STEP: Final = 1e-30
_BLOCK: Final = 1 << 15
"""Elements in work at a time: 128 KB as float32, beside as much of the tensor itself."""


def side_information(low: F32, high: F32, top: int) -> tuple[bytes, F32, F32]:
    """(bytes, offset, step) for rows that span `low` … `high` (rows,), as the decoder will read them.

    float16 where its rounding moves no level of any row by more than a sixteenth of a step, else float32.
    """
    exact = (high.astype(np.float64) - low) / top
    exact[exact < _SMALLEST_STEP] = 0.0
    with np.errstate(over="ignore", under="ignore"):
        narrow_offset = low.astype(np.float16)
        narrow_step = exact.astype(np.float16)
    offset, step = narrow_offset.astype(np.float32), narrow_step.astype(np.float32)
    drift = np.abs(offset.astype(np.float64) - low) + np.abs(step.astype(np.float64) - exact) * top
    if bool((drift <= exact / 16).all()):
        return narrow_offset.tobytes() + narrow_step.tobytes(), offset, step
    step = exact.astype(np.float32)
    return low.astype("<f4").tobytes() + step.astype("<f4").tobytes(), low, step


def quantise(rows: F32, offset: F32, step: F32) -> U8:
    """The level nearest to each element of `rows` (rows, n), with offset and step (rows,) of `side_information`.

    Nothing is clipped: what side_information lets its rounding move, a sixteenth of a step, can't reach the half
    step that would carry an element below 0 or above the top level.
    """
    inverse = np.divide(1.0, step, out=np.zeros_like(step), where=step > 0)[:, None]
    symbols: U8 = np.empty(rows.shape, np.uint8)
    scratch = np.empty(min(rows.size, max(_BLOCK, rows.shape[1])), np.float32)
    for block in _blocks(rows.shape):
        part = rows[block]
        scaled = scratch[: part.size].reshape(part.shape)
        np.subtract(part, offset[block[0], None], out=scaled)
        np.multiply(scaled, inverse[block[0]], out=scaled)
        np.add(scaled, np.float32(0.5), out=scaled)
        symbols[block] = scaled
    return symbols


def dequantise(symbols: U8, offset: F32, step: F32) -> F32:
    """offset + step · symbol: (rows, n) float32 of `symbols` (rows, n) uint8, offset and step (rows,)."""
    values: F32 = np.empty(symbols.shape, np.float32)
    for block in _blocks(symbols.shape):
        part = values[block]
        part[...] = symbols[block]
        np.multiply(part, step[block[0], None], out=part)
        np.add(part, offset[block[0], None], out=part)
    return values


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    rows, columns = shape
    deep, wide = max(1, _BLOCK // columns), min(columns, _BLOCK)
    for row in range(0, rows, deep):
        for column in range(0, columns, wide):
            yield slice(row, row + deep), slice(column, column + wide)
