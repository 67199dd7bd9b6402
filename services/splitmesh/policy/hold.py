"""Owns hysteresis: which of several forecasts stands for all, when the best changes from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence

from splitmesh.policy.decision import Forecast
from splitmesh.policy.payloads import same_stream

_SWITCH_GAIN = 0.015
_CLEAR_GAIN = 0.06
"""A gain beyond all noise of the estimates: no reason to wait."""
_SWITCH_FRAMES = 3


class Hold:
    """Of the points of one place. A better one must stay better for some frames, unless it is better beyond doubt, or
    the one in use is likely to miss."""

    def __init__(self) -> None:
        self.incumbent = ""
        """Name of the point in use; "": none."""
        self._challenger = ""
        self._challenged = 0

    def choose(self, ranked: Sequence[Forecast], *, awaited: bool) -> tuple[Forecast | None, bool]:
        """(the one of `ranked`, best first, that stands for all; whether a better one has to wait).

        awaited: a key is under way; while the incumbent can't be chosen for it, others stand in and are not held to.
        """
        if not ranked:
            if not awaited:
                self.incumbent = self._challenger = ""
                self._challenged = 0
            return None, False
        best = ranked[0]
        incumbent = next((f for f in ranked if f.point.name == self.incumbent), None)
        if incumbent is None and awaited:
            return best, False
        if incumbent is None or incumbent.p_hit < 0.5:
            return self._take(best), False
        gain = best.utility - incumbent.utility
        if gain > _CLEAR_GAIN or same_stream(best.point, incumbent.point):
            return self._take(best), False
        if gain < _SWITCH_GAIN:
            self._challenged = 0
            return incumbent, best is not incumbent
        self._challenged = self._challenged + 1 if best.point.name == self._challenger else 1
        self._challenger = best.point.name
        if self._challenged >= _SWITCH_FRAMES:
            return self._take(best), False
        return incumbent, True

    def _take(self, best: Forecast) -> Forecast:
        self.incumbent = best.point.name
        self._challenged = 0
        return best
