"""Owns which changes the encoder codes: those that tell more than they cost. The decoder needs none of it."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from splitmesh.codec.compact.quantise import LARGEST_SYMBOL

F32 = npt.NDArray[np.float32]
I16 = npt.NDArray[np.int16]
U16 = npt.NDArray[np.uint16]

PRICE: Final = 0.05
"""λ: squared steps of error that a bit must save, halved."""
_LEAST: Final = 0.55
_FIRST: Final = 0.62
_ABOVE: Final = 0.4
"""Rounding of what is larger than 1. Rounding by 0.46 and passing errors on to neighbours, as where a frame stands
alone, changes nothing here, where few neighbours are coded. Waiting until a change has lasted loses what moves.
"""


def quantise_residual(residual: F32, scale: U16) -> I16:
    """(K, H, W) int16 symbols of a residual (K, H, W) in steps; `scale`: (K,) expected magnitudes in 1/16 of a step.

    An element becomes ±1 only if what that takes off its squared error exceeds `PRICE` per bit, its bits estimated
    from the expected magnitude and from how much else there is around its position (Sullivan, "Efficient scalar
    quantization of exponential and Laplacian random variables", 1996).
    """
    _, height, width = residual.shape
    flat = residual.reshape(-1)
    symbols = np.zeros(residual.shape, np.int16)
    lively = np.flatnonzero(np.abs(flat) > np.float32(_LEAST))
    plane = lively // (height * width)
    place = lively - plane * (height * width)
    signed = flat[lively]
    some = np.minimum(np.abs(signed), np.float32(LARGEST_SYMBOL - 1))
    first = (some > _FIRST) + (some > 1 + _FIRST).astype(np.float32)
    around = np.bincount(place, first, height * width).astype(np.float32).reshape(height, width)
    due = scale.astype(np.float32) * np.float32(1 / 16)
    expected = (_around(around).reshape(-1)[place] - first + 1) * due[plane] / (9 * due.sum() + 1)
    bits = np.log2(1 + 1 / np.maximum(expected, np.float32(1e-3)))
    rounded = np.maximum(some + np.float32(_ABOVE), 1)
    rounded *= some >= np.float32(PRICE) * (bits + 1) + np.float32(0.5)
    symbols.reshape(-1)[lively] = np.copysign(rounded, signed).astype(np.int16)
    return symbols


def _around(plane: F32) -> F32:
    """(H, W) sums of 3 × 3."""
    wide = np.zeros((plane.shape[0] + 2, plane.shape[1] + 2), np.float32)
    wide[1:-1, 1:-1] = plane
    rows = wide[:-2] + wide[1:-1] + wide[2:]
    near: F32 = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    return near
