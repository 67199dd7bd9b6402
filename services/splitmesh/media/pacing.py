"""Owns when a picture of a recording counts as captured: the clock of paced sources. Reads no clock."""

from __future__ import annotations

_MAX_LAG_NS = 1_000_000_000
"""Further behind than this (suspended machine, too slow a decoder, late segment) the clock is set anew."""


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
