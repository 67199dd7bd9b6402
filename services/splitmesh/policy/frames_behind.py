"""Owns what a backlog on the device takes from the frames behind: a short look ahead along one simple course.

Rollout (Bertsekas, "Dynamic Programming and Optimal Control", vol. 1, 2017, ch. 6.4): each frame behind is taken to
get the better of two things, the best cut as it is behind what is queued by then, or what needs no device. What they
lose on that course is the price of a choice now. In steady use it is the shadow price of the device's time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate

_FRAMES = 8
_DISCOUNT = 0.9
"""Per frame: of later ones less is known."""
_WEIGHTS = tuple(_DISCOUNT ** (index + 1) for index in range(_FRAMES))


@dataclass(slots=True)
class FramesBehind:
    """Utilities as in `policy.worth`, times in ms."""

    period_ms: float
    without: float
    """Utility of the best that needs no device."""
    device_ms: float = 0.0
    """That the best cut takes of the device."""
    values: tuple[float, ...] = ()
    """Its utility where the device is free in `i·step_ms`; beyond the last as there. Empty: there is no cut."""
    step_ms: float = 1.0
    _idle: list[float] = field(default_factory=list, init=False)
    """What those from each of them on get in all, if nothing is queued when it comes: courses end there.
    Empty: no cut is better than what needs no device."""
    _totals: dict[float, float] = field(default_factory=dict, init=False)
    """Of courses by where they began: choices share the one without any of them, and often the device's time too."""

    def __post_init__(self) -> None:
        if self.values and max(self.values) > self.without:
            sums = list(accumulate(self._course(0.0)))
            self._idle = [_DISCOUNT**index * sums[-1 - index] for index in range(_FRAMES)]

    def lost(self, *, backlog_ms: float, device_ms: float) -> float:
        """Utility that they lose in all, if `device_ms` more are promised now, on top of `backlog_ms`."""
        if not self._idle:
            return 0.0
        left_ms = backlog_ms - self.period_ms
        return self._total(max(0.0, left_ms)) - self._total(max(0.0, left_ms + device_ms))

    def _total(self, backlog_ms: float) -> float:
        """What they get in all, if that much is queued when the first of them comes."""
        if backlog_ms not in self._totals:
            self._totals[backlog_ms] = sum(self._course(backlog_ms / self.step_ms))
        return self._totals[backlog_ms]

    def _course(self, backlog: float) -> list[float]:
        """What each of them gets, discounted, if so many steps are queued when the first comes; in one, once that is
        known, what all get from one on that finds nothing queued."""
        values, without, idle, got = self.values, self.without, self._idle, []
        last, period, device = len(values) - 1, self.period_ms / self.step_ms, self.device_ms / self.step_ms
        for index, weight in enumerate(_WEIGHTS):
            if backlog <= 0:
                if idle:
                    got.append(idle[index])
                    break
                backlog = 0.0
            # Linear between the steps.
            low = int(backlog)
            cut = values[low] + (backlog - low) * (values[low + 1] - values[low]) if low < last else values[last]
            if cut > without:
                got.append(weight * cut)
                backlog += device
            else:
                got.append(weight * without)
            backlog -= period
        return got
