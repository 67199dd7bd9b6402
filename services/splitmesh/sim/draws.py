"""Owns all that is left to chance, drawn beforehand and by frame: whatever a policy does, it meets the same luck."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from splitmesh.frames.track import MOTION_FLOOR
from splitmesh.sim.scenario import Scenario

_SMOOTHING = 0.3
"""Of the motion that the edge sees, per frame, as its observer smooths it."""


@dataclass(frozen=True, slots=True)
class Draws:
    """One entry per frame, unless said otherwise. `z`: standard normal."""

    motion: Sequence[float]
    """As the edge sees it."""
    travelled: Sequence[float]
    """Sum of (motion + floor) times seconds up to this frame."""
    size_z: Sequence[float]
    """What is in the picture: payloads of all codecs grow and shrink with it, as long as the scene's memory."""
    edge_z: Sequence[float]
    resume_z: Sequence[float]
    encode_z: Sequence[float]
    decode_z: Sequence[float]
    cloud_z: Sequence[float]
    prepare_ms: Sequence[float]
    """From capture to decision."""
    pick: Sequence[float]
    """In [0, 1): which worker of the pool."""


def draw(scenario: Scenario, seed: int, *, member: int = 0) -> Draws:
    """The same for the same scenario, seed and member of a fleet; an edge on its own is member 0."""
    random = np.random.Generator(np.random.PCG64([seed, 0x5EED, member] if member else [seed, 0x5EED]))
    count = scenario.frames
    keep = math.exp(-1 / (scenario.fps * scenario.memory_s))
    motion = scenario.motion * np.exp(scenario.motion_spread * _walk(random, count, keep))
    if scenario.motions:
        motion = np.resize(np.asarray(scenario.motions, dtype=np.float64), count)
    travelled = np.concatenate(([0.0], np.cumsum((motion[1:] + MOTION_FLOOR) / scenario.fps)))
    return Draws(
        motion=_smoothed(motion),
        travelled=_packed(travelled),
        size_z=_packed(_walk(random, count, keep)),
        edge_z=_packed(random.standard_normal(count)),
        resume_z=_packed(random.standard_normal(count)),
        encode_z=_packed(random.standard_normal(count)),
        decode_z=_packed(random.standard_normal(count)),
        cloud_z=_packed(random.standard_normal(count)),
        prepare_ms=_prepared(scenario, seed, member),
        pick=_packed(random.random(count)),
    )


def _prepared(scenario: Scenario, seed: int, member: int) -> array[float]:
    """From a stream of its own: all other luck stays what it is where these times are spread."""
    quantiles, count = scenario.prepare_quantiles_ms, scenario.frames
    if not quantiles:
        return array("d", [scenario.prepare_ms]) * count
    random = np.random.Generator(np.random.PCG64([seed, 0x9E9A, member]))
    return _packed(np.interp(random.random(count), np.linspace(0, 1, len(quantiles)), quantiles))


def _packed(values: npt.NDArray[np.float64]) -> array[float]:
    """Eight bytes a number: a fleet holds millions."""
    return array("d", values.tobytes())


def _walk(random: np.random.Generator, count: int, keep: float) -> npt.NDArray[np.float64]:
    """A first-order walk, standard normal at each step."""
    steps = random.standard_normal(count) * math.sqrt(1 - keep * keep)
    value = float(random.standard_normal())
    walked = []
    for step in steps.tolist():
        value = keep * value + step
        walked.append(value)
    return np.array(walked)


def _smoothed(motion: npt.NDArray[np.float64]) -> array[float]:
    seen, smooth = array("d"), 0.0
    for value in motion.tolist():
        smooth += _SMOOTHING * (value - smooth)
        seen.append(smooth)
    return seen
