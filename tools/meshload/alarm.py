"""Owns waking up on time: event loops round their own timers to a millisecond, too coarse to send requests by.

On Linux a timer of the kernel that the loop watches like a socket (timerfd_create(2)), good to some microseconds.
Elsewhere the loop's own timer, and the generator's lag tells what that costs.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1
_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000


class _Spec(ctypes.Structure):
    """struct itimerspec: the interval, then the time."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("at_s", ctypes.c_long),
        ("at_ns", ctypes.c_long),
    )


class Alarm:
    """Calls `ring` on the running loop once, at or after the time that was last set."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None
        self._fd = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self._fd >= 0:
            self._spec = _Spec()
            self._pointer = ctypes.byref(self._spec)
            self._loop.add_reader(self._fd, self._on_time)

    def set(self, at_ns: int) -> None:
        """Ring at `at_ns` of `time.monotonic_ns`; the time set before counts no more. The past: at once."""
        if self._fd >= 0:
            self._arm(max(at_ns, 1))
            return
        self.clear()
        self._handle = self._loop.call_later(max(0, at_ns - time.monotonic_ns()) / 1e9, self._ring)

    def clear(self) -> None:
        """Don't ring."""
        if self._fd >= 0:
            self._arm(0)
        elif self._handle:
            self._handle.cancel()

    def close(self) -> None:
        """Don't ring any more, and let go of the timer."""
        self.clear()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _arm(self, at_ns: int) -> None:
        self._spec.at_s, self._spec.at_ns = divmod(at_ns, 1_000_000_000)
        self._libc.timerfd_settime(self._fd, _ABSOLUTE, self._pointer, None)

    def _on_time(self) -> None:
        self._arm(0)  # also makes the descriptor unreadable again
        self._ring()
