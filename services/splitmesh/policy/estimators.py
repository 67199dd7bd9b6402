"""Owns the two small estimators everything else is made of: how much slower than profiled, and how often late."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np

from splitmesh.policy.numeric.kernel import KERNEL
from splitmesh.policy.numeric.values import Chances

CENSORED = 1.25
"""What was given up, or has not come by the deadline, is entered as having taken this many times the time waited."""


class ScaleEstimator:
    """`γ`: log-EWMA of measured ÷ profiled time. 1.0 until something was measured."""

    def __init__(self, *, weight: float = 0.12) -> None:
        self._weight = weight
        self._log = 0.0
        self.value = 1.0
        self.samples = 0

    def observe(self, measured_ms: float, profiled_ms: float, *, least_weight: float = 0.0) -> None:
        """Ignores parts profiled below 10 µs, their ratio is noise, and what is no time at all."""
        if not (0.01 <= profiled_ms < math.inf and 0 < measured_ms < math.inf):
            return
        ratio = math.log(measured_ms / profiled_ms)
        # The first samples count in full: a slow device must be known as slow from its first frames.
        weight = max(self._weight, least_weight, 1 / (self.samples + 1))
        # One preempted run must not move the estimate as if the device had changed.
        step = min(max(ratio - self._log, -0.7), 0.7) if self.samples >= 3 else ratio - self._log
        self._log += weight * step
        self.value = math.exp(self._log)
        self.samples += 1


class DeviceScale(ScaleEstimator):
    """`γ_e`. A device that has run nothing for a while is taken to be as slow as usual again: what kept it busy may
    be over, and only a run can tell. Usual is a log-EWMA with a memory of some 30 runs.
    """

    _FADE_NS = 0.5e9
    _USUAL_WEIGHT = 0.03
    _PAUSE_WEIGHT = 0.9
    """Of the first run after a long pause."""

    def __init__(self) -> None:
        super().__init__()
        self._usual_log = 0.0
        self._newest_ns = 0

    def ran(self, measured_ms: float, profiled_ms: float, now_ns: int) -> None:
        """As `observe`, `now_ns`: when the run was over."""
        known, before_log = self.samples, self._log
        unused_ns = max(0, now_ns - self._newest_ns) if known else 0
        # A run speaks to what the device was taken for by then, and the louder the longer nothing ran.
        self._log = math.log(self.at(now_ns))
        after_pause = self._PAUSE_WEIGHT * (1 - math.exp(-unused_ns / self._FADE_NS))
        self.observe(measured_ms, profiled_ms, least_weight=after_pause)
        if self.samples == known:
            self._log = before_log
            return
        weight = max(self._USUAL_WEIGHT, 1 / self.samples)
        self._usual_log += weight * (self._log - self._usual_log)
        self._newest_ns = now_ns

    def at(self, now_ns: int) -> float:
        """The scale to expect of a run that begins now."""
        slower, unused_ns = self._log - self._usual_log, now_ns - self._newest_ns
        if slower <= 0 or unused_ns <= 0:
            return self.value
        return math.exp(self._usual_log + slower * math.exp(-unused_ns / self._FADE_NS))


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
    _STEEPNESS = 1.702 / _KERNEL
    """Of the logistic function that is nearest to a normal distribution function."""
    _PRIOR_STEEPNESS = 1.702 / _PRIOR_SIGMA
    _MOST = 7.0
    """Largest residual: a thousand times too late."""
    _FAR = 0.7
    """From a residual: the kernel is 0 or 1 there, but for 1e-13."""

    def __init__(self, *, window: int = 64, half_life: float = 24.0) -> None:
        self._residuals: deque[float] = deque(maxlen=window)
        """ln(T / T̂)."""
        self._decay = 0.5 ** (1 / half_life)
        self._newest_ns = 0
        self._odds = np.zeros(0)
        """`exp(−k·r)` of each residual r, k the kernel's steepness."""
        self._weights = np.zeros(0)
        """Of each residual, when the newest came."""
        self._weighted_odds = np.zeros(0)
        self._total = 0.0
        self._surely_in, self._surely_late = math.inf, math.inf
        """T̂ / budget below and above which all residuals agree."""

    def observe(self, actual_ms: float, predicted_ms: float, now_ns: int) -> None:
        if not (0 < actual_ms < math.inf and 0 < predicted_ms < math.inf):
            return
        residual = min(max(math.log(actual_ms / predicted_ms), -self._MOST), self._MOST)
        self._residuals.append(residual)
        older = len(self._residuals) - 1
        fade = self._decay * 0.5 ** (max(0, now_ns - self._newest_ns) / self._FADE_NS) if older else 0.0
        self._newest_ns = now_ns
        self._weights = np.append(fade * self._weights[len(self._weights) - older :], 1.0)
        self._odds = np.append(self._odds[len(self._odds) - older :], math.exp(-self._STEEPNESS * residual))
        self._weighted_odds = self._weights * self._odds
        self._total = float(self._weights.sum())
        self._surely_in = math.exp(-max(self._residuals) - self._FAR)
        self._surely_late = math.exp(-min(self._residuals) + self._FAR)

    def p_within(self, predicted_ms: float, budget_ms: float, now_ns: int) -> float:
        """P(T ≤ budget), in [0, 1]."""
        return self.all_within((predicted_ms,), budget_ms, now_ns)[0]

    def all_within(self, predicted_ms: Sequence[float], budget_ms: float, now_ns: int) -> list[float]:
        """P(T ≤ budget) for each of the predictions, in [0, 1]."""
        return KERNEL.within(list(predicted_ms), self.chances(budget_ms, now_ns))

    def chances(self, budget_ms: float, now_ns: int) -> Chances:
        """What P(T ≤ budget) of any prediction follows from."""
        faded = 0.5 ** (max(0, now_ns - self._newest_ns) / self._FADE_NS)
        made = (
            budget_ms,
            self._PRIOR_WEIGHT,
            self._PRIOR_STEEPNESS,
            self._STEEPNESS,
            faded,
            faded * self._total,
            self._surely_in,
            self._surely_late,
            self._odds,
            self._weighted_odds,
        )
        return tuple.__new__(Chances, made)  # its constructor takes twice as long
