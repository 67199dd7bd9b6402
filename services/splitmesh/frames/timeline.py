"""Owns the step from a stream's own time stamps to one nanosecond timeline that only ever moves forward."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

_NS = 1_000_000_000
_GAP_FRAMES = 3
"""A step of more than this many frame durations is a gap."""
_STUCK = 3
"""Time stamps that did not move before the clock counts as stuck and frames are placed by their nominal distance."""
_JUMP_NS = 10 * _NS
"""A step forward of more than this is a clock that was set, not a pause of the camera."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """`pts_ns`: time since the first frame, strictly increasing.

    `gap`: frames are missing before this one. `reset`: the stream's clock started anew here (loop, reconnect,
    wrap), so `pts_ns` continues by estimate.
    """

    pts_ns: int
    gap: bool = False
    reset: bool = False


class Timeline:
    """Makes `pts` (int, in units of `time_base` seconds, or None if unknown) continuous.

    `default_frame_ns` is one frame's duration, used where the stream does not tell the distance.
    Raises ValueError unless both are positive.
    """

    def __init__(self, time_base: Fraction, default_frame_ns: int) -> None:
        if time_base <= 0 or default_frame_ns <= 0:
            raise ValueError(f"time base {time_base} and frame duration {default_frame_ns} ns must be positive")
        self._time_base = time_base
        self._frame_ns = default_frame_ns
        self._base_pts: int | None = None
        self._base_ns = 0
        self._last_ns: int | None = None
        self._restart_after_ns: int | None = None
        self._last_pts: int | None = None
        self._repeats = 0

    def restart(
        self, *, time_base: Fraction | None = None, frame_ns: int | None = None, elapsed_ns: int | None = None
    ) -> None:
        """The stream was opened again (loop or reconnect): the next stamp is a reset.

        It lies `elapsed_ns` after the last one (for live sources: measured by the caller), by default one frame.
        """
        self._time_base = time_base or self._time_base
        self._frame_ns = frame_ns or self._frame_ns
        if self._last_ns is not None:
            self._restart_after_ns = max(elapsed_ns if elapsed_ns is not None else self._frame_ns, 1)

    def stamp(self, pts: int | None) -> Stamp:
        """Place the next frame, in presentation order."""
        if self._last_ns is None:
            return self._rebase(pts, 0, gap=False, reset=False)
        if self._restart_after_ns is not None:
            step_ns, self._restart_after_ns = self._restart_after_ns, None
            return self._rebase(pts, self._last_ns + step_ns, gap=self._is_gap(step_ns), reset=True)
        if pts is None:
            return self._emit(self._last_ns + self._frame_ns)
        if self._base_pts is None:
            return self._rebase(pts, self._last_ns + self._frame_ns, gap=False, reset=False)
        self._repeats = self._repeats + 1 if pts == self._last_pts else 0
        self._last_pts = pts
        if self._repeats >= _STUCK:
            return self._rebase(pts, self._last_ns + self._frame_ns, gap=False, reset=False)
        at_ns = self._base_ns + self._to_ns(pts - self._base_pts)
        step_ns = at_ns - self._last_ns
        if step_ns > _JUMP_NS or step_ns < -self._frame_ns:
            return self._rebase(pts, self._last_ns + self._frame_ns, gap=step_ns > 0, reset=True)
        if step_ns <= 0:  # a repeated or slightly late time stamp: keep the order, keep the mapping
            return self._emit(self._last_ns + 1)
        return self._emit(at_ns, gap=self._is_gap(step_ns))

    def _is_gap(self, step_ns: int) -> bool:
        return step_ns > _GAP_FRAMES * self._frame_ns

    def _to_ns(self, ticks: int) -> int:
        return ticks * self._time_base.numerator * _NS // self._time_base.denominator

    def _rebase(self, pts: int | None, at_ns: int, *, gap: bool, reset: bool) -> Stamp:
        self._base_pts, self._base_ns, self._last_pts = pts, at_ns, pts
        return self._emit(at_ns, gap=gap, reset=reset)

    def _emit(self, at_ns: int, *, gap: bool = False, reset: bool = False) -> Stamp:
        self._last_ns = at_ns
        return Stamp(at_ns, gap, reset)
