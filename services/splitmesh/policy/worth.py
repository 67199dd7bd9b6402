"""Owns what an operating point is worth to one frame and to those behind it: expected utility, congestion as a price.

`U_k = P_k·A_k + (1 − P_k)·A_fallback(k) − D_e(d_k) − D_l(q_l, s_k) − λ_b·S_k − λ_s·[switch]`, where `d_k` is the
device time that point k takes, `s_k` its time on the link, and `q_l` what is queued before that.

The device: while anything can be sent, a choice is charged what the frames behind lose by it
(`policy.frames_behind`), and else by its queue. That price, and the link's, is `D(q, x) = c·q·x + c'·x²`, drift plus
penalty (Neely 2010, ch. 4; there c' = c/2), in frame periods for the link, for the device in its own whole runs if
they are longer. A greedy choice would fill device and link up to the deadline and leave nothing to the frames behind.
`c'` is the smaller: what idles is almost free. `λ_b` is the price of the uplink budget, if there is one.

A codec with state first needs a key, which is many times larger than what follows it. Its utility is the mean over
the frames that a key is expected to serve, the key's own among them: a key that will be late itself can still pay.
Where the link has no room for all of it in time, it comes in parts (`payloads.fading_in`), if its codec can do that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from splitmesh.policy.decision import Forecast, Observation
from splitmesh.policy.frames_behind import FramesBehind
from splitmesh.policy.moment import Moment
from splitmesh.policy.payloads import coarser_at_will, fading_in, same_stream
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.track_fidelity import carried
from splitmesh.policy.world import World

_LINK_PRICE = 0.06
_DEVICE_PRICE = 0.6
"""Swept from 0.05 to 1.5 in a throw-away simulation of the lab at slowdowns 4, 5 and 6: flat from 0.4 to 1."""
_OWN_PRICE = 0.03
_QUEUE_SHARE = 0.1
"""Of the queue's price beside what the frames behind are foreseen to lose: an answer that waits is an older one."""
_FREE_PERIODS = 0.5
"""Of the link's time a payload may take without a price: it has left before the next one comes, a larger one too."""
_FRESHNESS = 0.1
"""Worth of a new answer (the device's own even if it is late) to the frames that will be tracked from it."""
_SWITCH_COST = 0.004
_RESUMED_FIDELITY = 0.9
_STEPS_PER_PERIOD = 2
_STEPS = 7
"""Backlogs at which a cut is looked at for the frames behind."""


@dataclass(frozen=True, slots=True)
class UplinkBudget:
    """An average payload rate to keep to, and what was spent beyond it so far."""

    per_frame_bytes: float
    debt_bytes: float


class Worth:
    """Of operating points to the frame `seen`, with what is known `now`. Asks `world`, teaches it nothing.

    incumbents: the remote point in use of each place, if there is one.
    """

    def __init__(
        self,
        world: World,
        now: Moment,
        seen: Observation,
        *,
        incumbents: Mapping[Place, OperatingPoint | None],
        budget: UplinkBudget | None,
    ) -> None:
        self._world = world
        self._now = now
        self._seen = seen
        self._incumbents = incumbents
        self._tracked = seen.track_carried * world.track.a_track(seen.motion, seen.track_age_ms)
        track_age_ms = 2 * seen.frame_period_ms if seen.track_age_ms is None else seen.track_age_ms
        self._tracked_behind = world.track.a_track(seen.motion, track_age_ms)
        """What a frame behind has if it is tracked: from an answer to this one, if there is none yet."""
        # A device slower than the camera is priced in whole runs, or it would never be allowed one.
        self._run_ms = max(seen.frame_period_ms, now.gamma_edge * world.by_name["local"].edge_ms)
        self._queued_price = _DEVICE_PRICE * seen.device_backlog_ms / self._run_ms
        """Of a run."""
        self._sendable = False
        self._cuts: Sequence[OperatingPoint] = ()
        """Those that could be chosen, were the device free."""
        self._free: Sequence[Forecast] = ()
        """Of these, then; where it is free."""
        self._without = self._tracked_behind
        """Utility to frames behind of the best that needs no device."""
        self._behind: FramesBehind | None = None
        """Looked at once it matters."""
        self._byte_periods = now.ms_per_byte / seen.frame_period_ms
        self._byte_price = _LINK_PRICE * now.link_backlog_ms / seen.frame_period_ms * self._byte_periods
        if budget is not None:
            self._byte_price += _LINK_PRICE * budget.debt_bytes / budget.per_frame_bytes**2

    def of_track(self, points: Sequence[OperatingPoint]) -> list[Forecast]:
        return [Forecast(point, ms, p, self._tracked) for point, ms, p in self._here(Place.TRACK, points)]

    def of_pictures(self, points: Sequence[OperatingPoint]) -> list[Forecast]:
        """All of `points` are FRAME. To be asked before the cuts are: it is what could be sent instead."""
        if not points:
            return []
        made = self._remote(Place.FRAME, points, 0.0)
        self._sendable = True
        self._without = max(self._without, max(f.utility for f in made))
        return made

    def of_cuts(self, points: Sequence[OperatingPoint]) -> list[Forecast]:
        """All of `points` are SPLIT; of those whose tail still fits."""
        seen, now = self._seen, self._now
        fitting = [point for point in points if now.resumable(point, 0.0, seen.budget_ms)]
        if not fitting:
            return []
        self._sendable = True
        self._cuts = fitting
        if seen.device_backlog_ms > 0:
            fitting = [point for point in fitting if now.resumable(point, seen.device_backlog_ms, seen.budget_ms)]
        made = self._remote(Place.SPLIT, fitting, seen.device_backlog_ms)
        if not seen.device_backlog_ms:
            self._free = made
        gamma_edge, price = now.gamma_edge, self._device_price
        # The tail is asked of the device too where no answer comes.
        return [
            Forecast(point, ms, p, utility - price(gamma_edge * (point.edge_ms + (1 - p) * point.resume_ms)))
            for point, ms, p, utility in made
        ]

    def of_local(self, points: Sequence[OperatingPoint]) -> list[Forecast]:
        """To be asked after everything remote: what could be sent sets the price of the device."""
        made = []
        for point, ms, p in self._here(Place.LOCAL, points):
            device_ms = self._now.gamma_edge * point.edge_ms
            fresh = max(0.0, carried(point.fidelity) - self._tracked)
            utility = p * point.fidelity + (1 - p) * self._tracked + _FRESHNESS * fresh
            made.append(Forecast(point, ms, p, utility - self._device_price(device_ms)))
        return made

    # -- streams --------------------------------------------------------------------------------------------------

    def entering(self, point: OperatingPoint, device_backlog_ms: float | None = None) -> tuple[OperatingPoint, float]:
        """(`point` as its stream begins, for how many frames)."""
        if not coarser_at_will(point):
            return point, 1.0
        backlog_ms = self._seen.device_backlog_ms if device_backlog_ms is None else device_backlog_ms
        due_ms = self._seen.budget_ms - self._now.lead_ms(point, backlog_ms)
        payloads = self._world.payloads
        room = self._now.room_bytes(point, due_ms, around_bytes=payloads.around(point, key=True), key=True)
        return fading_in(point, payloads.expected(point, key=True), room)

    def _remote(self, place: Place, points: Sequence[OperatingPoint], device_backlog_ms: float) -> list[Forecast]:
        """All of `points` are at `place`. Without what they take of the device."""
        if not points:
            return []
        made = self._once(place, points, device_backlog_ms, key=False)
        needs_key = self._world.payloads.needs_key
        keyed = [index for index, point in enumerate(points) if point.key_bytes and needs_key(point)]
        if not keyed:
            return made
        entering = [self.entering(points[index], device_backlog_ms) for index in keyed]
        firsts = self._once(place, [point for point, _ in entering], device_backlog_ms, key=True)
        lasting = self._lasting(place, [points[index] for index in keyed], device_backlog_ms)
        better = self._better_than_lasting(place, made, keyed, device_backlog_ms)
        for index, (_, frames), first, lasts in zip(keyed, entering, firsts, lasting, strict=True):
            utility = better + self._mean_over_life(points[index], frames, first.utility, lasts)
            made[index] = Forecast(points[index], first.predicted_ms, first.p_hit, utility)
        return made

    def _mean_over_life(self, point: OperatingPoint, frames: float, first: float, lasts: float) -> float:
        """Of a stream that begins: `first` for `frames`, nothing new while its key is in the way, then `lasts`."""
        payloads, blocked = self._world.payloads, 0.0
        if not coarser_at_will(point):
            blocked = max(0.0, payloads.message_bytes(point, key=True) * self._byte_periods - 1)
        life = max(payloads.key_life_frames(point), frames + blocked)
        return (frames * first + blocked * self._tracked + (life - frames - blocked) * lasts) / life

    def _better_than_lasting(
        self, place: Place, made: Sequence[Forecast], keyed: Sequence[int], device_backlog_ms: float
    ) -> float:
        """What the point in use has now, beyond what it has in the long run. A stream that is to take its place is
        held against the latter: what queues before both at this moment is no reason to change."""
        incumbent = self._incumbents.get(place)
        for index, forecast in enumerate(made):
            if incumbent is not None and forecast.point.name == incumbent.name and index not in keyed:
                return forecast.utility - self._lasting(place, [forecast.point], device_backlog_ms)[0]
        return 0.0

    def _lasting(self, place: Place, points: Sequence[OperatingPoint], device_backlog_ms: float) -> list[float]:
        """Utility of each in the long run: nothing queues on the link, and what it can't carry is tracked."""
        now, byte_price = self._now, self._byte_price
        self._now, self._byte_price = replace(now, link_backlog_ms=0.0, stalled_ms=0.0), 0.0
        utilities = [f.utility for f in self._once(place, points, device_backlog_ms, key=False)]
        self._now, self._byte_price = now, byte_price
        periods = [self._world.payloads.message_bytes(p, key=False) * self._byte_periods for p in points]
        shares = [1 / max(1.0, each) for each in periods]
        return [s * u + (1 - s) * self._tracked for s, u in zip(shares, utilities, strict=True)]

    # -- one frame alone ------------------------------------------------------------------------------------------

    def _here(self, place: Place, points: Sequence[OperatingPoint]) -> Iterable[tuple[OperatingPoint, float, float]]:
        """(point, predicted_ms, p_hit) of points that use no link."""
        backlog_ms = self._seen.device_backlog_ms
        predicted_ms = [self._now.predicted_ms(point, 0.0, backlog_ms) for point in points]
        return zip(points, predicted_ms, self._world.p_hits(place, predicted_ms, self._seen), strict=True)

    def _once(
        self, place: Place, points: Sequence[OperatingPoint], device_backlog_ms: float, *, key: bool
    ) -> list[Forecast]:
        """Of one payload each, whatever follows it."""
        sizes = self._world.payloads.all_message_bytes(points, key=key)
        predicted_ms = self._now.all_predicted_ms(points, sizes, [device_backlog_ms] * len(sizes))
        doubt_ms = self._now.doubt_ms_per_byte
        late_ms = [ms + doubt_ms * size for ms, size in zip(predicted_ms, sizes, strict=True)]
        hits = self._world.p_hits(place, late_ms, self._seen)
        utilities = self._utilities(place, points, sizes, hits)
        return list(map(Forecast, points, predicted_ms, hits, utilities))

    def _utilities(
        self, place: Place, points: Sequence[OperatingPoint], sizes: Sequence[float], hits: Sequence[float]
    ) -> list[float]:
        """sizes: of messages. hits: P(result within the budget)."""
        tracked, incumbent = self._tracked, self._incumbents.get(place)
        byte_price, byte_periods = self._byte_price, self._byte_periods
        fallback = max(tracked, _RESUMED_FIDELITY) if place is Place.SPLIT else tracked
        made = []
        for point, size, p in zip(points, sizes, hits, strict=True):
            price = byte_price * size
            beyond = byte_periods * size - _FREE_PERIODS
            if beyond > 0:
                price += _OWN_PRICE * beyond * beyond
            # Between levels of one stream is no switch.
            if incumbent is not None and point.name != incumbent.name and not same_stream(point, incumbent):
                price += _SWITCH_COST
            value = point.fidelity
            fresh = carried(value) - tracked
            if fresh > 0:
                value += _FRESHNESS * fresh
            made.append(p * value + (1 - p) * fallback - price)
        return made

    # -- the device -----------------------------------------------------------------------------------------------

    def _device_price(self, device_ms: float) -> float:
        runs = device_ms / self._run_ms
        price = _OWN_PRICE * runs * runs
        if not self._sendable:
            return price + self._queued_price * runs
        return price + _QUEUE_SHARE * self._queued_price * runs + self._lost(device_ms)

    def _lost(self, device_ms: float) -> float:
        """By the frames behind, if the device is promised that much more."""
        # If it is free again when the first of them comes, they lose nothing.
        if not self._cuts or self._seen.device_backlog_ms + device_ms <= self._seen.frame_period_ms:
            return 0.0
        if self._behind is None:
            self._behind = self._frames_behind()
        return self._behind.lost(backlog_ms=self._seen.device_backlog_ms, device_ms=device_ms)

    def _frames_behind(self) -> FramesBehind:
        free = self._free or self._remote(Place.SPLIT, self._cuts, 0.0)
        best = max(free, key=_utility)
        period_ms, budget_ms = self._seen.frame_period_ms, self._seen.budget_ms
        step_ms = period_ms / _STEPS_PER_PERIOD
        backlogs_ms = [index * step_ms for index in range(1, _STEPS)]
        values = [best.utility]
        for backlog_ms, utility in zip(backlogs_ms, self._behind_backlogs(best, backlogs_ms), strict=True):
            values.append(utility if self._now.resumable(best.point, backlog_ms, budget_ms) else 0.0)
        device_ms = self._now.gamma_edge * best.point.edge_ms
        return FramesBehind(period_ms, self._without, device_ms, tuple(values), step_ms)

    def _behind_backlogs(self, free: Forecast, backlogs_ms: Sequence[float]) -> list[float]:
        """Utility of a cut where the device is free only then. What its stream costs to begin is the same."""
        points = [free.point] * (len(backlogs_ms) + 1)
        sizes = self._world.payloads.all_message_bytes(points, key=False)
        doubt_ms = self._now.doubt_ms_per_byte * sizes[0]
        predicted_ms = self._now.all_predicted_ms(points, sizes, (0.0, *backlogs_ms))
        hits = self._world.p_hits(Place.SPLIT, [ms + doubt_ms for ms in predicted_ms], self._seen)
        at_once, *later = self._utilities(Place.SPLIT, points, sizes, hits)
        return [free.utility - at_once + utility for utility in later]


def _utility(f: Forecast) -> float:
    return f.utility
