"""Owns what is done to symbols before the lossless stage: prediction from a neighbour, two of them in one byte.

Prediction from above is undone a row of every channel at a time; prediction from the left has to add up symbol by
symbol, at a sixth of the speed, and is what is left where a channel has one row.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]

PACKED_BITS: Final = 4
"""Symbols of up to this many bits go two in a byte."""
_SAMPLE: Final = 4096


def predict_from_above(grid: U8, top: int) -> U8:
    """Symbols of `grid` (channels, rows, columns) minus the one above, modulo top + 1; a first row stays."""
    out = np.empty_like(grid)
    np.subtract(grid[:, 1:], grid[:, :-1], out=out[:, 1:])
    out[:, 0] = grid[:, 0]
    out &= np.uint8(top)
    return out


def undo_from_above(grid: U8, top: int) -> U8:
    """Inverse of `predict_from_above`, in place."""
    for row in range(1, grid.shape[1]):
        grid[:, row] += grid[:, row - 1]
    grid &= np.uint8(top)
    return grid


def predict_from_left(grid: U8, top: int) -> U8:
    """Symbols of `grid` (channels, rows, columns) minus their left neighbour, a row's first minus the one above it,
    modulo top + 1."""
    out = np.empty_like(grid)
    np.subtract(grid[:, :, 1:], grid[:, :, :-1], out=out[:, :, 1:])
    np.subtract(grid[:, 1:, 0], grid[:, :-1, 0], out=out[:, 1:, 0])
    out[:, 0, 0] = grid[:, 0, 0]
    out &= np.uint8(top)
    return out


def undo_from_left(grid: U8, top: int) -> U8:
    """Inverse of `predict_from_left`, in place."""
    np.cumsum(grid[:, :, 0], axis=1, dtype=np.uint8, out=grid[:, :, 0])
    np.cumsum(grid, axis=2, dtype=np.uint8, out=grid)
    grid &= np.uint8(top)
    return grid


def pack(symbols: U8) -> U8:
    """Two symbols (n,) of up to 4 bits per byte, the earlier one high; an odd last one over zeros."""
    if symbols.size % 2:
        symbols = np.append(symbols, np.uint8(0))
    pairs = symbols.view("<u2")
    out: U8 = ((pairs << 4) | (pairs >> 8)).astype(np.uint8)
    return out


def unpack(packed: U8, count: int) -> U8:
    """The `count` symbols in `packed`, inverse of `pack`."""
    pairs = packed.astype("<u2")
    high = pairs >> 4
    pairs &= 15
    pairs <<= 8
    pairs |= high
    return pairs.view(np.uint8)[:count]


def entropy(symbols: U8) -> float:
    """Order-0 entropy of `symbols` (channels, …) in bits per symbol, of a piece of each channel when many."""
    rows = symbols.reshape(symbols.shape[0], -1)
    width = max(1, _SAMPLE // rows.shape[0])
    start = max(0, (rows.shape[1] - width) // 2)
    sample = rows[:, start : start + width].reshape(-1)
    counts = np.bincount(sample)
    return float(np.log2(sample.size) - counts @ np.log2(np.maximum(counts, 1)) / sample.size)
