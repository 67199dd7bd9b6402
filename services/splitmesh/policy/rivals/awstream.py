"""Owns the rival after AWStream (Zhang et al., SIGCOMM 2018): a ladder of profiled rates, climbed by what queues up.

There, offline profiling gives the Pareto set of (rate, accuracy), and the sender walks it in four states, driven by
the queue before the link: start low and climb, degrade below the measured rate on congestion, hold once the queue is
empty, and after a time without congestion try the next rung. Here a rung is a remote point that the device keeps up
with, and the trial of the next rung is that rung itself, where AWStream sends padding.
"""

from __future__ import annotations

from enum import StrEnum

from splitmesh.policy.baselines import LocalOnly
from splitmesh.policy.decision import Decision, Observation
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.rivals.menu import Menu
from splitmesh.policy.rivals.net import netted
from splitmesh.policy.world import World

_CLIMB_FRAMES = 4
"""Without congestion before the next rung, at the start."""
_PROBE_FRAMES = 12
"""Without congestion before a rung that is tried counts as held."""
_FIRST_WAIT_FRAMES = 25
_MOST_WAIT_FRAMES = 400
"""Between two trials; twice as long after each that failed."""


class State(StrEnum):
    STARTUP = "startup"
    STEADY = "steady"
    DEGRADE = "degrade"
    PROBE = "probe"


class AwStream:
    """drop: as in `Menu`. congested_periods: queue before the link, in frame periods, that counts as congestion.
    share: of the measured rate that a degraded rung may take, (0, 1)."""

    name = "awstream"

    def __init__(self, *, drop: float = 0.1, congested_periods: float = 0.1, share: float = 0.8) -> None:
        self._menu = Menu(drop=drop)
        self._congested_periods = congested_periods
        self._share = share
        self.state = State.STARTUP
        self._frames = 0
        """Since the state was entered, or the last congestion in it."""
        self._wait_frames = _FIRST_WAIT_FRAMES
        self._rung = ""

    def decide(self, *, world: World, seen: Observation) -> Decision:
        on_offer = self._menu.on_offer(world, seen)
        ladder = self._ladder(world, seen)
        if not ladder or not any(point.remote for point in on_offer):
            return LocalOnly().decide(world=world, seen=seen)
        rung = self._step(ladder, world, seen)
        self._rung = ladder[rung].name
        sendable = [i for i, point in enumerate(ladder) if point in on_offer]
        if not sendable:
            return LocalOnly().decide(world=world, seen=seen)
        # The nearest that can be sent now, of two as near the smaller one.
        point = ladder[min(sendable, key=lambda i: (abs(i - rung), i))]
        self._menu.chose(point, world, seen)
        reason = f"{self.state}, rung {rung + 1} of {len(ladder)}"
        return netted(point, reason, world=world, seen=seen, others=ladder[max(0, rung - 1) : rung + 2])

    def _ladder(self, world: World, seen: Observation) -> list[OperatingPoint]:
        """Pareto set over bytes and fidelity of what the device keeps up with, the smallest first."""
        points = [p for p in self._menu.kept(world) if p.remote and _keeps_up(p, world, seen)]
        ladder: list[OperatingPoint] = []
        for point in sorted(points, key=lambda p: (world.message_bytes(p, key=False), -p.fidelity, p.name)):
            if not ladder or point.fidelity > ladder[-1].fidelity:
                ladder.append(point)
        return ladder

    def _step(self, ladder: list[OperatingPoint], world: World, seen: Observation) -> int:
        """The rung for this frame; moves the state on."""
        rung = next((i for i, point in enumerate(ladder) if point.name == self._rung), 0)
        top = len(ladder) - 1
        self._frames += 1
        queue_ms = queued_ms(world)
        if queue_ms > self._congested_periods * seen.frame_period_ms:
            return self._congested(ladder, rung, world, seen)
        if self.state is State.STARTUP and self._frames > _CLIMB_FRAMES:
            self._enter(State.STARTUP if rung < top else State.STEADY)
            return min(rung + 1, top)
        if self.state is State.DEGRADE and queue_ms <= 0:
            self._enter(State.STEADY)
        elif self.state is State.STEADY and rung < top and self._frames > self._wait_frames:
            self._enter(State.PROBE)
            return rung + 1
        elif self.state is State.PROBE and self._frames > _PROBE_FRAMES:
            self._wait_frames = _FIRST_WAIT_FRAMES
            self._enter(State.STEADY)
        return rung

    def _congested(self, ladder: list[OperatingPoint], rung: int, world: World, seen: Observation) -> int:
        if self.state is State.DEGRADE and self._frames <= _CLIMB_FRAMES:
            return rung  # the last step down has not shown yet
        if self.state is State.PROBE:
            self._wait_frames = min(2 * self._wait_frames, _MOST_WAIT_FRAMES)
        self._enter(State.DEGRADE)
        room_bytes = self._share * world.link.bandwidth_bps * seen.frame_period_ms / 8000
        below = [i for i in range(rung) if world.message_bytes(ladder[i], key=False) <= room_bytes]
        return max(below, default=0)

    def _enter(self, state: State) -> None:
        self.state = state
        self._frames = 0


def queued_ms(world: World) -> float:
    """Time that what is unacknowledged will take, less what an empty link would show; negative while it idles."""
    return world.link.transfer_ms(world.link.in_flight_bytes) - world.link.base_ms


def _keeps_up(point: OperatingPoint, world: World, seen: Observation) -> bool:
    return point.place is Place.FRAME or world.edge_ms(point.edge_ms) <= seen.frame_period_ms
