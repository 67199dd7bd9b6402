"""Owns how much noise in each channel of a cut costs the answer, by finite differences through the tail.

For outputs r that matter (`relevance`), M = E[JᵀJ] over frames and positions, J the derivatives of r by the channels.
A frame is varied in one channel c at a time, by ±ε in a random pattern over positions that is the same for all
channels: the expectation of Δc·Δd over patterns is ε² times what M holds for c and d (Hutchinson, "A stochastic
estimator of the trace of the influence matrix", 1990).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from splitmesh.codec.compact.fit import channel_axis
from splitmesh.inference.planning.relevance import Relevant
from splitmesh.inference.planning.stages import Step, each, quiet
from splitmesh.inference.session import Session

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

RUNS: Final = 3072
"""Variations of frames that the tail is run on, for all tensors of a cut together."""
FEWEST_FRAMES: Final = 6
"""A tensor of so many channels that fewer frames could be varied gets one weight for all of them."""
AMPLITUDE: Final = 0.25
"""ε, of a channel's standard deviation: about the noise of the quantiser where levels are useful."""
BATCH: Final = 8
EVEN: Final = 0.1
"""Of the mean frame's weight, added to each before frames are weighed alike: where nothing happens says less."""


def sensitivity(
    tail: Session,
    relevant: Relevant,
    features: Mapping[str, F32],
    *,
    runs: int = RUNS,
    step: Step = quiet,
    seed: int = 0,
) -> dict[str, F64]:
    """Wire name → (C, C) symmetric positive semidefinite M, C along `channel_axis`; tensors without one are left out.

    features: wire name → (N, …) float32, N frames at the cut. runs: of the tail, that may be spent. One scale for all
    tensors of the cut, so that noise is comparable between them. Deterministic for a seed. Raises InferenceError if
    the tail fails.
    """
    axes = {name: axis for name, frames in features.items() if (axis := channel_axis(frames))}
    if not axes:
        return {}
    count = len(next(iter(features.values())))
    channels = {name: features[name].shape[axis] for name, axis in axes.items()}
    detailed = {name for name, c in channels.items() if runs // (len(axes) * c) >= FEWEST_FRAMES}
    per_frame = sum(c if name in detailed else BATCH for name, c in channels.items())
    chosen = np.unique(np.linspace(0, count - 1, min(count, max(1, runs // per_frame))).astype(int))
    random = np.random.default_rng(seed)
    found: list[dict[str, F64]] = []
    for i in each(list(chosen), step):
        frame = VariedFrame(tail, relevant, {name: frames[i : i + 1] for name, frames in features.items()})
        found.append({
            name: frame.detailed(name, axis, amplitudes(features[name], axis), random)
            if name in detailed
            else frame.overall(name, axis, amplitudes(features[name], axis), random)
            for name, axis in axes.items()
        })  # fmt: skip
    return _averaged(found)


def _averaged(found: list[dict[str, F64]]) -> dict[str, F64]:
    weights = np.array([sum(float(np.trace(m)) for m in each_.values()) for each_ in found])
    weights += max(EVEN * float(weights.mean()), 1e-300)
    return {name: sum((m[name] / w for m, w in zip(found, weights, strict=True)), np.zeros(())) for name in found[0]}


def amplitudes(frames: F32, axis: int) -> F32:
    """(C,) amplitude of the variation of each channel."""
    rest = tuple(i for i in range(frames.ndim) if i != axis)
    spread = np.asarray(frames.std(axis=rest, dtype=np.float64))
    least = 1e-6 * max(float(spread.max()), 1e-12)
    return np.asarray(AMPLITUDE * np.maximum(spread, least), np.float32)


class VariedFrame:
    """One frame at the cut, and the tail's view of variations of it."""

    def __init__(self, tail: Session, relevant: Relevant, tensors: dict[str, F32]) -> None:
        self._tail = tail
        self._relevant = relevant
        self._tensors = tensors
        self._outputs = tail.run(tensors)
        self._answer = relevant(self._outputs, self._outputs)
        together = all(shape[0] is None for shape, _ in tail.inputs.values())
        self._batch = BATCH if together else 1

    def detailed(self, name: str, axis: int, amplitude: F32, random: np.random.Generator) -> F64:
        """(C, C): each channel varied on its own."""
        x = np.moveaxis(self._tensors[name], axis, 1)
        pattern = random.choice(np.array([-1, 1], np.float32), size=x.shape[2:])
        variations = np.zeros((x.shape[1], *x.shape[1:]), np.float32)
        for c, size in enumerate(amplitude):
            variations[c, c] = size * pattern
        moved = self.moved(name, np.moveaxis(variations, 1, axis)) / amplitude[:, None].astype(np.float64)
        product: F64 = moved @ moved.T
        return product

    def overall(self, name: str, axis: int, amplitude: F32, random: np.random.Generator) -> F64:
        """(C, C) diagonal: all channels varied at once, each by its amplitude, and blamed alike."""
        x = np.moveaxis(self._tensors[name], axis, 1)
        signs = random.choice(np.array([-1, 1], np.float32), size=(BATCH, *x.shape[1:]))
        sized = signs * amplitude.reshape(-1, *[1] * (x.ndim - 2))
        moved = self.moved(name, np.moveaxis(sized, 1, axis))
        cost = float((moved**2).sum()) / len(moved) / len(amplitude)
        return np.diag(cost / amplitude.astype(np.float64) ** 2)

    def moved(self, name: str, variations: F32) -> F64:
        """(B, D): how far each of the variations (B, …) of a tensor moves the answer."""
        parts = []
        for at in range(0, len(variations), self._batch):
            part = variations[at : at + self._batch]
            inputs = {n: np.repeat(x, len(part), axis=0) for n, x in self._tensors.items()}
            inputs[name] = np.ascontiguousarray(inputs[name] + part)
            parts.append(self._relevant(self._outputs, self._tail.run(dict(inputs))) - self._answer)
        return np.concatenate(parts).astype(np.float64)
