"""Owns how the rivals predict: one time per stage, from the plan's profile and the present bandwidth.

They share with the adaptive policy how slow device, codec and worker are (`World.edge_ms`, `encode_ms`, `remote_ms`)
and the estimate of the link's rate and delay. They see neither what is under way on the link nor a stall, nor how
much in doubt an estimate is.
"""

from __future__ import annotations

from dataclasses import dataclass

from splitmesh.policy.decision import Observation
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.rivals.menu import mean_bytes
from splitmesh.policy.world import World


@dataclass(frozen=True, slots=True)
class Stages:
    """What one frame takes of each part of the mesh, ms. All ≥ 0."""

    edge_ms: float
    encode_ms: float
    link_ms: float
    """That its bytes alone occupy the link."""
    delay_ms: float
    """Of the path, there and back, whatever the size."""
    cloud_ms: float
    """Wait at the worker, decoding and the model there."""

    @property
    def latency_ms(self) -> float:
        """On an idle mesh."""
        return self.edge_ms + self.encode_ms + self.link_ms + self.delay_ms + self.cloud_ms

    @property
    def largest_ms(self) -> float:
        """Of the stages that serve one frame at a time: the least period between frames that they all sustain."""
        return max(self.edge_ms, self.encode_ms, self.link_ms, self.cloud_ms)


def stages(point: OperatingPoint, world: World) -> Stages:
    """Of `point`, "track" excepted."""
    edge_ms = world.edge_ms(point.edge_ms)
    if not point.remote:
        return Stages(edge_ms, 0.0, 0.0, 0.0, 0.0)
    link_ms = world.link.transfer_ms(mean_bytes(point, world))
    return Stages(edge_ms, world.encode_ms(point), link_ms, world.link.base_ms, world.remote_ms(point))


def device_wait_ms(point: OperatingPoint, seen: Observation) -> float:
    """Until the device begins with `point`; pictures don't need it."""
    return 0.0 if point.place is Place.FRAME else seen.device_backlog_ms
