"""Owns what a probe is: a small picture that a frame has no more need of; where that may be too large, a grey one.

While the breaker is not closed nothing is known of the link, and frames wait for the verdict: the smaller the better.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from splitmesh.codec.picture import encode_picture
from splitmesh.media.grey import encode_grey
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.probe import ProbeSchedule
from splitmesh.policy.world import World

_SHARE_OF_BUDGET = 0.3
"""A probe that takes longer to cross can't tell whether a smaller payload would make it."""
_QUALITY = 30


class Probes:
    """`size`: (H, W) of the model's input. Probes never belong to a stream."""

    def __init__(self, world: World, size: tuple[int, int]) -> None:
        self._world = world
        self._schedule = ProbeSchedule()
        pictures = [p for p in world.points if p.place is Place.FRAME and p.codec == "jpeg"]
        self._picture = min(pictures, key=lambda p: p.payload_bytes, default=None)
        self._grey = encode_grey(size, quality=_QUALITY)
        whole_ms = max(p.cloud_ms for p in world.points)
        # Without calibrated bytes: that it is small says nothing of other pictures.
        self._grey_point = OperatingPoint("probe", Place.FRAME, 0.0, codec="jpeg", level=_QUALITY, cloud_ms=whole_ms)

    def due(self, now_ns: int, budget_ms: float) -> OperatingPoint | None:
        """What to send as a probe now, if one is due; it then counts as sent until `back`."""
        point, size = self._picture, self._picture.payload_bytes if self._picture else 0.0
        slow = self._world.link.transfer_ms(size) > _SHARE_OF_BUDGET * budget_ms
        if point is None or slow or not self._world.breaker.closed:
            point, size = self._grey_point, len(self._grey)
        if not self._schedule.due(self._world, size, now_ns):
            return None
        self._schedule.sent(now_ns)
        return point

    def payload(self, point: OperatingPoint, rgb: npt.NDArray[np.uint8]) -> bytes:
        """`rgb`: (H, W, 3) uint8."""
        return self._grey if point is self._grey_point else encode_picture(rgb, quality=point.level)

    def back(self) -> None:
        """It was answered, refused or given up."""
        self._schedule.back()
