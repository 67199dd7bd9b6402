"""Owns the encoder's search for where blocks have moved from. The decoder is told, it never searches."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from splitmesh.codec.compact.transform import TensorTable
from splitmesh.codec.temporal.predict import BLOCK, FAR, motion_shape

F32 = npt.NDArray[np.float32]
I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

_WATCHED: Final = 8
"""Components, the largest first, that are compared; all of them found movements hardly better."""
_STILL: Final = 0.25
"""A block whose watched elements differ by less than this many steps on average has not moved."""
_PRICE: Final = 2.5
"""What a movement must save to be worth its bits, in steps summed over the watched elements."""
_MARGIN: Final = FAR // 4
_RING: Final = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
_FIRST: Final = [
    *((2 * y, 2 * x) for y in range(-2, 3) for x in range(-2, 3)),
    *((8 * y, 8 * x) for y, x in _RING),
    *((4 * y, 8 * x) for y in (-1, 1) for x in (-1, 1)),
    *((8 * y, 4 * x) for y in (-1, 1) for x in (-1, 1)),
]
_STAGES: Final = tuple(np.array(tried).T[:, :, None] for tried in (_FIRST, [(0, 0), *_RING]))
"""Movements tried, in quarters of a cell: halves near and wholes far, then quarters around the best of these."""


def find_motion(tensor: TensorTable, target: F32, values: I32, step: int) -> I16:
    """(2, rows, columns) int16 movements with which `values` (K, H, W) come closest to target (≤ K, H, W).

    Both in 1/256 of a unit. Blocks that are still, and those where moving saves too little, have 0.
    """
    motion = np.zeros(motion_shape(tensor), np.int16)
    wanted = target[:_WATCHED] * np.float32(1 / step)
    watched = values[: len(wanted)].astype(np.float32) * np.float32(1 / step)
    _, height, width = wanted.shape
    cost = _tally(height) @ np.abs(wanted - watched).sum(axis=0) @ _tally(width).T
    rows, columns = np.nonzero(cost > _STILL * len(wanted) * BLOCK * BLOCK)
    if not len(rows):
        return motion
    fine, tall = _quartered(watched), len(_between(height))
    start = 4 * ((_MARGIN + BLOCK * columns) * tall + _MARGIN + BLOCK * rows)
    inside = (4 * (tall * np.arange(BLOCK)[:, None] + np.arange(BLOCK))).reshape(-1)
    goal = _blocks(wanted, rows, columns)
    best = np.zeros((2, len(rows)), np.int64)
    for tried in _STAGES:
        moves = np.clip(best[:, None] + tried, -FAR, FAR)
        off = fine.take((start - moves[1] * tall - moves[0])[:, :, None] + inside, axis=0)
        off -= goal
        loss = np.abs(off, out=off).reshape(*moves.shape[1:], -1).sum(axis=2)
        loss += np.float32(_PRICE) * ((moves[0] | moves[1]) != 0)
        best = moves[:, loss.argmin(axis=0), np.arange(len(rows))]
    motion[:, rows, columns] = best
    return motion


def _blocks(planes: F32, rows: I64, columns: I64) -> F32:
    """(blocks, BLOCK · BLOCK, K) at `rows` and `columns`, column after column; past the border the border."""
    k, height, width = planes.shape
    inside = np.arange(BLOCK)
    y = np.minimum(BLOCK * rows[:, None] + inside, height - 1)[:, None, :]
    x = np.minimum(BLOCK * columns[:, None] + inside, width - 1)[:, :, None]
    found: F32 = planes.transpose(2, 1, 0)[x, y]
    return found.reshape(len(rows), BLOCK * BLOCK, k)


def _quartered(planes: F32) -> F32:
    """Planes (K, H, W) at every quarter of a cell, `_MARGIN` cells more on each side, linearly between cells.

    (positions, K), column after column: what is compared together lies together.
    """
    k, height, width = planes.shape
    down = _between(height) @ planes.transpose(1, 2, 0).reshape(height, width * k)
    across = down.reshape(-1, width, k).transpose(1, 0, 2).reshape(width, -1)
    fine: F32 = _between(width) @ across
    return fine.reshape(-1, k)


@lru_cache(maxsize=8)
def _tally(size: int) -> F32:
    """(blocks, size): how often each cell along an axis counts in each block; past the border the border."""
    blocks = -(-size // BLOCK)
    counts = np.zeros((blocks, size), np.float32)
    at = np.arange(blocks * BLOCK)
    np.add.at(counts, (at // BLOCK, np.minimum(at, size - 1)), 1)
    return counts


@lru_cache(maxsize=8)
def _between(size: int) -> F32:
    """(4 · (cells and margins), size): which cells each quarter lies between, and the share of both."""
    filled = -(-size // BLOCK) * BLOCK + 2 * _MARGIN
    at = np.clip(np.arange(4 * filled) / 4 - _MARGIN, 0, size - 1)
    first = np.minimum(at.astype(np.int64), size - 2)
    weights = np.zeros((len(at), size), np.float32)
    weights[np.arange(len(at)), first] = 1 - (at - first)
    weights[np.arange(len(at)), first + 1] = at - first
    return weights
