"""Owns what a backlog on the device takes from the frames behind: a short look ahead along one simple course.

Rollout (Bertsekas, "Dynamic Programming and Optimal Control", vol. 1, 2017, ch. 6.4): each frame behind is taken to
get the better of two things, the best cut as it is behind what is queued by then, or what needs no device. What they
lose on that course is the price of a choice now. In steady use it is the shadow price of the device's time.
"""

from __future__ import annotations

from dataclasses import dataclass

_FRAMES = 8
_DISCOUNT = 0.9
"""Per frame: of later ones less is known."""


@dataclass(frozen=True, slots=True)
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

    def lost(self, *, backlog_ms: float, device_ms: float) -> float:
        """Utility that they lose in all, if `device_ms` more are promised now, on top of `backlog_ms`."""
        if not self.values or max(self.values) <= self.without:
            return 0.0
        left_ms = backlog_ms - self.period_ms
        return self._course(max(0.0, left_ms)) - self._course(max(0.0, left_ms + device_ms))

    def _course(self, backlog_ms: float) -> float:
        """Discounted sum of what they get, if that much is queued when the first of them comes."""
        total, weight = 0.0, 1.0
        for _ in range(_FRAMES):
            weight *= _DISCOUNT
            cut = self._cut_at(backlog_ms)
            if cut > self.without:
                total += weight * cut
                backlog_ms += self.device_ms
            else:
                total += weight * self.without
            backlog_ms = max(0.0, backlog_ms - self.period_ms)
        return total

    def _cut_at(self, backlog_ms: float) -> float:
        """Linear between the steps."""
        index = int(backlog_ms / self.step_ms)
        if index + 1 >= len(self.values):
            return self.values[-1]
        part = backlog_ms / self.step_ms - index
        return self.values[index] * (1 - part) + self.values[index + 1] * part
