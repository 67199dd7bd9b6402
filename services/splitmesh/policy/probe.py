"""Owns when the edge may send something only to learn: bounded in bytes, one at a time, never for an open frame."""

from __future__ import annotations

from splitmesh.policy.breaker import BreakerState
from splitmesh.policy.world import World

_SHARE_OF_LINK = 0.01
_SILENT_NS = 1_000_000_000
_FLOOR_INTERVAL_NS = 2_000_000_000
_OPEN_INTERVAL_NS = 1_000_000_000
_HALF_OPEN_INTERVAL_NS = 150_000_000


class ProbeSchedule:
    """Says whether a probe of `size_bytes` may go now.

    Closed: only if no reply taught us anything for a second, and within 1 % of the link's estimated capacity, yet at
    least one every two seconds. Open: one a second (the broker may be back before any heartbeat is). Half-open: as
    soon as the last one is back, because frames wait for the verdict.
    """

    def __init__(self) -> None:
        self._last_ns = -(10**18)
        self._out = False

    def due(self, world: World, size_bytes: float, now_ns: int) -> bool:
        if self._out:
            return False
        since_ns = now_ns - self._last_ns
        if world.breaker.state is BreakerState.OPEN:
            return since_ns >= _OPEN_INTERVAL_NS
        if world.breaker.state is BreakerState.HALF_OPEN:
            return since_ns >= _HALF_OPEN_INTERVAL_NS
        if now_ns - world.last_sample_ns < _SILENT_NS:
            return False
        earned_ns = size_bytes * 8 / (world.link.bandwidth_bps * _SHARE_OF_LINK) * 1e9
        return since_ns >= min(earned_ns, _FLOOR_INTERVAL_NS)

    def sent(self, now_ns: int) -> None:
        self._last_ns = now_ns
        self._out = True

    def back(self) -> None:
        """It was answered, refused or given up."""
        self._out = False
