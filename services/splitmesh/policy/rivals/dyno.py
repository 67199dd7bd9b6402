"""Owns the rival after DynO (Almeida et al., ACM TECS 2022): cut and bit width together, re-tuned on a shift.

There, a scheduler chooses the partition point and the precision of what crosses for throughput and latency, within an
accepted loss of accuracy, and again when the conditions have moved. Here, of the points within that loss, one that
keeps up with the camera and the deadline is taken, the most faithful of them; where none can, the one whose largest
stage is smallest. It is kept until bandwidth or device speed have moved by `shift`.
"""

from __future__ import annotations

from collections.abc import Iterable

from splitmesh.policy.baselines import LocalOnly
from splitmesh.policy.decision import Decision, Observation
from splitmesh.policy.point import OperatingPoint
from splitmesh.policy.rivals.menu import Menu
from splitmesh.policy.rivals.net import netted
from splitmesh.policy.rivals.stages import Bandwidth, stages
from splitmesh.policy.world import World

_MARGIN_MS = 15.0
"""Of the budget that no prediction may use up."""


class Dyno:
    """drop: the accepted loss of accuracy, as in `Menu`. weight: see `Bandwidth`. shift: relative, of either rate."""

    name = "dyno"

    def __init__(self, *, drop: float = 0.1, weight: float = 0.5, shift: float = 0.2) -> None:
        self._menu = Menu(drop=drop)
        self._bandwidth = Bandwidth(weight=weight)
        self._shift = shift
        self._held = ""
        self._tuned_for: tuple[float, float] | None = None
        """(bit/s, γ of the device) when `_held` was chosen."""

    def decide(self, *, world: World, seen: Observation) -> Decision:
        bandwidth_bps = self._bandwidth.observe(world)
        points = self._menu.on_offer(world, seen)
        if not any(point.remote for point in points):
            return LocalOnly().decide(world=world, seen=seen)
        self._tune(world, seen, bandwidth_bps)
        ranked = _ranked(points, world, seen, bandwidth_bps)
        held = next((point for point in points if point.name == self._held), None)
        chosen = held or ranked[0]
        self._menu.chose(chosen, world, seen)
        reason = f"tuned to {self._held}" if held else f"stands in for {self._held}"
        return netted(chosen, reason, world=world, seen=seen, others=ranked)

    def _tune(self, world: World, seen: Observation, bandwidth_bps: float) -> None:
        present = bandwidth_bps, world.edge_ms(1.0)
        if self._tuned_for is not None:
            pairs = zip(present, self._tuned_for, strict=True)
            if all(abs(now / then - 1) <= self._shift for now, then in pairs):
                return
        self._held = _ranked(self._menu.kept(world), world, seen, bandwidth_bps)[0].name
        self._tuned_for = present


def _ranked(
    points: Iterable[OperatingPoint], world: World, seen: Observation, bandwidth_bps: float
) -> list[OperatingPoint]:
    """Best first."""

    def cost(point: OperatingPoint) -> tuple[float, float, float, str]:
        part = stages(point, world, bandwidth_bps=bandwidth_bps)
        late = max(0.0, part.latency_ms + _MARGIN_MS - seen.budget_ms)
        behind = max(0.0, part.largest_ms - seen.frame_period_ms)
        return late + behind, -point.fidelity, part.latency_ms, point.name

    return sorted(points, key=cost)
