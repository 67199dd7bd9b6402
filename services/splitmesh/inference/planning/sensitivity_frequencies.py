"""Owns how much noise at each spatial frequency of a cut costs the answer, by finite differences through the tail.

A frame is varied by cosines over whole planes, in all channels at once, each by ±ε: the squared change of what
matters in the outputs (`relevance`), averaged over signs, is the sum of what the varied frequencies cost. Near
frequencies are varied together, as a band, and share what that costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from splitmesh.codec.compact.fit import channel_axis
from splitmesh.codec.compact.frequencies import LARGEST_SIDE, positions
from splitmesh.inference.planning.relevance import Relevant
from splitmesh.inference.planning.sensitivity import EVEN, VariedFrame, amplitudes
from splitmesh.inference.planning.stages import Step, each, quiet
from splitmesh.inference.session import Session

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

MOST_FRAMES: Final = 12
FEWEST_FRAMES: Final = 2
SIGNS: Final = 2
"""Random choices of signs, of each frame and band."""
_NARROW: Final = 4
"""Frequencies along a side that are bands of their own; each band above is half as wide as its lowest frequency."""


def frequency_sensitivity(
    tail: Session,
    relevant: Relevant,
    features: Mapping[str, F32],
    *,
    runs: int,
    fewest: int = FEWEST_FRAMES,
    step: Step = quiet,
    seed: int = 0,
) -> dict[str, F64]:
    """Wire name → (H, W) ≥ 0 what noise at each frequency of cosines costs, its mean 1.

    Tensors without planes are left out, and all where `runs` of the tail do not suffice for the `fewest` frames.
    features: wire name → (N, …) float32, N frames at the cut. Deterministic for a seed. Raises InferenceError if the
    tail fails.
    """
    axes = {
        name: axis
        for name, frames in features.items()
        if frames.ndim == 4 and (axis := channel_axis(frames)) and _sides(frames, axis)
    }
    if not axes:
        return {}
    bands = {name: bands_of(*_sides(features[name], axis)) for name, axis in axes.items()}
    per_frame = SIGNS * sum(int(band.max()) + 1 for band in bands.values())
    count = len(next(iter(features.values())))
    affordable = min(count, MOST_FRAMES, runs // per_frame)
    if affordable < min(count, fewest):
        return {}
    random = np.random.default_rng(seed)
    found: dict[str, list[F64]] = {name: [] for name in axes}
    for i in each(list(np.unique(np.linspace(0, count - 1, affordable).astype(int))), step):
        frame = VariedFrame(tail, relevant, {name: frames[i : i + 1] for name, frames in features.items()})
        for name, axis in axes.items():
            found[name].append(_costs(frame, name, axis, bands[name], amplitudes(features[name], axis), random))
    return {name: _averaged(costs) for name, costs in found.items()}


def bands_of(height: int, width: int) -> I64:
    """(H, W) the band that each frequency is of, from 0."""
    rows, columns = _bands_along(height), _bands_along(width)
    bands: I64 = rows[:, None] * (columns.max() + 1) + columns
    return bands


def _bands_along(size: int) -> I64:
    bands: list[int] = []
    while (low := len(bands)) < size:
        wide = 1 if low < _NARROW else low // 2
        bands += [bands[-1] + 1 if bands else 0] * min(wide, size - low)
    return np.array(bands)


def _sides(frames: F32, axis: int) -> tuple[int, int] | tuple[()]:
    """Height and width of the planes of frames (N, …); () for those without frequencies."""
    height, width = (size for at, size in enumerate(frames.shape) if at not in (0, axis))
    return (height, width) if min(height, width) > 1 and max(height, width) <= LARGEST_SIDE else ()


def _costs(
    frame: VariedFrame,
    name: str,
    axis: int,
    bands: I64,
    amplitude: F32,
    random: np.random.Generator,
) -> F64:
    """(H, W) of one frame."""
    number = int(bands.max()) + 1
    variations = np.zeros((SIGNS * number, len(amplitude), *bands.shape), np.float32)
    for at, variation in enumerate(variations):
        inside = np.flatnonzero(bands == at % number)
        signs = random.choice(np.array([-1, 1], np.float32), size=(len(amplitude), len(inside)))
        variation.reshape(len(amplitude), -1)[:, inside] = signs * amplitude[:, None]
    moved = frame.moved(name, np.moveaxis(positions(variations), 1, axis))
    each_band = np.square(moved).sum(axis=1).reshape(SIGNS, number).mean(axis=0)
    per_frequency: F64 = (each_band / np.bincount(bands.reshape(-1)))[bands]
    return per_frequency


def _averaged(costs: list[F64]) -> F64:
    """Frames weighed alike, but for those where nothing happens; the mean over frequencies 1."""
    means = np.array([each_.mean() for each_ in costs])
    means += max(EVEN * float(means.mean()), 1e-300)
    total = sum((each_ / mean for each_, mean in zip(costs, means, strict=True)), np.zeros_like(costs[0]))
    return total / max(float(total.mean()), 1e-300)
