"""Owns what a backlog on the device takes from the frames behind: a short look ahead along one simple course.

Rollout (Bertsekas, "Dynamic Programming and Optimal Control", vol. 1, 2017, ch. 6.4): each frame behind is taken to
get the better of two things, the best cut as it is behind what is queued by then, or what needs no device. What they
lose on that course is the price of a choice now. In steady use it is the shadow price of the device's time.
"""

from __future__ import annotations

from itertools import accumulate, pairwise

from splitmesh.policy.numeric.kernel import KERNEL
from splitmesh.policy.numeric.values import Course

_FRAMES = 8
_DISCOUNT = 0.9
"""Per frame: of later ones less is known."""
_POWERS = tuple(_DISCOUNT**index for index in range(_FRAMES))
_WEIGHTS = tuple(_DISCOUNT * power for power in _POWERS)
_LEFT = tuple(sum(_WEIGHTS[index:]) for index in range(_FRAMES))
"""Weight of each frame and those after it."""


class FramesBehind:
    """Utilities as in `policy.worth`, times in ms.

    without: utility of the best that needs no device. device_ms: that the best cut takes of the device. values: its
    utility where the device is free in `i·step_ms`; beyond the last as there. Empty: there is no cut.
    """

    def __init__(
        self,
        period_ms: float,
        without: float,
        device_ms: float = 0.0,
        values: tuple[float, ...] = (),
        step_ms: float = 1.0,
    ) -> None:
        self._period_ms, self._step_ms = period_ms, step_ms
        self._period, self._device = period_ms / step_ms, device_ms / step_ms
        self._without = without
        self._values = values
        self._rises = [after - before for before, after in pairwise(values)]
        self.course: Course | None = None
        """None: no cut is better than what needs no device, and frames behind lose nothing."""
        if values and max(values) > without:
            self.course = Course(self._period, self._device, without, values, self._from_idle(), _WEIGHTS)

    def lost(self, *, backlog_ms: float, device_ms: float) -> float:
        """Utility that they lose in all, if `device_ms` more are promised now, on top of `backlog_ms`."""
        if self.course is None:
            return 0.0
        left_ms = backlog_ms - self._period_ms
        untaken = KERNEL.course(left_ms / self._step_ms, self.course)
        return untaken - KERNEL.course((left_ms + device_ms) / self._step_ms, self.course)

    def _from_idle(self) -> tuple[float, ...]:
        """What those from each of them on get in all, if nothing is queued when it comes: courses end there."""
        values, last, backlog, got = self._values, len(self._rises), 0.0, []
        if self._device <= self._period:  # nothing ever queues
            best = max(values[0], self._without)
            return tuple([best * left for left in _LEFT])
        for weight in _WEIGHTS:
            low = min(int(backlog), last)
            cut = values[low] + (backlog - low) * self._rises[low] if low < last else values[last]
            got.append(weight * max(cut, self._without))
            taken = self._device if cut > self._without else 0.0
            backlog = max(0.0, backlog + taken - self._period)
        return tuple([power * total for power, total in zip(_POWERS, reversed(list(accumulate(got))), strict=True)])
