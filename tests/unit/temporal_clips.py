"""Clips of feature-like tensors, and tables fitted to them, for the tests of the temporal codec."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from splitmesh.codec.compact.fit import fit_table
from splitmesh.codec.compact.table import CompactTable
from splitmesh.codec.temporal.fit import fit_temporal_model

CHANNELS, HEIGHT, WIDTH = 6, 12, 9
LEVEL = 96


def texture(seed: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Six fields (6, H, W), fixed by `seed`, at the places x, y (H, W)."""
    rng = np.random.default_rng(seed)
    waves = rng.uniform(-1.1, 1.1, (4, 2)), rng.uniform(0, 6, 4)
    sources = np.stack([np.sin(a * x + b * y + p) for (a, b), p in zip(*waves, strict=True)])
    return np.tensordot(rng.standard_normal((CHANNELS, 4)) * 3, sources, 1)


@cache
def clip(count: int = 8, *, seed: int = 1, speed: float = 0.0, noise: float = 0.05) -> np.ndarray:
    """(count, 6, 12, 9) float32: a texture that moves right by `speed` cells a frame, before it a spot that moves by
    one, over it noise."""
    rng = np.random.default_rng(seed + 99)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(float)
    frames = np.stack([texture(seed, x - speed * t, y) for t in range(count)])
    for t in range(count):
        frames[t, :3, 4:7, (t % (WIDTH - 2)) : (t % (WIDTH - 2)) + 2] += 6
    frames += noise * rng.standard_normal(frames.shape)
    return frames.astype(np.float32)


def frame(index: int, **kind: float) -> dict[str, np.ndarray]:
    return {"cut": clip(index + 1, **kind)[index : index + 1]}


@cache
def table(seed: int = 1) -> CompactTable:
    """Fitted to a clip, with a model for residuals."""
    features = {"cut": np.concatenate([clip(8, seed=seed), clip(8, seed=seed + 1, speed=0.5)])}
    plain = fit_table(features)
    return replace(plain, temporal_model=fit_temporal_model(plain, [{"cut": clip(6, seed=seed, speed=0.5)}]))
