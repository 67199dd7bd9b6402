"""Owns the policies to beat. Each keeps the same safety net as the adaptive one: the edge tracks what they miss."""

from __future__ import annotations

from splitmesh.errors import SettingsError
from splitmesh.policy.base import Policy, forecast
from splitmesh.policy.decision import Decision, Forecast, Observation
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.world import World

_MAX_IN_FLIGHT_BYTES = 400_000


class LocalOnly:
    """The model here, or the most faithful that stands in for it and should make the deadline; else track. Never
    touches the bus."""

    name = "local-only"

    def decide(self, *, world: World, seen: Observation) -> Decision:
        local, track = (forecast(world.by_name[n], world, seen) for n in ("local", "track"))
        wholes = [forecast(point, world, seen) for point in world.points if point.place is Place.LOCAL]
        for whole in sorted(wholes, key=lambda f: (-f.point.fidelity, f.predicted_ms)):
            if whole.p_hit >= 0.5:
                return Decision(whole, "local-only", (track,))
        # An idle device refreshes the tracker even where no whole run can make the deadline.
        if seen.track_age_ms is None or seen.device_backlog_ms == 0:
            return Decision(local, "local-only", (track,))
        return Decision(track, f"local would take {local.predicted_ms:.0f} ms", (local,))


class Static:
    """One operating point for every frame, however the link fares; tracks when its own queue is full."""

    def __init__(self, point_name: str, *, name: str = "") -> None:
        self._point_name = point_name
        self.name = name or f"static:{point_name}"

    def decide(self, *, world: World, seen: Observation) -> Decision:
        chosen = forecast(world.by_name[self._point_name], world, seen)
        track = forecast(world.by_name["track"], world, seen)
        if reason := self._full(chosen, world, seen):
            return Decision(track, reason, (chosen,))
        return Decision(chosen, self.name, (track,))

    def _full(self, chosen: Forecast, world: World, seen: Observation) -> str:
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


def fixed_point(name: str) -> str:
    """The operating point that policy `name` always chooses; "" for the others."""
    return name.removeprefix("static:") if name.startswith("static:") else ""


def only_points(name: str) -> str:
    """What the names of the remote points begin with that policy `name` is held to; "" for the others."""
    return name.removeprefix("only:") if name.startswith("only:") else ""


def make_policy(name: str, points: tuple[OperatingPoint, ...], *, uplink_budget_bps: float | None = None) -> Policy:
    """`adaptive`, `only:<beginning of operating points' names>` (adaptive among those, no whole model here),
    `local-only` (or `local`), `cloud-only` (or `cloud`: the best picture codec, always), `static:<operating point>`.

    Raises SettingsError that lists what there is.
    """
    from splitmesh.policy.adaptive import Adaptive

    names = sorted(point.name for point in points)
    if name == "adaptive":
        return Adaptive(uplink_budget_bps=uplink_budget_bps)
    if beginning := only_points(name):
        if not any(point.remote and point.name.startswith(beginning) for point in points):
            remote = ", ".join(sorted({point.name.rpartition("/")[0] for point in points if point.remote}))
            raise SettingsError(
                f"no remote operating point is called {beginning}…", key="policy", advice=f"there are {remote}"
            )
        return Adaptive(uplink_budget_bps=uplink_budget_bps, only=beginning)
    if name in ("local-only", "local"):
        return LocalOnly()
    if name in ("cloud-only", "cloud"):
        pictures = [point for point in points if point.place is Place.FRAME]
        if not pictures:
            raise SettingsError("this plan has no picture codec for cloud-only", key="policy")
        return Static(max(pictures, key=lambda p: p.fidelity).name, name="cloud-only")
    if fixed_point(name) in names:
        return Static(fixed_point(name))
    if fixed_point(name):
        advice = f"a level between measured ones, or one of {', '.join(names)}"
        raise SettingsError(f"no operating point {name!r}", key="policy", advice=advice)
    known = "adaptive, only:<split, frame or a longer beginning>, local-only, cloud-only, static:<operating point>"
    raise SettingsError(f"unknown policy {name!r}", key="policy", advice=f"one of {known}")
