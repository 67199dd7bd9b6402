"""Owns which weights the frequencies of a tensor's planes get, and whether they pay. Runs no model.

Noise of variance D in every coefficient costs Σ w · min(S, D), S the variance of a coefficient and w what noise at
its frequency costs; a coefficient takes ½ log2(S / D) bits where that is more than none (reverse water-filling: Cover
& Thomas, "Elements of Information Theory", 2006, §10.3.3). Weighed by √w, coefficients cost Σ min(w · S, D'): as much
at a larger D', the more the costs differ. The bits that this promises to save decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from splitmesh.codec.compact.frequencies import LARGEST_SIDE, LARGEST_WEIGHT
from splitmesh.codec.compact.transform import UNIT, step_of
from splitmesh.errors import CodecError

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

SAVING: Final = 0.1
"""Promised share of a tensor's bits from which on its frequencies are weighed."""
LEAST: Final = 1e-3
"""Share of the mean frequency's cost that each has at least: what the sample did not show matter may matter."""
MEAN_ALONE: Final = 0.9
"""Share of all costs from which on the mean of a plane is nearly all that counts. Weights then differ by more than
their square roots: behind SqueezeNet's last fire module what is sent of other frequencies bit by bit spoils more
answers than none of it, and 0.96 of the same answers took a quarter of the bytes."""
_SHARPER: Final = 0.75
_LEVELS: Final = (74, 82, 90, 98)
"""At which bits are promised: where answers are in use."""


def weights_of(coefficients: Sequence[F32], costs: F64) -> F32 | None:
    """(H, W) what coefficients of a tensor's components are to be multiplied with; None if that does not pay.

    coefficients: (K, H, W) of each frame, in units. costs: (H, W) what noise at each frequency costs, ≥ 0. Weights
    keep what noise of one unit everywhere costs. Raises CodecError for costs of another shape, or with NaN.
    """
    _, height, width = coefficients[0].shape
    if costs.shape != (height, width) or not np.isfinite(costs).all() or costs.min() < 0:
        raise CodecError(f"costs of frequencies are {costs.shape}, the planes {(height, width)}")
    if min(height, width) < 2 or max(height, width) > LARGEST_SIDE or not costs.any():
        return None
    shares = costs / costs.mean() + LEAST
    shares /= shares.mean()
    variances = np.mean([np.square(each, dtype=np.float64) for each in coefficients], axis=0)
    if promised_saving(variances, shares) < SAVING:
        return None
    roots = shares**_SHARPER if shares[0, 0] >= MEAN_ALONE * shares.sum() else np.sqrt(shares)
    roots /= np.sqrt(np.square(roots).mean())
    weights: F32 = np.clip(roots, 1 / LARGEST_WEIGHT, LARGEST_WEIGHT).astype(np.float32)
    return weights


def promised_saving(variances: F64, shares: F64) -> float:
    """Share of the bits of coefficients (K, H, W), by their variances in units, that weighing them by the costs
    `shares` (H, W) saves where it costs the answer the same."""
    plain = weighed = 0.0
    for level in _LEVELS:
        noise = (step_of(level) / UNIT) ** 2 / 12
        cost = float((shares * np.minimum(variances, noise)).sum())
        plain += _bits(variances, noise)
        weighed += _bits(variances * shares, _noise_that_costs(variances * shares, cost))
    return 1 - weighed / plain if plain > 0 else 0.0


def _bits(variances: F64, noise: float) -> float:
    return float(np.log2(np.maximum(variances / noise, 1)).sum()) / 2


def _noise_that_costs(variances: F64, cost: float) -> float:
    """D with Σ min(variances, D) = cost, by bisection over octaves."""
    low, high = -60.0, 60.0
    for _ in range(60):
        middle = (low + high) / 2
        below = float(np.minimum(variances, 2.0**middle).sum()) < cost
        low, high = (middle, high) if below else (low, middle)
    return float(2.0**low)
