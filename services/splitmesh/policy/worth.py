"""Owns what an operating point is worth to one frame and to those behind it: expected utility, congestion as a price.

`U_k = P_k·A_k + (1 − P_k)·A_fallback(k) − D_e(d_k) − D_l(q_l, s_k) − λ_b·S_k − λ_e·E_k`, where `d_k` is the
device time that point k takes, `s_k` its time on the link, and `q_l` what is queued before that.

The device: while anything can be sent, a choice is charged what the frames behind lose by it
(`policy.frames_behind`), and else by its queue. That price, and the link's (`policy.sending`), is
`D(q, x) = c·q·x + c'·x²`, drift plus penalty (Neely 2010, ch. 4; there c' = c/2), in frame periods for the link, for
the device in its own whole runs if they are longer. A greedy choice would fill device and link up to the deadline and
leave nothing to the frames behind. `c'` is the smaller: what idles is almost free. `λ_b` is the price of the uplink
budget, if there is one, and `λ_e` that of energy where power has a budget (`policy.energy`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import itemgetter

from splitmesh.policy.decision import Forecast, Observation
from splitmesh.policy.energy import EnergyPrice
from splitmesh.policy.frames_behind import FramesBehind
from splitmesh.policy.moment import Moment
from splitmesh.policy.numeric.kernel import KERNEL
from splitmesh.policy.numeric.values import Costs, Valued
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.sending import FRESHNESS, OWN_PRICE, Sending
from splitmesh.policy.track_fidelity import carried
from splitmesh.policy.world import World

_LINK_PRICE = 0.06
_DEVICE_PRICE = 0.6
"""Swept from 0.05 to 1.5 in a throw-away simulation of the lab at slowdowns 4, 5 and 6: flat from 0.4 to 1."""
_QUEUE_SHARE = 0.1
"""Of the queue's price beside what the frames behind are foreseen to lose: an answer that waits is an older one."""
_STEPS_PER_PERIOD = 2
_STEPS = 7
"""Backlogs at which a cut is looked at for the frames behind."""
_UTILITY = itemgetter(3)
"""Of a `Valued`."""
_forecast = tuple.__new__
"""What the constructor of a named tuple comes down to, at half its time."""


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
        energy: EnergyPrice | None = None,
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
        self._cuts: Sending | None = None
        """Those that could be chosen, were the device free."""
        self._valued: Sequence[Valued] = ()
        """Of these, behind the backlog there is."""
        self._without = self._tracked_behind
        """Utility to frames behind of the best that needs no device."""
        self._behind: FramesBehind | None = None
        """Looked at once it matters."""
        self._byte_price = _LINK_PRICE * now.link_backlog_ms * now.ms_per_byte / seen.frame_period_ms**2
        if budget is not None:
            self._byte_price += _LINK_PRICE * budget.debt_bytes / budget.per_frame_bytes**2
        self._energy = energy
        self._ms_price = 0.0
        if energy is not None:
            self._byte_price += energy.per_byte
            self._ms_price = energy.per_device_ms

    def of_track(self, points: Sequence[OperatingPoint]) -> list[Forecast]:
        return [Forecast(point, ms, p, self._tracked) for point, ms, p in self._here(Place.TRACK, points)]

    def of_pictures(self, points: Sequence[OperatingPoint]) -> list[Forecast]:
        """All of `points` are FRAME. To be asked before the cuts are: it is what could be sent instead."""
        if not points:
            return []
        made = self._sending(Place.FRAME, points).at(0.0)
        self._sendable = True
        self._without = max(self._without, max(map(_UTILITY, made)))
        return list(map(_forecast, repeat(Forecast), made))

    def of_cuts(self, points: Sequence[OperatingPoint]) -> list[Forecast]:
        """All of `points` are SPLIT; of those whose tail still fits."""
        seen, now = self._seen, self._now
        cuts = self._sending(Place.SPLIT, points)
        if not cuts.any_fits():
            return []
        self._sendable, self._cuts = True, cuts
        self._valued = made = cuts.at(seen.device_backlog_ms)
        gamma_edge = now.gamma_edge
        # The tail is asked of the device too where no answer comes.
        device_ms = [gamma_edge * (point.edge_ms + (1 - p) * point.resume_ms) for point, _, p, _ in made]
        behind = self._behind_after(max(device_ms, default=0.0))
        course = None if behind is None else behind.course
        return list(map(_forecast, repeat(Forecast), KERNEL.charged(made, device_ms, self._costs(), course)))

    def of_local(self, points: Sequence[OperatingPoint]) -> list[Forecast]:
        """To be asked after everything remote: what could be sent sets the price of the device."""
        made = []
        for point, ms, p in self._here(Place.LOCAL, points):
            device_ms = self._now.gamma_edge * point.edge_ms
            fresh = max(0.0, carried(point.fidelity) - self._tracked)
            utility = p * point.fidelity + (1 - p) * self._tracked + FRESHNESS * fresh
            made.append(Forecast(point, ms, p, utility - self._device_price(device_ms)))
        return made

    def parts_of_key(self, point: OperatingPoint) -> float:
        """In how many payloads the key of a cut comes, if its stream begins now."""
        return 1 / self._sending(point.place, ()).part_of_key(point, self._seen.device_backlog_ms)

    def without_energy(self, f: Forecast) -> float:
        """Its utility, were energy free."""
        if self._energy is None:
            return f.utility
        sent_bytes = self._world.message_bytes(f.point) if f.point.remote else 0.0
        missed = 1 - f.p_hit if f.point.place is Place.SPLIT else 0.0
        device_ms = self._now.gamma_edge * (f.point.edge_ms + missed * f.point.resume_ms)
        return f.utility + self._energy.per_device_ms * device_ms + self._energy.per_byte * sent_bytes

    def _sending(self, place: Place, points: Sequence[OperatingPoint]) -> Sending:
        return Sending(
            self._world,
            self._now,
            self._seen,
            place,
            points,
            tracked=self._tracked,
            incumbent=self._incumbents.get(place),
            byte_price=self._byte_price,
        )

    def _here(self, place: Place, points: Sequence[OperatingPoint]) -> Iterable[tuple[OperatingPoint, float, float]]:
        """(point, predicted_ms, p_hit) of points that use no link."""
        backlog_ms = self._seen.device_backlog_ms
        predicted_ms = [self._now.predicted_ms(point, 0.0, backlog_ms) for point in points]
        return zip(points, predicted_ms, self._world.p_hits(place, predicted_ms, self._seen), strict=True)

    # -- the device -----------------------------------------------------------------------------------------------

    def _device_price(self, device_ms: float) -> float:
        runs, backlog_ms = device_ms / self._run_ms, self._seen.device_backlog_ms
        price = OWN_PRICE * runs * runs + self._ms_price * device_ms
        if not self._sendable:
            return price + self._queued_price * runs
        price += _QUEUE_SHARE * self._queued_price * runs
        behind = self._behind_after(device_ms)
        return price if behind is None else price + behind.lost(backlog_ms=backlog_ms, device_ms=device_ms)

    def _costs(self) -> Costs:
        """As `_device_price`, while anything can be sent."""
        backlog_ms, period_ms = self._seen.device_backlog_ms, self._seen.frame_period_ms
        queue_price = _QUEUE_SHARE * self._queued_price
        step_ms = period_ms / _STEPS_PER_PERIOD
        return Costs(self._run_ms, OWN_PRICE, queue_price, self._ms_price, backlog_ms, period_ms, step_ms)

    def _behind_after(self, device_ms: float) -> FramesBehind | None:
        """None: what they have to lose is not touched by a choice that takes so much of the device."""
        # If it is free again when the first of the frames behind comes, they lose nothing.
        if self._cuts is None or self._seen.device_backlog_ms + device_ms <= self._seen.frame_period_ms:
            return None
        if self._behind is None:
            self._behind = self._frames_behind(self._cuts)
        return self._behind

    def _frames_behind(self, cuts: Sending) -> FramesBehind:
        step_ms = self._seen.frame_period_ms / _STEPS_PER_PERIOD
        backlog_ms, steps = self._seen.device_backlog_ms, [index * step_ms for index in range(1, _STEPS)]
        best, values = cuts.best_when_free(self._valued, backlog_ms, steps)
        device_ms = self._now.gamma_edge * best.edge_ms
        return FramesBehind(self._seen.frame_period_ms, self._without, device_ms, tuple(values), step_ms)
