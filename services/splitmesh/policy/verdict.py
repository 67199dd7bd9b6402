"""Owns the verdict on one offer: breaker and lateness learn exactly once whether it made its deadline."""

from __future__ import annotations

from splitmesh.policy.estimators import CENSORED
from splitmesh.policy.point import Place
from splitmesh.policy.world import World


class Verdict:
    """Times are ns of the clock that `world` is told. `probe`: nothing is learnt about lateness."""

    def __init__(
        self, world: World, place: Place, *, decided_ns: int, deadline_ns: int, predicted_ms: float, probe: bool
    ) -> None:
        self._world = world
        self._place = place
        self._decided_ns = decided_ns
        self._deadline_ns = deadline_ns
        self._predicted_ms = predicted_ms
        self._probe = probe
        self._promised = probe or decided_ns + predicted_ms * 1e6 <= deadline_ns
        """It was expected in time. A key that is sent for the frames to come need not be, and then breaks nothing."""
        self._given = False

    def answered(self, now_ns: int) -> None:
        if self._given:
            return
        self._give(now_ns, 1.0)
        if now_ns <= self._deadline_ns:
            self._world.breaker.on_success(now_ns)
        elif self._promised:
            self._world.breaker.on_miss(now_ns)

    def deadline_passed(self, now_ns: int) -> None:
        if not self._given and self._promised:
            self._give(now_ns, CENSORED)
            self._world.breaker.on_miss(now_ns)

    def failed(self, now_ns: int) -> None:
        """No answer will come: nothing is learnt about lateness."""
        self.refused(now_ns, of_peer=True)

    def refused(self, now_ns: int, *, of_peer: bool) -> None:
        """`of_peer`: the worker, or the lack of one, is the trouble, and not this request."""
        if not self._given:
            self._given = True
            if of_peer:
                self._world.breaker.on_miss(now_ns)

    def _give(self, now_ns: int, factor: float) -> None:
        self._given = True
        if not self._probe:
            actual_ms = factor * (now_ns - self._decided_ns) / 1e6
            self._world.on_result(self._place, actual_ms, self._predicted_ms, now_ns)
