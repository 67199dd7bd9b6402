"""Owns when the device may run the whole model only to learn: for a share of its time, a larger one of idle time."""

from __future__ import annotations

_SHARE = 0.01
"""Of the device's time."""
_IDLE_SHARE = 0.1
"""Of the time in which it would do nothing."""


class AuditSchedule:
    """Device time earned by and by, spent by runs of the whole model on frames that others have answered.

    At most one run is saved up, so that a long quiet stretch is not followed by a burst of them.
    """

    def __init__(self) -> None:
        self._earned_ms = 0.0
        self._used_ms = 0.0
        self._asked_ns: int | None = None

    def used(self, device_ms: float) -> None:
        """Frames needed the device for so long."""
        self._used_ms += device_ms

    def due(self, now_ns: int, run_ms: float) -> bool:
        """A run that is expected to take `run_ms` may begin now, if the device has nothing to do."""
        since_ms = 0.0 if self._asked_ns is None else max(0.0, (now_ns - self._asked_ns) / 1e6)
        idle_ms = max(0.0, since_ms - self._used_ms)
        self._used_ms = max(0.0, self._used_ms - since_ms)
        self._asked_ns = now_ns
        self._earned_ms = min(self._earned_ms + _SHARE * since_ms + _IDLE_SHARE * idle_ms, run_ms)
        return 0 < run_ms <= self._earned_ms

    def spent(self, device_ms: float) -> None:
        """An audit held the device for so long, whether it came to an end or was given up."""
        self._earned_ms -= device_ms
