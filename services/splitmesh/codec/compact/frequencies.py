"""Owns how planes of one tensor are coded by spatial frequency: whole-plane cosines, weighed. Fits nothing.

A tail that averages over positions hardly looks at high frequencies: noise there costs the answer little. A plane
(H, W) becomes its orthonormal cosine transform (DCT-II; Ahmed et al., "Discrete Cosine Transform", 1974), each
coefficient times the square root of what noise at its frequency costs, so that one step serves all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from splitmesh.errors import CodecError

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]

LARGEST_WEIGHT: Final = 1e3
"""Of a frequency; the smallest is its inverse."""
LARGEST_SIDE: Final = 256
"""Of a plane: what bounds the matrices of cosines, one for each side."""
_PER_OCTAVE: Final = 8
LARGEST_SIZE: Final = 30 * _PER_OCTAVE + 1
_SIZES: Final = np.array([0, *(round(2.0 ** (at / _PER_OCTAVE)) for at in range(LARGEST_SIZE))], np.int32)
_BORDERS: Final = np.array([0.5, *(2.0 ** ((at + 0.5) / _PER_OCTAVE) for at in range(LARGEST_SIZE - 1))])


@dataclass(frozen=True, eq=False)
class Frequencies:
    """What a table says of each spatial frequency. Raises CodecError for parts that no table holds."""

    weights: F32
    """(H, W), 1e-3 … 1e3: what a coefficient is multiplied with, row 0 and column 0 being the mean's."""
    sizes: U8
    """(K, H, W) mean magnitude of each component's weighed coefficients over the calibration's frames: 0 for 0, else
    n for 2^((n − 1)/8) in 1/256 of a unit, rounded, n ≤ 241."""

    def __post_init__(self) -> None:
        weights, sizes = self.weights, self.sizes
        if weights.ndim != 2 or sizes.ndim != 3 or not weights.size or sizes.shape[1:] != weights.shape:
            raise CodecError(f"weights {weights.shape} and sizes {sizes.shape} of frequencies do not fit each other")
        if max(weights.shape) > LARGEST_SIDE:
            raise CodecError(f"planes of {weights.shape[0]} × {weights.shape[1]} have no frequencies in a table")
        if not (weights.min() >= 1 / LARGEST_WEIGHT and weights.max() <= LARGEST_WEIGHT):  # also false for NaN
            raise CodecError("weights of frequencies hold NaN, or numbers that a payload could overflow")
        if sizes.max() > LARGEST_SIZE:
            raise CodecError(f"a frequency has size {sizes.max()}, the largest is {LARGEST_SIZE}")

    @cached_property
    def spread(self) -> I32:
        """(K, H, W) mean magnitude of weighed coefficients, in 1/256 of a unit."""
        spread: I32 = _SIZES[self.sizes]
        return spread

    def forward(self, z: F32) -> F32:
        """Weighed coefficients (≤ K, H, W) of components z (≤ K, H, W)."""
        return cosines(z) * self.weights

    def inverse(self, y: F32) -> F32:
        """The components of weighed coefficients y (≤ K, H, W)."""
        plain: F32 = y / self.weights
        return positions(plain)


def cosines(z: F32) -> F32:
    """(…, H, W) coefficients of planes z (…, H, W), both float32, the mean's first."""
    *_, height, width = z.shape
    flat: F32 = z.reshape(-1, width) @ _cosines(width).T
    y: F32 = np.matmul(_cosines(height), flat.reshape(z.shape))
    return y


def positions(y: F32) -> F32:
    """The planes whose coefficients are y, (…, H, W) float32 both."""
    *_, height, width = y.shape
    flat = y.reshape(-1, width) @ _cosines(width)
    z: F32 = np.matmul(_cosines(height).T, flat.reshape(y.shape))
    return z


def sizes_of(magnitudes: F64) -> U8:
    """What `Frequencies.sizes` calls mean magnitudes ≥ 0 in 1/256 of a unit."""
    found: U8 = np.searchsorted(_BORDERS, magnitudes, "right").astype(np.uint8)
    return found


@lru_cache(maxsize=16)
def _cosines(size: int) -> F32:
    """(frequencies, positions), orthonormal."""
    at = np.arange(size)
    matrix = np.sqrt(2 / size) * np.cos(np.pi * (2 * at + 1) * at[:, None] / (2 * size))
    matrix[0] = np.sqrt(1 / size)
    found: F32 = matrix.astype(np.float32)
    found.flags.writeable = False
    return found
