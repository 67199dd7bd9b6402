"""Owns the prediction of how long a kind of request takes: a moving mean for waits, its spread for promises.

A worker that refuses everybody observes nothing, so bad news fades: without observations the prediction goes back to
the best that is known, by half every `FADE_NS`.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

FADE_NS = 1_000_000_000
_CLIP = 4.0
"""One stalled run counts as at most this many times the mean."""


class ServiceTime:
    """Times of one (model, cut), nanoseconds. Starts from what warm-up measured.

    weight: of a new observation in the mean, (0, 1]. window: observations that the percentile looks back.
    """

    def __init__(self, first_ns: int, *, weight: float = 0.1, window: int = 64) -> None:
        self._mean = float(max(1, first_ns))
        self._best = self._mean
        self._weight = weight
        self._recent: deque[int] = deque(maxlen=window)
        self._sorted: list[int] = []
        self._observed_ns: int | None = None

    def observe(self, taken_ns: int, now_ns: int) -> None:
        taken_ns = max(1, taken_ns)
        before = self.mean_ns(now_ns)
        self._mean = before + self._weight * (min(taken_ns, _CLIP * before) - before)
        self._best = min(self._best, self._mean)
        self._observed_ns = now_ns
        if len(self._recent) == self._recent.maxlen:
            del self._sorted[bisect_left(self._sorted, self._recent[0])]
        self._recent.append(taken_ns)
        insort(self._sorted, taken_ns)

    def restart(self, taken_ns: int, now_ns: int) -> None:
        """A run that was let in against the prediction took so long: that is believed at once."""
        self._mean = self._best = float(max(1, taken_ns))
        self._recent.clear()
        self._sorted.clear()
        self.observe(taken_ns, now_ns)

    def mean_ns(self, now_ns: int) -> int:
        return round(self._best + (self._mean - self._best) * self._freshness(now_ns))

    def p95_ns(self) -> int:
        """95th percentile of the window; what warm-up measured before anything was observed."""
        if not self._sorted:
            return round(self._mean)
        return self._sorted[min(len(self._sorted) - 1, int(0.95 * len(self._sorted)))]

    def slack_ns(self, now_ns: int) -> int:
        """What to keep free beyond the mean so that 95 of 100 make it; at most one mean, however wild the tail."""
        mean = self.mean_ns(now_ns)
        return round(min(max(0, self.p95_ns() - mean), mean) * self._freshness(now_ns))

    def _freshness(self, now_ns: int) -> float:
        if self._observed_ns is None:
            return 1.0
        return float(0.5 ** (max(0, now_ns - self._observed_ns) / FADE_NS))
