"""Owns the policies to beat. Each keeps the same safety net as the adaptive one: the edge tracks what they miss."""

from __future__ import annotations

from splitmesh.errors import SettingsError
from splitmesh.policy.base import Policy, forecast
from splitmesh.policy.decision import Decision, Observation
from splitmesh.policy.energy import PowerBudget
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.rivals.net import netted
from splitmesh.policy.world import World


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
        return netted(world.by_name[self._point_name], self.name, world=world, seen=seen)


class TrackOnly:
    """The tracker for every frame; the model runs here only while there is nothing to track from."""

    name = "track"

    def decide(self, *, world: World, seen: Observation) -> Decision:
        local, track = (forecast(world.by_name[n], world, seen) for n in ("local", "track"))
        if seen.track_age_ms is None:
            return Decision(local, "nothing to track from yet", (track,))
        return Decision(track, "track", (local,))


def fixed_point(name: str) -> str:
    """The operating point that policy `name` always chooses; "" for the others."""
    return name.removeprefix("static:") if name.startswith("static:") else ""


def only_points(name: str) -> str:
    """What the names of the remote points begin with that policy `name` is held to; "" for the others."""
    return name.removeprefix("only:") if name.startswith("only:") else ""


def make_policy(
    name: str,
    points: tuple[OperatingPoint, ...],
    *,
    uplink_budget_bps: float | None = None,
    power: PowerBudget | None = None,
) -> Policy:
    """`adaptive`, `only:<beginning of operating points' names>` (adaptive among those, no whole model here),
    `local-only` (or `local`), `cloud-only` (or `cloud`: the best picture codec, always), `static:<operating point>`,
    `track`, and those after published controllers (`policy.rivals`). Budgets are kept by the adaptive ones alone.

    Raises SettingsError that lists what there is.
    """
    from splitmesh.policy.adaptive import Adaptive
    from splitmesh.policy.rivals.named import RIVALS

    names = sorted(point.name for point in points)
    if name == "adaptive":
        return Adaptive(uplink_budget_bps=uplink_budget_bps, power=power)
    if beginning := only_points(name):
        if not any(point.remote and point.name.startswith(beginning) for point in points):
            remote = ", ".join(sorted({point.name.rpartition("/")[0] for point in points if point.remote}))
            raise SettingsError(
                f"no remote operating point is called {beginning}…", key="policy", advice=f"there are {remote}"
            )
        return Adaptive(uplink_budget_bps=uplink_budget_bps, only=beginning, power=power)
    if name in ("local-only", "local"):
        return LocalOnly()
    if name in ("cloud-only", "cloud"):
        pictures = [point for point in points if point.place is Place.FRAME]
        if not pictures:
            raise SettingsError("this plan has no picture codec for cloud-only", key="policy")
        return Static(max(pictures, key=lambda p: p.fidelity).name, name="cloud-only")
    if name == "track":
        return TrackOnly()
    if name in RIVALS:
        return RIVALS[name]()
    if fixed_point(name) in names:
        return Static(fixed_point(name))
    if fixed_point(name):
        advice = f"a level between measured ones, or one of {', '.join(names)}"
        raise SettingsError(f"no operating point {name!r}", key="policy", advice=advice)
    known = "adaptive, only:<split, frame or a longer beginning>, local-only, cloud-only, static:<operating point>"
    advice = f"one of {known}, track, {', '.join(RIVALS)}"
    raise SettingsError(f"unknown policy {name!r}", key="policy", advice=advice)
