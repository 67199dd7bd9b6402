"""Owns the rival after Neurosurgeon (Kang et al., ASPLOS 2017): of all cuts the one of least predicted latency.

There, regressions per layer predict times on both sides, the bandwidth is measured, and for each frame the cut with
the least sum is taken. Here the plan's measured parts stand for the regressions and the edge's own queue is added.
"""

from __future__ import annotations

from splitmesh.policy.baselines import LocalOnly
from splitmesh.policy.decision import Decision, Observation
from splitmesh.policy.point import OperatingPoint
from splitmesh.policy.rivals.menu import Menu
from splitmesh.policy.rivals.net import netted
from splitmesh.policy.rivals.stages import device_wait_ms, stages
from splitmesh.policy.world import World


class Neurosurgeon:
    """Accuracy-blind: `drop` as in `Menu` is all that keeps it from the coarsest level."""

    name = "neurosurgeon"

    def __init__(self, *, drop: float = 0.1) -> None:
        self._menu = Menu(drop=drop)

    def decide(self, *, world: World, seen: Observation) -> Decision:
        points = self._menu.on_offer(world, seen)
        if not any(point.remote for point in points):
            return LocalOnly().decide(world=world, seen=seen)

        def latency_ms(point: OperatingPoint) -> float:
            return device_wait_ms(point, seen) + stages(point, world).latency_ms

        ranked = sorted((latency_ms(point), point.name) for point in points)
        best_first = [world.by_name[name] for _, name in ranked]
        self._menu.chose(best_first[0], world, seen)
        reason = f"least latency, {ranked[0][0]:.0f} ms at {world.link.bandwidth_bps / 1e6:.2f} Mbit/s"
        return netted(best_first[0], reason, world=world, seen=seen, others=best_first)
