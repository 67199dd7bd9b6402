"""Owns what counts as growth in samples of a process: a straight line, its confidence, and the bounds. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

MIB = 2**20
BOUNDS = {"rss_bytes": 1.0 * MIB, "threads": 0.0, "fds": 0.0, "tasks": 0.0}
"""Growth per minute that is allowed, by what is sampled."""
LEAST_GAIN = {"rss_bytes": 0.0, "threads": 2.0, "fds": 2.0, "tasks": 2.0}
"""By so much at least must it have grown over the samples: a reader that comes and goes is no leak."""
WARM_UP_S, WARM_UP_SHARE = 60.0, 0.25
"""The beginning of a process's life that is left out: the lesser of both."""
LEAST_SAMPLES = 12
_CONFIDENCE = 0.95

Samples = Sequence[tuple[float, float]]
"""(seconds, value)."""


@dataclass(frozen=True, slots=True)
class Trend:
    """A least-squares line, per minute, with the ends of its 95 % confidence interval."""

    slope: float
    low: float
    high: float
    minutes: float
    samples: int

    @property
    def within_noise(self) -> bool:
        return self.low <= 0 <= self.high


def steady(samples: Samples) -> list[tuple[float, float]]:
    """`samples` of one process without its warm-up."""
    if not samples:
        return []
    began_s, ended_s = samples[0][0], samples[-1][0]
    from_s = began_s + min(WARM_UP_S, WARM_UP_SHARE * (ended_s - began_s))
    return [each for each in samples if each[0] >= from_s]


def trend(samples: Samples) -> Trend | None:
    """The line through `samples`; None if there are fewer than `LEAST_SAMPLES`.

    Neighbouring samples of a process are alike, and would make the interval too narrow. It is that of as many
    independent samples as these are worth by the lag-1 autocorrelation of their residuals (Santer et al., J. Geophys.
    Res. 105, 2000, section 4).
    """
    count = len(samples)
    if count < LEAST_SAMPLES:
        return None
    minutes, values = (np.asarray(column, np.float64) for column in zip(*samples, strict=True))
    minutes = (minutes - minutes[0]) / 60
    spread = float(np.sum((minutes - minutes.mean()) ** 2))
    slope = float(np.sum((minutes - minutes.mean()) * values)) / spread
    residuals = values - values.mean() - slope * (minutes - minutes.mean())
    freedom = max(1.0, _independent(residuals) - 2)
    error = math.sqrt(float(np.sum(residuals**2)) / freedom / spread)
    reach = float(stats.t.ppf((1 + _CONFIDENCE) / 2, freedom)) * error
    return Trend(slope, slope - reach, slope + reach, float(minutes[-1]), count)


def _independent(residuals: np.ndarray) -> float:
    """How many independent samples `residuals` are worth."""
    total = float(np.sum(residuals**2))
    if total <= 1e-12:
        return float(len(residuals))
    alike = min(0.99, max(0.0, float(np.sum(residuals[1:] * residuals[:-1])) / total))
    return len(residuals) * (1 - alike) / (1 + alike)


def grows(what: str, found: Trend) -> bool:
    """Whether `what` grew by more than its bound, beyond what chance explains."""
    return found.low > BOUNDS[what] and found.slope * found.minutes > LEAST_GAIN[what]
