"""Owns all that is left to chance, drawn beforehand and by frame: whatever a policy does, it meets the same luck."""

from __future__ import annotations

import math
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

    motion: list[float]
    """As the edge sees it."""
    travelled: list[float]
    """Sum of (motion + floor) times seconds up to this frame."""
    size_z: list[float]
    """What is in the picture: payloads of all codecs grow and shrink with it, as long as the scene's memory."""
    edge_z: list[float]
    resume_z: list[float]
    encode_z: list[float]
    decode_z: list[float]
    cloud_z: list[float]
    pick: list[float]
    """In [0, 1): which worker of the pool."""


def draw(scenario: Scenario, seed: int) -> Draws:
    """The same for the same scenario and seed."""
    random = np.random.Generator(np.random.PCG64([seed, 0x5EED]))
    count = scenario.frames
    keep = math.exp(-1 / (scenario.fps * scenario.memory_s))
    motion = scenario.motion * np.exp(scenario.motion_spread * _walk(random, count, keep))
    travelled = np.concatenate(([0.0], np.cumsum((motion[1:] + MOTION_FLOOR) / scenario.fps)))
    return Draws(
        motion=_smoothed(motion),
        travelled=travelled.tolist(),
        size_z=_walk(random, count, keep).tolist(),
        edge_z=random.standard_normal(count).tolist(),
        resume_z=random.standard_normal(count).tolist(),
        encode_z=random.standard_normal(count).tolist(),
        decode_z=random.standard_normal(count).tolist(),
        cloud_z=random.standard_normal(count).tolist(),
        pick=random.random(count).tolist(),
    )


def _walk(random: np.random.Generator, count: int, keep: float) -> npt.NDArray[np.float64]:
    """A first-order walk, standard normal at each step."""
    steps = random.standard_normal(count) * math.sqrt(1 - keep * keep)
    value = float(random.standard_normal())
    walked = []
    for step in steps.tolist():
        value = keep * value + step
        walked.append(value)
    return np.array(walked)


def _smoothed(motion: npt.NDArray[np.float64]) -> list[float]:
    seen, smooth = [], 0.0
    for value in motion.tolist():
        smooth += _SMOOTHING * (value - smooth)
        seen.append(smooth)
    return seen
