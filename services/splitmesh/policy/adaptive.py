"""Owns the adaptive policy: the operating point of highest expected utility among those that may be chosen.

What a point is worth is `policy.worth`'s; here is what may be chosen, and how long to hold to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from operator import attrgetter

from splitmesh.policy.decision import Decision, Forecast, Observation
from splitmesh.policy.energy import EnergyPrice, PowerAccount, PowerBudget
from splitmesh.policy.hold import Hold
from splitmesh.policy.moment import Moment
from splitmesh.policy.payloads import Reference
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.world import World
from splitmesh.policy.worth import UplinkBudget, Worth

_SHOWN = 4
_STALL_MS = 30.0
_SPARE_NS = 20_000_000
_UTILITY = attrgetter("utility")


class Adaptive:
    """`uplink_budget_bps`: average payload rate to keep to; None: only the link itself is the limit.

    power: average power to keep to; None: energy costs nothing.

    only: what the names of remote points begin with that alone may be chosen; the whole model then runs here only
    while none of them can be. "": any point.
    """

    def __init__(
        self, *, uplink_budget_bps: float | None = None, only: str = "", power: PowerBudget | None = None
    ) -> None:
        self.name = f"only:{only}" if only else "adaptive"
        self._only = only
        self._budget_bps = uplink_budget_bps
        self._budget_debt_bytes = 0.0
        self._power = None if power is None else PowerAccount(power)
        self._holds = {Place.SPLIT: Hold(), Place.FRAME: Hold()}
        self._keys_due_ns: dict[tuple[str, str], int] = {}
        """By cut and codec: until when a key that was decided on may still be on its way to the link."""

    def decide(self, *, world: World, seen: Observation) -> Decision:
        world.breaker.tick(seen.now_ns)
        now = world.at(seen.now_ns)
        coming = self._coming(world, seen.now_ns)
        awaited = self._awaited(world, coming)
        incumbents = {place: world.by_name.get(hold.incumbent) for place, hold in self._holds.items()}
        worth = Worth(
            world,
            now,
            seen,
            incumbents=incumbents,
            budget=self._budget(seen.frame_period_ms),
            energy=self._energy(world, seen),
        )
        tracks = worth.of_track(() if seen.track_age_ms is None else world.tracks)
        pictures = worth.of_pictures(self._choosable(world.pictures, world, now, coming, awaited=awaited))
        # How long the device takes is known once it has run.
        busy = seen.device_backlog_ms > 0 and not world.gamma_edge.samples
        splits = [] if busy else self._choosable(world.cuts, world, now, coming, awaited=awaited)
        cuts = worth.of_cuts(splits)
        wholes: list[Forecast] = []
        if not (pictures or cuts) or not (self._only or busy):
            wholes = worth.of_local(world.wholes)
        # Stable: of equals, the first in the plan comes first.
        cuts.sort(key=_UTILITY, reverse=True)
        pictures.sort(key=_UTILITY, reverse=True)
        remotes = {Place.SPLIT: cuts, Place.FRAME: pictures}
        return self._choose(world, now, seen, worth, remotes, wholes + tracks, awaited=awaited)

    def _choose(
        self,
        world: World,
        now: Moment,
        seen: Observation,
        worth: Worth,
        remotes: Mapping[Place, Sequence[Forecast]],
        here: Sequence[Forecast],
        *,
        awaited: bool,
    ) -> Decision:
        """remotes: of each place, best first."""
        candidates, waits = list(here), {}
        for place, ranked in remotes.items():
            kept, waits[place] = self._holds[place].choose(ranked, awaited=awaited)
            if kept is not None:
                candidates.append(kept)
        candidates.sort(key=_by_utility)
        best = candidates[0]
        self._pay(best.point, world, seen)
        self._promise(best.point, world, seen)
        others = list(here)
        for ranked in remotes.values():
            others += ranked[: _SHOWN + 1]
        others.sort(key=_UTILITY, reverse=True)  # stable: of equals, what sends nothing stays first
        runners = [f for f in others[: _SHOWN + 1] if f is not best][:_SHOWN]
        held = ", held by hysteresis" if waits.get(best.point.place) else ""
        why = _reason(best, candidates, worth, world) + held + self._thrift(best, here, remotes, worth)
        return Decision(best, why + _trouble(world, now), tuple(runners))

    # -- what may be chosen ---------------------------------------------------------------------------------------

    def _choosable(
        self,
        points: Sequence[OperatingPoint],
        world: World,
        now: Moment,
        coming: set[tuple[str, str]],
        *,
        awaited: bool,
    ) -> Sequence[OperatingPoint]:
        """Of remote `points`: no stream whose key is under way, nor one that would need a key while another's is
        awaited."""
        if not world.breaker.closed or now.stalled_ms > _STALL_MS:
            return []
        needs_key, only = world.payloads.needs_key, self._only
        if not (coming or only):
            return points
        return [
            point
            for point in points
            if not (point.key_bytes and ((point.cut, point.codec) in coming or (awaited and needs_key(point))))
            and (not only or point.name.startswith(only))
        ]

    # -- budgets --------------------------------------------------------------------------------------------------

    def _energy(self, world: World, seen: Observation) -> EnergyPrice | None:
        if self._power is None:
            return None
        spent_j = self._power.budget.model.spent_j(world.device_ms, world.sent_bytes)
        price = self._power.price(spent_j, seen.now_ns, seen.frame_period_ms)
        world.may_spare = not price.per_j
        return price

    def _thrift(
        self,
        best: Forecast,
        here: Sequence[Forecast],
        remotes: Mapping[Place, Sequence[Forecast]],
        worth: Worth,
    ) -> str:
        """What would have been better, were energy free; "" if nothing would."""
        if self._power is None or self._power.debt_j <= 0:
            return ""
        free = max(chain(here, *remotes.values()), key=worth.without_energy)
        if worth.without_energy(free) <= worth.without_energy(best):
            return ""
        return f"; {free.point.name} would draw more than {self._power.budget.budget_w:g} W allow"

    def _budget(self, frame_period_ms: float) -> UplinkBudget | None:
        if not self._budget_bps:
            return None
        return UplinkBudget(self._budget_bps / 8 * frame_period_ms / 1000, self._budget_debt_bytes)

    def _pay(self, point: OperatingPoint, world: World, seen: Observation) -> None:
        if self._budget_bps:
            income = self._budget_bps / 8 * seen.frame_period_ms / 1000
            spent = world.message_bytes(point) if point.remote else 0.0
            self._budget_debt_bytes = max(0.0, self._budget_debt_bytes + spent - income)

    # -- streams --------------------------------------------------------------------------------------------------

    def _awaited(self, world: World, coming: set[tuple[str, str]]) -> bool:
        """The key of a point in use is under way."""
        if not coming:
            return False
        incumbents = [world.by_name.get(hold.incumbent) for hold in self._holds.values()]
        return any(
            point is not None and point.key_bytes and (point.cut, point.codec) in coming for point in incumbents
        )

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


def _reason(best: Forecast, ranked: Sequence[Forecast], worth: Worth, world: World) -> str:
    why = f"utility {best.utility:.3f}"
    if len(ranked) > 1:
        why += f" against {ranked[1].utility:.3f} of {ranked[1].point.name}"
    if best.point.remote and world.payloads.needs_key(best.point):
        key, later = (world.payloads.expected(best.point, key=each) / 1e3 for each in (True, False))
        frames = worth.parts_of_key(best.point)
        parts = f" in {math.ceil(frames)} parts" if frames > 1 else ""
        why += f", a key of {key:.1f} kB{parts} first, then {later:.1f} kB a frame"
    return why


def _trouble(world: World, now: Moment) -> str:
    """Why no remote point may be chosen; "" if that is not so."""
    if not world.breaker.closed:
        return f"; breaker {world.breaker.state}: {world.breaker.reason}"
    return f"; link stalled for {now.stalled_ms:.0f} ms" if now.stalled_ms > _STALL_MS else ""


def _by_utility(f: Forecast) -> tuple[float, bool, str]:
    """Of equals, what sends nothing comes first."""
    return -f.utility, f.point.remote, f.point.name
