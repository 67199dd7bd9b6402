"""Owns the step between components and integers, in both directions. Integer reconstruction: exact on any machine."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from splitmesh.codec.compact.transform import UNIT

F32 = npt.NDArray[np.float32]
I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]

ROUNDING: Final = 0.42
"""Added before the fraction is cut off: 0.5 rounds to the nearest, less widens the zone that becomes 0. Measured on
a detector: at equal agreement 0.5 costs 5 % more bytes, 0.33 some 10 %, 0.2 some 40 %. What is lost to zero weakens
every score, which hurts an answer more than noise of the same energy: so no rate-distortion search widens it either.
"""
LARGEST_SYMBOL: Final = 32_767
_LARGEST_VALUE: Final = 1 << 30


def quantise(z: F32, step: int, *, rounding: float = ROUNDING) -> I16:
    """Integers (…) int16 of components z (…) float32 in units: sign(z) · ⌊|z|/step + rounding⌋, held to int16.

    step: `transform.step_of(level)`, in 1/256 of a unit. rounding: 0 … 0.5.
    """
    magnitude = np.abs(z)
    magnitude *= np.float32(UNIT / step)
    magnitude += np.float32(rounding)
    np.minimum(magnitude, np.float32(LARGEST_SYMBOL), out=magnitude)
    symbols: I16 = np.copysign(magnitude, z, out=magnitude).astype(np.int16)
    return symbols


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
