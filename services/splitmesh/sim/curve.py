"""Owns a stretch of a link as the bytes that it has carried since it began: quick to ask again and again."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right

from splitmesh.provision.link.trace import LinkTrace


class Curve:
    """`begin_s` to `end_s` of `trace`; times here count from `begin_s`. Beyond its end nothing arrives any more."""

    def __init__(self, trace: LinkTrace, *, begin_s: float, end_s: float) -> None:
        self._times_s = [0.0]
        self._carried_bytes = [0.0]
        for piece in trace.pieces(begin_s):
            stop_s = min(piece.end_s, end_s)
            self._carried_bytes.append(
                self._carried_bytes[-1] + piece.rate_bps / 8 * max(0.0, stop_s - piece.start_s)
            )
            self._times_s.append(stop_s - begin_s)
            if piece.end_s >= end_s:
                break

    def finish_s(self, start_s: float, size_bytes: float) -> float:
        """When the last of `size_bytes` has left, if the link begins with them at `start_s` ≥ 0; inf beyond the end.

        As `LinkTrace.finish_s`.
        """
        times, carried = self._times_s, self._carried_bytes
        if start_s >= times[-1]:
            return math.inf
        at = bisect_right(times, start_s)
        share = (start_s - times[at - 1]) / (times[at] - times[at - 1])
        target = carried[at - 1] + share * (carried[at] - carried[at - 1]) + size_bytes
        until = bisect_left(carried, target, lo=at)
        if until == len(carried):
            return math.inf
        low, high = carried[until - 1], carried[until]
        share = 1.0 if high <= low else (target - low) / (high - low)
        return max(start_s, times[until - 1] + share * (times[until] - times[until - 1]))
