"""Owns the two small estimators everything else is made of: how much slower than profiled, and how often late."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import numpy.typing as npt


class ScaleEstimator:
    """`γ`: log-EWMA of measured ÷ profiled time. 1.0 until something was measured."""

    def __init__(self, *, weight: float = 0.12) -> None:
        self._weight = weight
        self._log = 0.0
        self.samples = 0

    @property
    def value(self) -> float:
        return math.exp(self._log)

    def observe(self, measured_ms: float, profiled_ms: float) -> None:
        """Ignores parts profiled below 10 µs: their ratio is noise."""
        if profiled_ms < 0.01 or measured_ms <= 0:
            return
        ratio = math.log(measured_ms / profiled_ms)
        # The first samples count in full: a slow device must be known as slow from its first frames.
        weight = max(self._weight, 1 / (self.samples + 1))
        # One preempted run must not move the estimate as if the device had changed.
        step = min(max(ratio - self._log, -0.7), 0.7) if self.samples >= 3 else ratio - self._log
        self._log += weight * step
        self.samples += 1


class OnlineQuantile:
    """Online τ-quantile of a stream by pinball-loss steps: `r += η((x > r) − (1 − τ))` (Gibbs & Candès 2021)."""

    def __init__(self, tau: float, *, start: float = 0.0, step: float = 0.02) -> None:
        if not 0 < tau < 1:
            raise ValueError(f"tau must lie in (0, 1), not {tau}")
        self._tau = tau
        self._step = step
        self.value = start

    def observe(self, x: float) -> None:
        self.value += self._step * ((x > self.value) - (1 - self._tau))


class LatenessEstimator:
    """The distribution of `ln(T / T̂)`: gives `P(T ≤ D)` for a prediction `T̂`.

    The last 64 residuals, weighted by recency and smoothed by a logistic kernel, over a log-normal prior worth
    four observations, so that the first frames are neither certain nor hopeless. They fade with time too: what went
    wrong during an outage must not keep a place from ever being tried again.
    """

    _KERNEL = 0.04
    _FADE_NS = 5e9
    _PRIOR_WEIGHT = 4.0
    _PRIOR_SIGMA = 0.2

    def __init__(self, *, window: int = 64, half_life: float = 24.0) -> None:
        self._residuals: deque[tuple[float, int]] = deque(maxlen=window)
        """(ln(T / T̂), when)."""
        self._decay = 0.5 ** (1 / half_life)
        self._cache: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = None

    def observe(self, actual_ms: float, predicted_ms: float, now_ns: int) -> None:
        if actual_ms > 0 and predicted_ms > 0:
            self._residuals.append((math.log(actual_ms / predicted_ms), now_ns))
            self._cache = None

    def p_within(self, predicted_ms: float, budget_ms: float, now_ns: int) -> float:
        """P(T ≤ budget), in [0, 1]."""
        if budget_ms <= 0:
            return 0.0
        x = math.log(budget_ms / max(predicted_ms, 1e-3))
        prior = _logistic(x / self._PRIOR_SIGMA)
        if not self._residuals:
            return prior
        if self._cache is None:
            residuals, times_ns = np.asarray(self._residuals, np.float64).T
            weights = self._decay ** np.arange(len(residuals) - 1, -1, -1, dtype=np.float64)
            self._cache = residuals, weights * 0.5 ** ((self._residuals[-1][1] - times_ns) / self._FADE_NS)
        residuals, weights = self._cache
        faded = float(0.5 ** (max(0, now_ns - self._residuals[-1][1]) / self._FADE_NS))
        z = np.clip((x - residuals) / self._KERNEL * 1.702, -40, 40)
        below = faded * float((weights / (1 + np.exp(-z))).sum())
        total = faded * float(weights.sum())
        return (below + self._PRIOR_WEIGHT * prior) / (total + self._PRIOR_WEIGHT)


def _logistic(z: float) -> float:
    """The logistic approximation of the normal distribution function, error below 0.01."""
    return 1 / (1 + math.exp(-min(max(1.702 * z, -40.0), 40.0)))
