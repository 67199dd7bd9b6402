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
"""Rounding of what is larger than 1."""


def quantise_residual(residual: F32, scale: U16, *, price: float = PRICE) -> I16:
    """(K, H, W) int16 symbols of a residual (K, H, W) in steps; `scale`: (K,) expected magnitudes in 1/16 of a step.

    An element becomes ±1 only if what that takes off its squared error exceeds `price` per bit, its bits estimated
    from the expected magnitude and from how much else there is around its position (Sullivan, "Efficient scalar
    quantization of exponential and Laplacian random variables", 1996).
    """
    sizes = np.abs(residual)
    np.minimum(sizes, np.float32(LARGEST_SYMBOL - 1), out=sizes)
    due = (scale.astype(np.float32) * np.float32(1 / 16))[:, None, None]
    first = np.minimum(sizes + np.float32(1 - _FIRST), 2).astype(np.int8)
    here = _around(first.sum(axis=0, dtype=np.float32)) - first
    here += 1
    here *= due / (9 * due.sum() + 1)
    bits = np.log2(1 + 1 / np.maximum(here, np.float32(1e-3)))
    zone = np.maximum(np.float32(price) * (bits + 1) + np.float32(0.5), np.float32(_LEAST))
    symbols: I16 = np.maximum(sizes + np.float32(_ABOVE), 1).astype(np.int16)
    symbols[sizes < zone] = 0
    np.negative(symbols, out=symbols, where=residual < 0)
    return symbols


def _around(plane: F32) -> F32:
    """(H, W) sums of 3 × 3."""
    wide = np.pad(plane, 1)
    rows = wide[:-2] + wide[1:-1] + wide[2:]
    near: F32 = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    return near
