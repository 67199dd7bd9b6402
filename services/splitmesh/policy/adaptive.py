"""Owns the adaptive policy: the operating point of highest expected utility among those that may be chosen.

What a point is worth is `policy.worth`'s; here is what may be chosen, and how long to hold to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from splitmesh.policy.decision import Decision, Forecast, Observation
from splitmesh.policy.moment import Moment
from splitmesh.policy.payloads import Reference, same_stream
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.world import World
from splitmesh.policy.worth import UplinkBudget, Worth

_SWITCH_GAIN = 0.015
_CLEAR_GAIN = 0.06
"""A gain beyond all noise of the estimates: no reason to wait."""
_SWITCH_FRAMES = 3
_SHOWN = 4
_STALL_MS = 30.0
_SPARE_NS = 20_000_000


class Adaptive:
    """`uplink_budget_bps`: average payload rate to keep to; None: only the link itself is the limit.

    only: what the names of remote points begin with that alone may be chosen; the whole model then runs here only
    while none of them can be. "": any point.
    """

    def __init__(self, *, uplink_budget_bps: float | None = None, only: str = "") -> None:
        self.name = f"only:{only}" if only else "adaptive"
        self._only = only
        self._budget_bps = uplink_budget_bps
        self._budget_debt_bytes = 0.0
        self._incumbent = ""
        self._challenger = ""
        self._challenged = 0
        self._keys_due_ns: dict[tuple[str, str], int] = {}
        """By cut and codec: until when a key that was decided on may still be on its way to the link."""

    def decide(self, *, world: World, seen: Observation) -> Decision:
        world.breaker.tick(seen.now_ns)
        now = world.at(seen.now_ns)
        coming = self._coming(world, seen.now_ns)
        awaited = self._awaited(world, coming)
        worth = Worth(
            world, now, seen, incumbent=world.by_name.get(self._incumbent), budget=self._budget(seen.frame_period_ms)
        )
        points = self._remote_points(world, now, seen, coming, awaited=awaited)
        remotes: list[Forecast] = []
        for place in (Place.SPLIT, Place.FRAME):
            remotes += worth.of_remote(place, [point for point in points if point.place is place])
        remotes.sort(key=_by_utility)
        here = self._here(worth, world, seen, remotes)
        kept, held = self._hold(remotes, awaited=awaited)
        ranked = sorted(here + ([kept] if kept else []), key=_by_utility)
        best = ranked[0]
        self._pay(best.point, world, seen)
        self._promise(best.point, world, seen)
        runners = sorted((f for f in here + remotes[: _SHOWN + 1] if f is not best), key=_by_utility)[:_SHOWN]
        reason = _reason(best, ranked, worth, world) + (", held by hysteresis" if held and best.point.remote else "")
        return Decision(best, reason + _trouble(world, now), tuple(runners))

    # -- what may be chosen ---------------------------------------------------------------------------------------

    def _remote_points(
        self, world: World, now: Moment, seen: Observation, coming: set[tuple[str, str]], *, awaited: bool
    ) -> list[OperatingPoint]:
        """No stream whose key is under way, nor one that would need a key while another's is awaited."""
        if not world.breaker.closed or now.stalled_ms > _STALL_MS:
            return []
        needs_key, only = world.payloads.needs_key, self._only
        return [
            point
            for point in world.points
            if (point.place is Place.FRAME or (point.place is Place.SPLIT and now.resumable(point, seen)))
            and not (point.key_bytes and ((point.cut, point.codec) in coming or (awaited and needs_key(point))))
            and (not only or point.name.startswith(only))
        ]

    def _here(self, worth: Worth, world: World, seen: Observation, remotes: Sequence[Forecast]) -> list[Forecast]:
        """The forecasts of all that needs no link. remotes: best first."""
        tracks = [point for point in world.points if point.place is Place.TRACK and seen.track_age_ms is not None]
        forecasts = worth.of_track(tracks)
        if self._only and remotes:
            return forecasts
        wholes = [point for point in world.points if point.place is Place.LOCAL]
        best_remote = remotes[0].utility if remotes else 0.0
        track = max((f.utility for f in forecasts), default=best_remote)
        return forecasts + worth.of_local(wholes, best_remote=best_remote, track=track)

    # -- the uplink budget ----------------------------------------------------------------------------------------

    def _budget(self, frame_period_ms: float) -> UplinkBudget | None:
        if not self._budget_bps:
            return None
        return UplinkBudget(self._budget_bps / 8 * frame_period_ms / 1000, self._budget_debt_bytes)

    def _pay(self, point: OperatingPoint, world: World, seen: Observation) -> None:
        if self._budget_bps:
            income = self._budget_bps / 8 * seen.frame_period_ms / 1000
            spent = world.message_bytes(point) if point.remote else 0.0
            self._budget_debt_bytes = max(0.0, self._budget_debt_bytes + spent - income)

    # -- hysteresis among the remote points -----------------------------------------------------------------------

    def _hold(self, remotes: Sequence[Forecast], *, awaited: bool) -> tuple[Forecast | None, bool]:
        """(the one of `remotes`, best first, that stands for all; whether a better one has to wait)."""
        if not remotes:
            if not awaited:
                self._incumbent = self._challenger = ""
                self._challenged = 0
            return None, False
        best = remotes[0]
        incumbent = next((f for f in remotes if f.point.name == self._incumbent), None)
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

    def _awaited(self, world: World, coming: set[tuple[str, str]]) -> bool:
        """The incumbent's key is under way: others stand in for it until it is there, and are not held to."""
        incumbent = world.by_name.get(self._incumbent)
        return incumbent is not None and bool(incumbent.key_bytes) and (incumbent.cut, incumbent.codec) in coming

    def _coming(self, world: World, now_ns: int) -> set[tuple[str, str]]:
        """The streams, by cut and codec, whose key is under way, or decided on and not sent yet."""
        coming = world.payloads.streams(Reference.COMING)
        for stream, due_ns in self._keys_due_ns.items():
            if now_ns < due_ns and world.payloads.reference_of(stream) is Reference.NONE:
                coming.add(stream)
        return coming

    def _promise(self, point: OperatingPoint, world: World, seen: Observation) -> None:
        """If this frame will bring a key, the next ones need not bring theirs while it is made."""
        if point.remote and world.payloads.reference(point) is Reference.NONE:
            lead_ms = seen.device_backlog_ms + world.edge_ms(point.edge_ms) + world.encode_ms(point)
            self._keys_due_ns[point.cut, point.codec] = seen.now_ns + int(lead_ms * 1e6) + _SPARE_NS

    def _take(self, best: Forecast) -> Forecast:
        self._incumbent = best.point.name
        self._challenged = 0
        return best


def _reason(best: Forecast, ranked: Sequence[Forecast], worth: Worth, world: World) -> str:
    why = f"utility {best.utility:.3f}"
    if len(ranked) > 1:
        why += f" against {ranked[1].utility:.3f} of {ranked[1].point.name}"
    if best.point.remote and world.payloads.needs_key(best.point):
        key, later = (world.payloads.expected(best.point, key=each) / 1e3 for each in (True, False))
        frames = worth.entering(best.point)[1]
        parts = f" in {math.ceil(frames)} parts" if frames > 1 else ""
        why += f", a key of {key:.1f} kB{parts} first, then {later:.1f} kB a frame"
    return why


def _trouble(world: World, now: Moment) -> str:
    """Why no remote point may be chosen; "" if that is not so."""
    if not world.breaker.closed:
        return f"; breaker {world.breaker.state}: {world.breaker.reason}"
    return f"; link stalled for {now.stalled_ms:.0f} ms" if now.stalled_ms > _STALL_MS else ""


def _by_utility(f: Forecast) -> tuple[float, str]:
    return -f.utility, f.point.name
