"""Owns the question whether, and when, a request is sent a second time to another worker. Reads no clock.

A hedged request (Dean and Barroso, "The Tail at Scale", CACM 56(2), 2013): sent once no reply has come by the 95 %
quantile of what such requests take, if it can still make it, and within a budget of tokens.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Hashable

SHARE = 0.02
"""Of requests, that may be sent twice."""
_MOST_TOKENS = 2.0
_WINDOW = 64
_LEAST_SAMPLES = 20
_QUANTILE = 0.95


class HedgeBudget:
    """Tokens: each request earns `share` of one, a second request takes a whole one. Starts empty, so that second
    requests are never more than that share of all; saved are two at most."""

    def __init__(self, share: float = SHARE) -> None:
        self._share = share
        self._tokens = 0.0

    def earn(self) -> None:
        self._tokens = min(self._tokens + self._share, _MOST_TOKENS)

    @property
    def left(self) -> bool:
        # Fifty times a fiftieth is one, whatever rounding makes of it.
        return self._tokens >= 1 - 1e-9

    def spend(self) -> bool:
        """False: there is none."""
        if not self.left:
            return False
        self._tokens -= 1
        return True


class Hedging:
    """`action`: requests of one kind are alike in how late they are against what was expected of them."""

    def __init__(self, share: float = SHARE) -> None:
        self.budget = HedgeBudget(share)
        self._ratios: dict[Hashable, _Recent] = {}

    def took(self, action: Hashable, actual_ms: float, expected_ms: float) -> None:
        """A request was answered; or, after `actual_ms`, given up."""
        if expected_ms > 0:
            self._ratios.setdefault(action, _Recent()).add(actual_ms / expected_ms)

    def delay_ms(self, action: Hashable, expected_ms: float, left_ms: float) -> float | None:
        """When, from the sending on, a second request would be due; None: never.

        expected_ms: of either request, from sending to reply. left_ms: until the fallback timer.
        """
        recent = self._ratios.get(action)
        if recent is None or len(recent) < _LEAST_SAMPLES:
            return None
        delay_ms = recent.quantile() * expected_ms
        return delay_ms if delay_ms + expected_ms <= left_ms else None


class _Recent:
    """The last of a row of numbers, sorted."""

    def __init__(self) -> None:
        self._row: deque[float] = deque(maxlen=_WINDOW)
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._row)

    def add(self, value: float) -> None:
        if len(self._row) == _WINDOW:
            del self._sorted[bisect_left(self._sorted, self._row[0])]
        self._row.append(value)
        insort(self._sorted, value)

    def quantile(self) -> float:
        return self._sorted[min(len(self._sorted) - 1, int(_QUANTILE * len(self._sorted)))]
