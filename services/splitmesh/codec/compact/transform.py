"""Owns one cut tensor's calibrated transform: float32 tensor ↔ planes of components. Fits nothing, quantises nothing.

x is seen as (C, H, W): `axis` of its shape holds the channels, the other axes, flattened to at most two, the
positions. z = analysis · (x − mean) and x ≈ mean + synthesis · z, for K ≤ C components, the largest first. z is in
*units*: noise of one unit in any component costs the answer the same, so one step serves them all. Where the table
says so, planes then go by frequency (`frequencies`).

Folding analysis and synthesis into head and tail as 1×1 convolutions would save their two matrix products: at the
default cut [1, 64, 19, 19] 0.05 and 0.04 ms, of 12 for head and tail. So it is not done. Nor are positions
transformed to save bits: cosines over blocks of 5 × 5 saved nothing there that the plane coder's contexts do not
already save.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from splitmesh.codec.compact.frequencies import Frequencies
from splitmesh.codec.container import MAX_DIMENSIONS, MAX_ELEMENTS
from splitmesh.errors import CodecError

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
U16 = npt.NDArray[np.uint16]

LARGEST: Final = 1e30
"""Magnitude above which an element is refused."""
_LARGEST_WEIGHT: Final = 1e28
"""Of a synthesis: times the most components of the largest fixed-point value, 2^22 units, still a float32."""
_LARGEST_WEIGHED: Final = 1e20
"""The same where frequencies are weighed: a coefficient may weigh 1e-3, and a plane adds up many."""
UNIT: Final = 256
"""Fixed-point reconstruction values are in 1/256 of a unit."""
UNIT_LEVEL: Final = 128
"""The level whose step is one unit; eight levels halve it."""
LEVELS: Final = 256
MAX_CHANNELS: Final = 1024
MAX_COMPONENTS: Final = 1024
MAX_CODED: Final = 1 << 21
"""Components times positions of a cut: what a decoder may allocate of each of its arrays."""

_FINEST: Final = UNIT // 16
"""So that components eight times the calibration's largest still fit 16 bits; levels from 160 on have this step."""
_STEPS: Final[tuple[int, ...]] = tuple(
    max(_FINEST, round(UNIT * 2.0 ** ((UNIT_LEVEL - level) / 8))) for level in range(LEVELS)
)


def step_of(level: int) -> int:
    """The quantiser's step at `level` (0 … 255, larger is finer) in 1/256 of a unit, ≥ 16."""
    if not 0 <= level < LEVELS:
        raise CodecError(f"level {level} is not within 0 … {LEVELS - 1}")
    return _STEPS[level]


@dataclass(frozen=True, eq=False)
class TensorTable:
    """One tensor's transform. Raises CodecError when its parts do not fit each other or the module's bounds."""

    name: str
    shape: tuple[int, ...]
    """On the wire: (1, C), (1, C, L), (1, N, C), (1, C, H, W), …"""
    axis: int
    """Of `shape`: the one that holds the channels; 0: none does, all elements are one component."""
    mean: F32
    """(C,)"""
    analysis: F32
    """(K, C)"""
    synthesis: F32
    """(C, K)"""
    spread: I32
    """(K,) mean magnitude of each component over the calibration's frames, in 1/256 of a unit, ≥ 0."""
    frequencies: Frequencies | None = None
    """Planes hold weighed coefficients of cosines; None: they hold positions."""

    def __post_init__(self) -> None:
        dims = self.shape
        if not 2 <= len(dims) <= MAX_DIMENSIONS or min(dims) < 1 or dims[0] != 1 or math.prod(dims) > MAX_ELEMENTS:
            raise CodecError(f"tensor {self.name!r} has shape {dims}, which no table holds")
        if not 0 <= self.axis < len(dims) or self.channels > MAX_CHANNELS:
            raise CodecError(f"tensor {self.name!r} of shape {dims} has no channels along axis {self.axis}")
        k = len(self.spread)
        fits = self.analysis.shape == (k, self.channels) and self.synthesis.shape == (self.channels, k)
        if not fits or self.mean.shape != (self.channels,) or not 1 <= k <= min(MAX_COMPONENTS, self.channels):
            raise CodecError(f"the table of tensor {self.name!r} has parts that do not fit each other")
        if k * self.height * self.width > MAX_CODED:
            raise CodecError(f"the table of tensor {self.name!r} has {k} components of {self.height} × {self.width}")
        by = self.frequencies
        if by is not None and by.sizes.shape != (k, self.height, self.width):
            raise CodecError(f"the table of tensor {self.name!r} has frequencies of other planes than its own")
        largest = _LARGEST_WEIGHT if by is None else _LARGEST_WEIGHED
        sane = np.isfinite(self.analysis).all() and np.abs(self.synthesis).max() <= largest
        if not sane or not np.abs(self.mean).max() <= LARGEST:  # also false for NaN
            raise CodecError(
                f"the table of tensor {self.name!r} holds NaN, Inf or numbers that a payload could overflow"
            )

    @property
    def channels(self) -> int:
        return self.shape[self.axis]

    @property
    def height(self) -> int:
        return self._positions[0]

    @property
    def width(self) -> int:
        return self._positions[1]

    @cached_property
    def _positions(self) -> tuple[int, int]:
        """Rows and columns of a plane: the axes that are not channels, (1, L) for one, (1, 1) for none."""
        rest = [size for at, size in enumerate(self.shape) if at not in (0, self.axis)]
        return (math.prod(rest[:-1]), rest[-1]) if rest else (1, 1)

    def forward(self, x: F32, kept: int | None = None) -> F32:
        """The first `kept` components (None: all) of x, (K, H, W) float32, in units; if so, by frequency.

        Raises CodecError for another dtype or shape than the table's, and for NaN, Inf or magnitudes above 1e30.
        """
        if x.dtype != np.float32 or x.shape != self.shape:
            raise CodecError(f"tensor {self.name!r} is {x.dtype} {x.shape}, the table is of float32 {self.shape}")
        if not max(x.max(), -x.min()) <= LARGEST:  # also false for NaN
            raise CodecError(f"tensor {self.name!r} holds NaN, Inf or magnitudes above {LARGEST:g}")
        basis = self.analysis[:kept]
        z: F32 = basis @ np.moveaxis(x, self.axis, 0).reshape(self.channels, -1)
        z -= (basis @ self.mean)[:, None]
        planes = z.reshape(-1, self.height, self.width)
        return planes if self.frequencies is None else self.frequencies.forward(planes)

    def inverse(self, z: F32) -> F32:
        """The tensor of `shape`, float32 and C-contiguous, whose first components are z (≤ K, H, W), in units."""
        if self.frequencies is not None:
            z = self.frequencies.inverse(z)
        flat = self.synthesis[:, : len(z)] @ z.reshape(len(z), self.height * self.width)
        flat += self.mean[:, None]
        if not self.axis:
            return flat.reshape(self.shape)
        rest = (size for at, size in enumerate(self.shape) if at != self.axis)
        return np.ascontiguousarray(np.moveaxis(flat.reshape(self.channels, *rest), 0, self.axis))

    def step(self, level: int) -> F32:
        """(K,) float32 quantiser steps in units: the same for all components, as units make it optimal."""
        return np.full(len(self.spread), step_of(level) / UNIT, np.float32)

    def scale(self, level: int) -> U16:
        """(K,) uint16: each component's expected magnitude at `level`, in 1/16 of a step. In integers.

        (K, H, W) where frequencies are weighed.
        """
        step = step_of(level)
        spread = self.spread if self.frequencies is None else self.frequencies.spread
        magnitude = (spread.astype(np.int64) * 16 + step // 2) // step
        return np.minimum(magnitude, np.iinfo(np.uint16).max).astype(np.uint16)
