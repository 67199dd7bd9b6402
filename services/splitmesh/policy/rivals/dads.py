"""Owns the rival after DADS (Hu et al., INFOCOM 2019): least latency under light load, most throughput under heavy.

There, a minimum cut of the model's graph under the present bandwidth gives the partition; the plan's cuts are such
ones (`plan/cuts`), so what is left for each frame is the choice among them. The load is heavy once some stage of the
point of least latency takes longer than a frame period: then the largest stage is made as small as can be.
"""

from __future__ import annotations

from splitmesh.policy.baselines import LocalOnly
from splitmesh.policy.decision import Decision, Observation
from splitmesh.policy.rivals.menu import Menu
from splitmesh.policy.rivals.net import netted
from splitmesh.policy.rivals.stages import stages
from splitmesh.policy.world import World


class Dads:
    """Accuracy-blind; `drop` as for `Neurosurgeon`."""

    name = "dads"

    def __init__(self, *, drop: float = 0.1) -> None:
        self._menu = Menu(drop=drop)

    def decide(self, *, world: World, seen: Observation) -> Decision:
        points = self._menu.on_offer(world, seen)
        if not any(point.remote for point in points):
            return LocalOnly().decide(world=world, seen=seen)
        table = [(stages(point, world), point) for point in points]
        table.sort(key=lambda row: (row[0].latency_ms, row[1].name))
        reason = f"light load, least latency, {table[0][0].latency_ms:.0f} ms"
        if table[0][0].largest_ms > seen.frame_period_ms:
            table.sort(key=lambda row: (row[0].largest_ms, row[0].latency_ms, row[1].name))
            reason = f"heavy load, smallest of the largest stages, {table[0][0].largest_ms:.0f} ms"
        ranked = [point for _, point in table]
        self._menu.chose(ranked[0], world, seen)
        return netted(ranked[0], reason, world=world, seen=seen, others=ranked)
