"""Owns when a picture of a recording counts as captured, and which pictures do at a lower rate. Reads no clock."""

from __future__ import annotations

_MAX_LAG_NS = 1_000_000_000
"""Further behind than this (suspended machine, too slow a decoder, late segment) the clock is set anew."""
_HALF_TICK_NS = 500_000
"""Container clocks often count whole milliseconds."""


class Pacer:
    """Maps presentation time to this machine's monotonic clock, `start + pts`. The first picture sets the start."""

    def __init__(self) -> None:
        self._start_ns: int | None = None
        self.resyncs = 0
        """Times that the clock was set anew because it had fallen behind."""

    def capture_ns(self, pts_ns: int, now_ns: int) -> int:
        """The time at which a camera would have handed over the picture of `pts_ns`.

        In the future: wait until then. In the past, by at most a second: the decoder is late.
        """
        if self._start_ns is None:
            self._start_ns = now_ns - pts_ns
        due_ns = self._start_ns + pts_ns
        if now_ns - due_ns > _MAX_LAG_NS:
            self.resyncs += 1
            self._start_ns = now_ns - pts_ns
            return now_ns
        return due_ns


class Thinner:
    """Says which pictures a camera of at most `max_fps` pictures per second would have taken; None: all."""

    def __init__(self, max_fps: float | None) -> None:
        self._period_ns = 1e9 / max_fps if max_fps else 0.0
        self._due_ns: float | None = None

    def takes(self, pts_ns: int) -> bool:
        """Asked once for each picture, in order. On the whole the rate is kept, whatever the source's own is."""
        due_ns = pts_ns if self._due_ns is None else self._due_ns
        if not -self._period_ns <= due_ns - pts_ns <= self._period_ns:  # a gap, or a clock that jumped
            due_ns = pts_ns
        taken = pts_ns + _HALF_TICK_NS >= due_ns
        self._due_ns = due_ns + self._period_ns if taken else due_ns
        return taken
