"""Owns what holds for every operating point at one moment of decision: link, cloud and device as plain numbers.

`World` learns and makes a `Moment` of what it knows; the questions asked of it for each point are arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from splitmesh.policy.point import OperatingPoint, Place

TRACK_MS = 0.3
"""Cost of carrying an answer over; it needs no accelerator."""
MARGIN_MS = 4.0
"""Kept free before every deadline."""
_ROOM_SHARE = 0.8
_LEAST_ROOM_BYTES = 64.0


class Moment(NamedTuple):
    """A tuple: one is made for every frame. Times in ms; the scales are measured ÷ profiled time."""

    link_backlog_ms: float
    """Until the link is free for a new message."""
    stalled_ms: float
    """By which the most overdue ack is late."""
    base_ms: float
    """Of the path, without its bytes."""
    ms_per_byte: float
    doubt_ms_per_byte: float
    """What a standard deviation of the rate would add; see `LinkEstimator.doubt_ms`."""
    cloud_wait_ms: float
    gamma_edge: float
    gamma_encode: dict[str, float]
    """By codec; "": of the others."""
    gamma_cloud: float
    gamma_resume: float
    """`gamma_edge` as it is at worst in 95 % of runs."""

    def lead_ms(self, point: OperatingPoint, device_backlog_ms: float) -> float:
        """From now until a payload of a SPLIT `point` is handed to the link."""
        return device_backlog_ms + self.gamma_edge * point.edge_ms + self._encode_ms(point)

    def _encode_ms(self, point: OperatingPoint) -> float:
        return self.gamma_encode.get(point.codec, self.gamma_encode[""]) * point.encode_ms

    def remote_ms(self, point: OperatingPoint) -> float:
        """What the worker needs, its queue included."""
        return self.cloud_wait_ms + self.gamma_cloud * (point.decode_ms + point.cloud_ms)

    def predicted_ms(self, point: OperatingPoint, message_bytes: float, device_backlog_ms: float) -> float:
        """`T_k` from now to the result, without any fallback; `message_bytes` counts for remote points only."""
        if point.place is Place.TRACK:
            return TRACK_MS
        if point.place is Place.LOCAL:
            return device_backlog_ms + self.gamma_edge * point.edge_ms
        lead_ms = self.lead_ms(point, device_backlog_ms) if point.place is Place.SPLIT else self._encode_ms(point)
        # What is under way goes on draining while the edge still computes, unless it is stuck.
        wait_ms = self.link_backlog_ms if self.stalled_ms > 0 else max(0.0, self.link_backlog_ms - lead_ms)
        return lead_ms + wait_ms + message_bytes * self.ms_per_byte + self.base_ms + self.remote_ms(point)

    def room_bytes(self, point: OperatingPoint, due_ms: float, *, around_bytes: float, key: bool) -> float:
        """See `World.room_bytes`. around_bytes: what a message adds to its payload."""
        return self.rooms_bytes([due_ms], [self.remote_ms(point)], around_bytes=around_bytes, key=key)[0]

    def rooms_bytes(
        self, due_ms: Sequence[float], remote_ms: Sequence[float], *, around_bytes: float, key: bool
    ) -> list[float]:
        """`room_bytes` of points that are due in so much, and for which the worker needs so much of that."""
        per_byte_ms = self.ms_per_byte + 2 * self.doubt_ms_per_byte
        backlog_ms, base_ms, least_share = self.link_backlog_ms, self.base_ms, 0.5 if key else 0.0
        return [
            max(
                max(_ROOM_SHARE * (due - MARGIN_MS - backlog_ms - base_ms - remote), least_share * due) / per_byte_ms
                - around_bytes,
                _LEAST_ROOM_BYTES,
            )
            for due, remote in zip(due_ms, remote_ms, strict=True)
        ]

    def resumable(self, point: OperatingPoint, device_backlog_ms: float, budget_ms: float) -> bool:
        """A cut is only eligible if its tail still fits when the timer fires; see `World.resume_at_ms`."""
        head_done_ms = device_backlog_ms + self.gamma_edge * point.edge_ms
        return head_done_ms + self.gamma_resume * point.resume_ms + MARGIN_MS <= budget_ms
