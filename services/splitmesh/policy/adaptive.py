"""Owns the adaptive policy: the operating point of highest expected utility, with congestion as a price.

`U_k = P_k·A_k + (1 − P_k)·A_fallback(k) − D_e(q_e, d_k) − D_l(q_l, s_k) − λ_b·S_k − λ_s·[switch]`, where `d_k` is the
device time that point k takes, `s_k` its time on the link, and `q_e`, `q_l` what is queued before them.
`D(q, x) = c·q·x + c'·x²` are drift-plus-penalty prices (Neely 2010, ch. 4; there c' = c/2), in frame periods for the
link, for the device in its own whole runs if they are longer. A greedy choice would fill device and link up to the
deadline and leave nothing to the frames behind. `c'` is the smaller: what idles is almost free. `λ_b` is the price
of the uplink budget, if there is one.

A local run that takes longer than a frame period is charged for the frames that it keeps from the device.

A codec with state first needs a key, which is many times larger than what follows it. Its utility is the mean over
the frames that a key is expected to serve, the key's own among them: a key that will be late itself can still pay.
Where the link has no room for all of it in time, it comes in parts (`payloads.fading_in`), if its codec can do that.
"""

from __future__ import annotations

import math
from dataclasses import replace

from splitmesh.policy.base import forecast
from splitmesh.policy.decision import Decision, Forecast, Observation
from splitmesh.policy.payloads import Reference, coarser_at_will, fading_in, same_stream
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.track_fidelity import carried
from splitmesh.policy.world import World

_LINK_PRICE = 0.06
_DEVICE_PRICE = 0.6
"""Swept from 0.05 to 1.5 in a throw-away simulation of the lab at slowdowns 4, 5 and 6: flat from 0.4 to 1."""
_OWN_PRICE = 0.03
_FREE_PERIODS = 0.5
"""Of the link's time a payload may take without a price: it has left before the next one comes, a larger one too."""
_FRESHNESS = 0.1
"""Worth of a new answer (the device's own even if it is late) to the frames that will be tracked from it."""
_SWITCH_COST = 0.004
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
        eligible = [point for point in world.points if self._eligible(point, world, seen)]
        if self._only and any(point.remote for point in eligible):
            eligible = [point for point in eligible if point.place is not Place.LOCAL]
        forecasts = [self._forecast(point, world, seen) for point in eligible]
        remotes = [f for f in forecasts if f.point.remote]
        forecasts = [_charged(f, forecasts, world, seen) for f in forecasts]
        kept, held = self._hold(remotes, world, seen)
        here = [f for f in forecasts if not f.point.remote]
        ranked = sorted(here + ([kept] if kept else []), key=_by_utility)
        best = ranked[0]
        self._pay(best.point, world, seen)
        self._promise(best.point, world, seen)
        runners = sorted((f for f in forecasts if f is not best), key=_by_utility)[:_SHOWN]
        return Decision(best, self._reason(best, ranked, held, world, seen), tuple(runners))

    # -- what may be chosen ---------------------------------------------------------------------------------------

    def _eligible(self, point: OperatingPoint, world: World, seen: Observation) -> bool:
        if point.place is Place.TRACK:
            return seen.track_age_ms is not None
        if point.place is Place.LOCAL:
            return True
        if not point.name.startswith(self._only):
            return False
        if not world.breaker.closed or world.link.view(seen.now_ns).stalled_ms > _STALL_MS:
            return False
        if self._comes(point, world, seen) or (world.payloads.needs_key(point) and self._awaited(world, seen)):
            return False
        return point.place is Place.FRAME or world.resumable(point, seen)

    # -- what it is worth -----------------------------------------------------------------------------------------

    def _forecast(self, point: OperatingPoint, world: World, seen: Observation) -> Forecast:
        if not point.remote or not world.payloads.needs_key(point):
            return self._once(point, world, seen, key=False)
        life = world.payloads.key_life_frames(point)
        entering, frames = self._entering(point, world, seen)
        first = self._once(entering, world, seen, key=True)
        later = self._once(point, world, seen, key=False)
        share = min(1.0, frames / life)
        return Forecast(point, first.predicted_ms, first.p_hit, share * first.utility + (1 - share) * later.utility)

    def _entering(self, point: OperatingPoint, world: World, seen: Observation) -> tuple[OperatingPoint, float]:
        """(`point` as its stream begins, for how many frames)."""
        if not coarser_at_will(point):
            return point, 1.0
        lead_ms = seen.device_backlog_ms + world.edge_ms(point.edge_ms) + world.encode_ms(point)
        room = world.room_bytes(point, seen.budget_ms - lead_ms, seen.now_ns, key=True)
        return fading_in(point, world.payloads.expected(point, key=True), room)

    def _once(self, point: OperatingPoint, world: World, seen: Observation, *, key: bool) -> Forecast:
        """For one frame. key: of a codec with state, its payload builds on nothing."""
        plain = forecast(point, world, seen, key=key)
        p = plain.p_hit
        tracked = seen.track_carried * world.track.a_track(seen.motion, seen.track_age_ms)
        if point.place is Place.TRACK:
            return Forecast(point, plain.predicted_ms, p, tracked)
        device_ms = 0.0
        fallback = tracked
        if point.place is Place.LOCAL:
            device_ms = world.edge_ms(point.edge_ms)
        elif point.place is Place.SPLIT:
            resume_ms = world.edge_ms(point.resume_ms)
            device_ms = world.edge_ms(point.edge_ms) + (1 - p) * resume_ms
            fallback = max(fallback, 0.9)
        fresh = max(0.0, carried(point.fidelity) - tracked)
        utility = p * point.fidelity + (1 - p) * fallback + (p if point.remote else 1.0) * _FRESHNESS * fresh
        utility -= self._congestion(point, device_ms, world, seen, key=key)
        if point.remote and self._switches(point, world):
            utility -= _SWITCH_COST
        return Forecast(point, plain.predicted_ms, p, utility)

    def _switches(self, point: OperatingPoint, world: World) -> bool:
        """Between levels of one stream is no switch."""
        incumbent = world.by_name.get(self._incumbent)
        return incumbent is not None and point.name != incumbent.name and not same_stream(point, incumbent)

    def _congestion(
        self, point: OperatingPoint, device_ms: float, world: World, seen: Observation, *, key: bool
    ) -> float:
        tau = seen.frame_period_ms
        # A device slower than the camera is priced in whole runs, or it would never be allowed one.
        run_ms = max(tau, world.edge_ms(world.by_name["local"].edge_ms))
        cost = _drift(_DEVICE_PRICE, seen.device_backlog_ms / run_ms, device_ms / run_ms)
        if point.remote:
            size = world.message_bytes(point, key=key)
            backlog_ms = world.link.view(seen.now_ns).backlog_ms
            periods = world.link.transfer_ms(size) / tau
            cost += _LINK_PRICE * backlog_ms / tau * periods + _OWN_PRICE * max(0.0, periods - _FREE_PERIODS) ** 2
            if self._budget_bps:
                per_frame_bytes = self._budget_bps / 8 * tau / 1000
                cost += _LINK_PRICE * (self._budget_debt_bytes / per_frame_bytes) * (size / per_frame_bytes)
        return cost

    def _pay(self, point: OperatingPoint, world: World, seen: Observation) -> None:
        if self._budget_bps:
            income = self._budget_bps / 8 * seen.frame_period_ms / 1000
            spent = world.message_bytes(point) if point.remote else 0.0
            self._budget_debt_bytes = max(0.0, self._budget_debt_bytes + spent - income)

    # -- hysteresis among the remote points -----------------------------------------------------------------------

    def _hold(self, remotes: list[Forecast], world: World, seen: Observation) -> tuple[Forecast | None, bool]:
        """(the remote forecast that stands for all, whether a better one has to wait)."""
        if not remotes:
            if not self._awaited(world, seen):
                self._incumbent = self._challenger = ""
                self._challenged = 0
            return None, False
        best = min(remotes, key=_by_utility)
        incumbent = next((f for f in remotes if f.point.name == self._incumbent), None)
        if incumbent is None and self._awaited(world, seen):
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

    def _awaited(self, world: World, seen: Observation) -> bool:
        """The incumbent's key is under way: others stand in for it until it is there, and are not held to."""
        return bool(self._incumbent) and self._comes(world.by_name[self._incumbent], world, seen)

    def _comes(self, point: OperatingPoint, world: World, seen: Observation) -> bool:
        """A key of that stream is under way, or decided on and not sent yet."""
        reference = world.payloads.reference(point)
        if reference is not Reference.NONE:
            return reference is Reference.COMING
        return seen.now_ns < self._keys_due_ns.get((point.cut, point.codec), 0)

    def _promise(self, point: OperatingPoint, world: World, seen: Observation) -> None:
        """If this frame will bring a key, the next ones need not bring theirs while it is made."""
        if point.remote and world.payloads.reference(point) is Reference.NONE:
            lead_ms = seen.device_backlog_ms + world.edge_ms(point.edge_ms) + world.encode_ms(point)
            self._keys_due_ns[point.cut, point.codec] = seen.now_ns + int(lead_ms * 1e6) + _SPARE_NS

    def _take(self, best: Forecast) -> Forecast:
        self._incumbent = best.point.name
        self._challenged = 0
        return best

    # -- why ------------------------------------------------------------------------------------------------------

    def _reason(self, best: Forecast, ranked: list[Forecast], held: bool, world: World, seen: Observation) -> str:
        why = f"utility {best.utility:.3f}"
        if len(ranked) > 1:
            why += f" against {ranked[1].utility:.3f} of {ranked[1].point.name}"
        if best.point.remote and world.payloads.needs_key(best.point):
            key, later = (world.payloads.expected(best.point, key=each) / 1e3 for each in (True, False))
            frames = self._entering(best.point, world, seen)[1]
            parts = f" in {math.ceil(frames)} parts" if frames > 1 else ""
            why += f", a key of {key:.1f} kB{parts} first, then {later:.1f} kB a frame"
        if held and best.point.remote:
            why += ", held by hysteresis"
        if not world.breaker.closed:
            why += f"; breaker {world.breaker.state}: {world.breaker.reason}"
        elif (stalled_ms := world.link.view(seen.now_ns).stalled_ms) > _STALL_MS:
            why += f"; link stalled for {stalled_ms:.0f} ms"
        return why


def _charged(f: Forecast, forecasts: list[Forecast], world: World, seen: Observation) -> Forecast:
    """A LOCAL forecast less what its run takes from the frames behind it: those that come while it holds the device
    longer than a frame period would be tracked, where they could have had the best remote point.
    """
    if f.point.place is not Place.LOCAL:
        return f
    held = max(0.0, world.edge_ms(f.point.edge_ms) / seen.frame_period_ms - 1)
    remote = max((each.utility for each in forecasts if each.point.remote), default=0.0)
    tracked = max((each.utility for each in forecasts if each.point.place is Place.TRACK), default=remote)
    return replace(f, utility=f.utility - held * max(0.0, remote - tracked))


def _drift(price: float, queued: float, added: float) -> float:
    """`c·q·x + c'·x²`."""
    return price * queued * added + _OWN_PRICE * added * added


def _by_utility(f: Forecast) -> tuple[float, str]:
    return -f.utility, f.point.name
