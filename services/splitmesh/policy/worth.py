"""Owns what an operating point is worth to one frame and to those behind it: expected utility, congestion as a price.

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

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from splitmesh.policy.decision import Forecast, Observation
from splitmesh.policy.moment import Moment
from splitmesh.policy.payloads import coarser_at_will, fading_in, same_stream
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
_RESUMED_FIDELITY = 0.9


@dataclass(frozen=True, slots=True)
class UplinkBudget:
    """An average payload rate to keep to, and what was spent beyond it so far."""

    per_frame_bytes: float
    debt_bytes: float


class Worth:
    """Of operating points to the frame `seen`, with what is known `now`. Asks `world`, teaches it nothing.

    incumbent: the remote point in use, None: there is none.
    """

    def __init__(
        self,
        world: World,
        now: Moment,
        seen: Observation,
        *,
        incumbent: OperatingPoint | None,
        budget: UplinkBudget | None,
    ) -> None:
        self._world = world
        self._now = now
        self._seen = seen
        self._incumbent = incumbent
        self._tracked = seen.track_carried * world.track.a_track(seen.motion, seen.track_age_ms)
        # A device slower than the camera is priced in whole runs, or it would never be allowed one.
        self._run_ms = max(seen.frame_period_ms, now.gamma_edge * world.by_name["local"].edge_ms)
        self._queued_price = _DEVICE_PRICE * seen.device_backlog_ms / self._run_ms
        """Of a run."""
        self._byte_periods = now.ms_per_byte / seen.frame_period_ms
        self._byte_price = _LINK_PRICE * now.link_backlog_ms / seen.frame_period_ms * self._byte_periods
        if budget is not None:
            self._byte_price += _LINK_PRICE * budget.debt_bytes / budget.per_frame_bytes**2

    def of_track(self, points: Sequence[OperatingPoint]) -> list[Forecast]:
        return [Forecast(point, ms, p, self._tracked) for point, ms, p in self._here(Place.TRACK, points)]

    def of_local(self, points: Sequence[OperatingPoint], *, best_remote: float, track: float) -> list[Forecast]:
        """Less what a run takes from the frames behind it: those that come while it holds the device longer than a
        frame period would be tracked, worth `track`, where they could have had a remote point worth `best_remote`.
        """
        lost = max(0.0, best_remote - track)
        made = []
        for point, ms, p in self._here(Place.LOCAL, points):
            device_ms = self._now.gamma_edge * point.edge_ms
            fresh = max(0.0, carried(point.fidelity) - self._tracked)
            utility = p * point.fidelity + (1 - p) * self._tracked + _FRESHNESS * fresh
            held = max(0.0, device_ms / self._seen.frame_period_ms - 1)
            made.append(Forecast(point, ms, p, utility - self._device_price(device_ms) - held * lost))
        return made

    def of_remote(self, place: Place, points: Sequence[OperatingPoint]) -> list[Forecast]:
        """All of `points` are at `place`, SPLIT or FRAME."""
        if not points:
            return []
        later = self._once(place, points, key=False)
        needs_key = self._world.payloads.needs_key
        keyed = [index for index, point in enumerate(points) if point.key_bytes and needs_key(point)]
        if not keyed:
            return later
        begun = [self.entering(points[index]) for index in keyed]
        firsts = self._once(place, [entering for entering, _ in begun], key=True)
        for index, (_, frames), first in zip(keyed, begun, firsts, strict=True):
            share = min(1.0, frames / self._world.payloads.key_life_frames(points[index]))
            utility = share * first.utility + (1 - share) * later[index].utility
            later[index] = Forecast(points[index], first.predicted_ms, first.p_hit, utility)
        return later

    def entering(self, point: OperatingPoint) -> tuple[OperatingPoint, float]:
        """(`point` as its stream begins, for how many frames)."""
        if not coarser_at_will(point):
            return point, 1.0
        due_ms = self._seen.budget_ms - self._now.lead_ms(point, self._seen.device_backlog_ms)
        payloads = self._world.payloads
        room = self._now.room_bytes(point, due_ms, around_bytes=payloads.around(point, key=True), key=True)
        return fading_in(point, payloads.expected(point, key=True), room)

    # -- one frame alone ------------------------------------------------------------------------------------------

    def _here(self, place: Place, points: Sequence[OperatingPoint]) -> Iterable[tuple[OperatingPoint, float, float]]:
        """(point, predicted_ms, p_hit) of points that use no link."""
        predicted_ms = [self._now.predicted_ms(point, 0.0, self._seen) for point in points]
        return zip(points, predicted_ms, self._world.p_hits(place, predicted_ms, self._seen), strict=True)

    def _once(self, place: Place, points: Sequence[OperatingPoint], *, key: bool) -> list[Forecast]:
        """Of one payload each, whatever follows it."""
        now, seen, message_bytes = self._now, self._seen, self._world.payloads.message_bytes
        sizes = [message_bytes(point, key=key) for point in points]
        predicted_ms = [now.predicted_ms(point, size, seen) for point, size in zip(points, sizes, strict=True)]
        doubt_ms = now.doubt_ms_per_byte
        late_ms = [ms + doubt_ms * size for ms, size in zip(predicted_ms, sizes, strict=True)]
        hits = self._world.p_hits(place, late_ms, seen)
        return [
            Forecast(point, ms, p, self._utility(point, size, p))
            for point, size, ms, p in zip(points, sizes, predicted_ms, hits, strict=True)
        ]

    def _utility(self, point: OperatingPoint, message_bytes: float, p: float) -> float:
        fidelity, tracked = point.fidelity, self._tracked
        price = self._byte_price * message_bytes
        beyond = self._byte_periods * message_bytes - _FREE_PERIODS
        if beyond > 0:
            price += _OWN_PRICE * beyond * beyond
        fallback = tracked
        if point.place is Place.SPLIT:
            price += self._device_price(self._now.gamma_edge * (point.edge_ms + (1 - p) * point.resume_ms))
            if fallback < _RESUMED_FIDELITY:
                fallback = _RESUMED_FIDELITY
        incumbent = self._incumbent
        # Between levels of one stream is no switch.
        if incumbent is not None and point.name != incumbent.name and not same_stream(point, incumbent):
            price += _SWITCH_COST
        fresh = carried(fidelity) - tracked
        value = fidelity + _FRESHNESS * fresh if fresh > 0 else fidelity
        return p * value + (1 - p) * fallback - price

    def _device_price(self, device_ms: float) -> float:
        runs = device_ms / self._run_ms
        return (self._queued_price + _OWN_PRICE * runs) * runs
