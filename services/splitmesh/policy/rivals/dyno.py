"""Owns the rival after DynO (Almeida et al., ACM TECS 2022): cut and bit width together, re-tuned on a shift.

There, a scheduler chooses the partition point and the precision of what crosses for throughput and latency, within an
accepted loss of accuracy, and again when the conditions have moved. Here, of the points within that loss, one that
keeps up with the camera and the deadline is taken, the most faithful of them; where none can, the one that lacks
least. It is kept until bandwidth or device speed have moved by `shift`.
"""

from __future__ import annotations

from collections.abc import Iterable

from splitmesh.policy.baselines import LocalOnly
from splitmesh.policy.decision import Decision, Observation
from splitmesh.policy.point import OperatingPoint
from splitmesh.policy.rivals.menu import Menu
from splitmesh.policy.rivals.net import netted
from splitmesh.policy.rivals.stages import stages
from splitmesh.policy.world import World

_PERIOD_SHARE = 0.7
"""Of a frame period that the largest stage may take."""
_BUDGET_SHARE = 0.75
"""Of the budget that the predicted latency may take."""


class Dyno:
    """drop: the accepted loss of accuracy, as in `Menu`. shift: relative, of either rate."""

    name = "dyno"

    def __init__(self, *, drop: float = 0.1, shift: float = 0.2) -> None:
        self._menu = Menu(drop=drop)
        self._shift = shift
        self._held = ""
        self._tuned_for: tuple[float, float] | None = None
        """(bit/s, γ of the device) when `_held` was chosen."""

    def decide(self, *, world: World, seen: Observation) -> Decision:
        points = self._menu.on_offer(world, seen)
        if not any(point.remote for point in points):
            return LocalOnly().decide(world=world, seen=seen)
        self._tune(world, seen)
        ranked = _ranked(points, world, seen)
        held = next((point for point in points if point.name == self._held), None)
        chosen = held or ranked[0]
        self._menu.chose(chosen, world, seen)
        reason = f"tuned to {self._held}" if held else f"stands in for {self._held}"
        return netted(chosen, reason, world=world, seen=seen, others=ranked)

    def _tune(self, world: World, seen: Observation) -> None:
        present = world.link.bandwidth_bps, world.edge_ms(1.0)
        if self._tuned_for is not None:
            pairs = zip(present, self._tuned_for, strict=True)
            if all(abs(now / then - 1) <= self._shift for now, then in pairs):
                return
        self._held = _ranked(self._menu.kept(world), world, seen)[0].name
        self._tuned_for = present


def _ranked(points: Iterable[OperatingPoint], world: World, seen: Observation) -> list[OperatingPoint]:
    """Best first."""

    def cost(point: OperatingPoint) -> tuple[float, float, float, str]:
        part = stages(point, world)
        late = max(0.0, part.latency_ms - _BUDGET_SHARE * seen.budget_ms)
        behind = max(0.0, part.largest_ms - _PERIOD_SHARE * seen.frame_period_ms)
        return late + behind, -point.fidelity, part.latency_ms, point.name

    return sorted(points, key=cost)
