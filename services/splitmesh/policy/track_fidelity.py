"""Owns how good a tracked answer is, learnt for free: each inferred frame audits what the tracker would have said.

The form is `A_track = A_0·exp(−κ·motion·age)`. `κ` comes from the plan's calibration and starts the estimate; then
`A_0` and `κ` follow from a decayed least-squares line of `1 − F1` over `x = (motion + floor)·age_s`. The floor keeps
a still picture from being trusted for ever: new objects are small next to the whole picture's motion.

The line is what is expected where there is no audit of about that motion and age. Where there are, their mean counts
(Nadaraya 1964, "On estimating regression"): boxes hold for a while and are then lost all at once, which no line is.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from splitmesh.frames.track import MOTION_FLOOR
from splitmesh.policy.numeric.kernel import KERNEL

_DECAY = 0.985
_RECENT = 64
_WIDTHS = (0.5, 0.15)
"""Of the kernel, in natural logarithms of motion and of age."""
_LINE_WEIGHT = 2.0
"""Of the line, in audits of just that motion and age."""
TRUSTED = 0.9
"""An answer of at least this fidelity is taken for what the model itself would say: the tracker may be held against
it, and nothing is taken off what is carried on from it."""

TELLING = 0.75
"""Answers below this say nothing of the tracker."""


def carried(fidelity: float) -> float:
    """How good an answer of that expected fidelity is to begin with, when it is carried on; in [0, 1]."""
    return 1.0 if fidelity >= TRUSTED else fidelity


class TrackFidelity:
    """`a_track(motion, age_ms)` in [0, 1]; teach it with `audit`."""

    def __init__(self, *, kappa: float, start_loss: float = 0.05) -> None:
        if not math.isfinite(kappa) or kappa < 0:
            raise ValueError(f"kappa must be a finite number ≥ 0, not {kappa}")
        # The calibrated line enters as pseudo-observations at two ages, worth eight audits together.
        self._w = self._wx = self._wy = self._wxx = self._wxy = 0.0
        for x in (0.002, 0.03):
            self._add(x, min(1.0, start_loss + 1 - math.exp(-kappa * x)), 4.0)
        self._recent: deque[tuple[float, float, float]] = deque(maxlen=_RECENT)
        """(place in motion and in age, F1), the newest last; see `_place`."""
        self._audits = np.zeros((0, 4))
        """Of each audit at (u, v): the logarithm of its weight, u, v, F1."""
        self._last: tuple[float, float, float] | None = None
        """What was asked last, and the answer: every point of a decision asks the same."""
        self.audits = 0

    def audit(self, f1: float, motion: float, age_ms: float) -> None:
        """A model saw a frame for which the tracker, `age_ms` after its last answer, would have scored `f1`."""
        if not (0 <= f1 <= 1 and 0 <= motion < math.inf and 0 < age_ms < math.inf):
            return
        for name in ("_w", "_wx", "_wy", "_wxx", "_wxy"):
            setattr(self, name, getattr(self, name) * _DECAY)
        self._add(_x(motion, age_ms), 1 - f1, 1.0)
        self._recent.append((*_place(motion, age_ms), f1))
        self._arrange()
        self._last = None
        self.audits += 1

    def a_track(self, motion: float, age_ms: float | None) -> float:
        """Expected agreement of a tracked answer of that age; 0 when there is nothing to track from."""
        if age_ms is None:
            return 0.0
        if self._last is None or self._last[:2] != (motion, age_ms):
            self._last = motion, age_ms, self._expected(motion, age_ms)
        return self._last[2]

    def _expected(self, motion: float, age_ms: float) -> float:
        intercept, slope = self._line()
        line = max(0.0, (1 - intercept) * math.exp(-slope * _x(motion, age_ms) / max(1 - intercept, 0.05)))
        if not self._recent or age_ms <= 0:
            return line
        x, y = _place(motion, age_ms)
        seen, known = KERNEL.around(x, y, self._audits)
        return (seen + _LINE_WEIGHT * line) / (known + _LINE_WEIGHT)

    def _arrange(self) -> None:
        u, v, f1 = np.array(self._recent).T
        age = np.arange(len(f1) - 1, -1, -1)
        self._audits = np.stack((age * math.log(_DECAY), u, v, f1), axis=1)

    def _add(self, x: float, y: float, weight: float) -> None:
        self._w += weight
        self._wx += weight * x
        self._wy += weight * y
        self._wxx += weight * x * x
        self._wxy += weight * x * y

    def _line(self) -> tuple[float, float]:
        mean_x, mean_y = self._wx / self._w, self._wy / self._w
        variance = self._wxx / self._w - mean_x**2
        covariance = self._wxy / self._w - mean_x * mean_y
        # Ages that hardly vary give no slope: ridge towards the line through the origin.
        origin = mean_y / max(mean_x, 1e-6)
        ridge = 0.1 * mean_x**2
        slope = max(0.0, (covariance + ridge * 0.5 * origin) / (variance + ridge))
        intercept = min(max(mean_y - slope * mean_x, 0.0), 0.9)
        return intercept, slope


def _place(motion: float, age_ms: float) -> tuple[float, float]:
    """Where the kernel has a width of one."""
    return math.log(motion + MOTION_FLOOR) / _WIDTHS[0], math.log(age_ms) / _WIDTHS[1]


def _x(motion: float, age_ms: float) -> float:
    return (motion + MOTION_FLOOR) * age_ms / 1000
