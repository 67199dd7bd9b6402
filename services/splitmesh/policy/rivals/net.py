"""Owns the safety net below every policy to beat: a full queue means that the tracker answers."""

from __future__ import annotations

from collections.abc import Sequence

from splitmesh.policy.base import forecast
from splitmesh.policy.decision import Decision, Forecast, Observation
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.world import World

_MAX_IN_FLIGHT_BYTES = 400_000
_SHOWN = 3


def netted(
    point: OperatingPoint, reason: str, *, world: World, seen: Observation, others: Sequence[OperatingPoint] = ()
) -> Decision:
    """`point`, or "track" if the queue that it joins is full. others: the best, best first; `point` may be one."""
    chosen = forecast(point, world, seen)
    track = forecast(world.by_name["track"], world, seen)
    if full := queue_full(chosen, world, seen):
        return Decision(track, full, (chosen,))
    next_best = [other for other in others if other is not point][:_SHOWN]
    return Decision(chosen, reason, (*(forecast(other, world, seen) for other in next_best), track))


def queue_full(chosen: Forecast, world: World, seen: Observation) -> str:
    """Why the tracker should answer instead; "" while there is room, or nothing to track from."""
    if seen.track_age_ms is None:
        return ""
    point = chosen.point
    if point.remote and world.link.in_flight_bytes > _MAX_IN_FLIGHT_BYTES:
        return f"{world.link.in_flight_bytes} bytes are unacknowledged"
    if point.place is Place.LOCAL and seen.device_backlog_ms > 0 and chosen.p_hit < 0.5:
        return f"the device is busy for {seen.device_backlog_ms:.0f} ms"
    if point.place is Place.SPLIT and seen.device_backlog_ms > 0 and not world.resumable(point, seen):
        return f"the device is busy for {seen.device_backlog_ms:.0f} ms: the tail would not fit any more"
    return ""
