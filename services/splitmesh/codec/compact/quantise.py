"""Owns the step between components and integers, in both directions. Integer reconstruction: exact on any machine."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from splitmesh.codec.compact.transform import UNIT

F32 = npt.NDArray[np.float32]
I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]

ROUNDING: Final = 0.46
"""Added before the fraction is cut off: 0.5 rounds to the nearest, less widens the zone that becomes 0. Measured on
a detector: at equal agreement 0.33 costs some 10 % more bytes than 0.42, 0.2 some 40 %. What is lost to zero weakens
every score, which hurts an answer more than noise of the same energy: so no rate-distortion search widens it either.
"""
PASSED_ON: Final = 0.15
"""Share of an element's error that its neighbours to the right and below take over, each (Floyd & Steinberg, "An
adaptive algorithm for spatial grey scale", 1976): a convolution sums neighbours up, and feels what they err together.
Measured with 0.46 on a detector, against 0.42 and nothing passed on: 9 % fewer bytes at equal F1 on pedestrians, in
a moving picture and on photographs; 5 %, 6 % and 2 % fewer where all class scores stay as near (Kullback-Leibler).
64 planes of 19 × 19 take a quarter of a millisecond, all of "compact" 2.4 ms where it took 2.1.
"""
LARGEST_SYMBOL: Final = 32_767
_LARGEST_VALUE: Final = 1 << 30
_LARGEST_ASKED: Final = np.float32(LARGEST_SYMBOL - 0.1)
"""In steps: with what neighbours pass on it becomes `LARGEST_SYMBOL`, and its error is no larger than another's."""


def quantise(z: F32, step: int) -> I16:
    """Integers (K, H, W) int16 of components z (K, H, W) float32 in units, held to int16.

    step: `transform.step_of(level)`, in 1/256 of a unit. An element becomes sign(t) · ⌊|t| + `ROUNDING`⌋, where t is
    z/step and `PASSED_ON` of the errors left and above. A single row or column is rounded without them: what follows
    each other in a list need not be neighbours.
    """
    steps = z * np.float32(UNIT / step)
    np.clip(steps, -_LARGEST_ASKED, _LARGEST_ASKED, out=steps)
    if min(z.shape[1:]) > 1:
        return _diffused(steps)
    steps += np.copysign(np.float32(ROUNDING), steps)
    return steps.astype(np.int16)


def _diffused(steps: F32) -> I16:
    """(K, H, W) int16 of elements (K, H, W) in steps. All planes' elements of one anti-diagonal are rounded at once:
    what they wait for, left and above, lies on the one before.
    """
    k, height, width = steps.shape
    diagonals = np.empty((height + width - 1, height, k), np.float32)
    down, row, component = diagonals.strides
    planes = as_strided(diagonals, steps.shape, (component, down + row, down))
    planes[...] = steps
    passed = np.zeros((height + 1, k), np.float32)
    spare = np.empty((height, k), np.float32)
    for d, diagonal in enumerate(diagonals):
        first, end = max(0, d - width + 1), min(height, d + 1)
        wanted, rounded, left = diagonal[first:end], spare[first:end], passed[first + 1 : end + 1]
        np.add(passed[first:end], left, out=rounded)
        wanted += rounded
        np.copysign(np.float32(ROUNDING), wanted, out=rounded)
        rounded += wanted
        np.trunc(rounded, out=rounded)
        np.subtract(wanted, rounded, out=left)
        left *= np.float32(PASSED_ON)
        wanted[...] = rounded
    return planes.astype(np.int16)


def dequantise(symbols: I16, step: int) -> I32:
    """Reconstruction (…) int32 in 1/256 of a unit: symbol · step, held to ±2^30."""
    if LARGEST_SYMBOL * step <= _LARGEST_VALUE:
        return symbols * np.int32(step)
    bound = _LARGEST_VALUE // step
    return np.clip(symbols, -bound, bound).astype(np.int32) * np.int32(step)


def to_units(values: I32) -> F32:
    """Components (…) float32 in units, of a reconstruction in 1/256 of a unit."""
    z = values.astype(np.float32)
    z *= np.float32(1 / UNIT)
    return z
