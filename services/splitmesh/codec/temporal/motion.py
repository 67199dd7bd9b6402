"""Owns movements of blocks as bytes. Searches none, moves nothing.

Body: a bit per block, row by row of all tensors that move, set if it moves; then per moved block two numbers of five
bits, down and right in quarters of a cell plus 16; zero bits up to a whole byte. All bits are in MSB-first order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from splitmesh.codec.temporal.predict import FAR
from splitmesh.errors import CodecError

I16 = npt.NDArray[np.int16]

_BITS: Final = 5
_ORIGIN: Final = 16
_WEIGHTS: Final = 1 << np.arange(_BITS - 1, -1, -1)


def pack_motion(motions: Sequence[I16]) -> bytes:
    """Bytes of motions, each (2, rows, columns) int16 within ±`FAR`."""
    flat = np.concatenate([motion.reshape(2, -1) for motion in motions], axis=1)
    moving = flat.any(axis=0)
    numbers = flat[:, moving].T.reshape(-1, 1) + _ORIGIN
    bits = (numbers & _WEIGHTS) != 0
    return np.packbits(np.concatenate([moving, bits.reshape(-1)])).tobytes()


def unpack_motion(data: memoryview, shapes: Sequence[tuple[int, int, int]]) -> tuple[list[I16], int]:
    """The motions of `shapes`, (2, rows, columns) each, and how many bytes of `data` they take.

    Raises CodecError for fewer bytes than that, and for what `pack_motion` does not write.
    """
    blocks = sum(rows * columns for _, rows, columns in shapes)
    least = -(-blocks // 8)
    if len(data) < least:
        raise CodecError(f"{len(data)} bytes hold no movements of {blocks} blocks")
    moving = np.unpackbits(np.frombuffer(data[:least], np.uint8))[:blocks].astype(bool)
    total = blocks + 2 * _BITS * int(moving.sum())
    taken = -(-total // 8)
    if len(data) < taken:
        raise CodecError(f"{len(data)} bytes hold no movements of {moving.sum()} moved blocks")
    bits = np.unpackbits(np.frombuffer(data[:taken], np.uint8))
    numbers = bits[blocks:total].reshape(-1, 2, _BITS) @ _WEIGHTS - _ORIGIN
    if bits[total:].any() or np.abs(numbers).max(initial=0) > FAR or not numbers.any(axis=1).all():
        raise CodecError("movements of blocks are malformed")
    flat = np.zeros((2, blocks), np.int16)
    flat[:, moving] = numbers.T
    parts = np.split(flat, np.cumsum([rows * columns for _, rows, columns in shapes])[:-1], axis=1)
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)], taken
