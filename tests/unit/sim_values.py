"""A small made-up plan whose times and sizes are round and not spread, for hand-computed runs of the simulator."""

from __future__ import annotations

from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.provision.link.trace import LinkTrace, Step
from splitmesh.sim.plan import SimPlan, Spread

STILL = Spread(edge=0.0, encode=0.0, size=0.0, decode=0.0, cloud=0.0, resume=0.0)
TRACK = OperatingPoint("track", Place.TRACK, 1.0)
LOCAL = OperatingPoint("local", Place.LOCAL, 1.0, edge_ms=16.0)
JPEG = OperatingPoint(
    "frame/jpeg-50", Place.FRAME, 0.9, codec="jpeg", level=50, encode_ms=1.0, payload_bytes=4790.0,
    decode_ms=1.0, cloud_ms=16.0,
)  # fmt: skip
H264 = OperatingPoint(
    "frame/h264-24", Place.FRAME, 0.88, codec="h264", level=24, encode_ms=2.0, payload_bytes=900.0,
    decode_ms=1.0, cloud_ms=16.0, key_bytes=5000.0,
)  # fmt: skip
U8 = OperatingPoint(
    "split/c/u8zstd-8", Place.SPLIT, 0.99, cut="c", codec="u8zstd", level=8, edge_ms=7.0, encode_ms=1.0,
    payload_bytes=19_790.0, decode_ms=1.0, cloud_ms=9.0, resume_ms=9.0,
)  # fmt: skip
TEMPORAL = OperatingPoint(
    "split/c/temporal-80", Place.SPLIT, 0.95, cut="c", codec="temporal", level=80, edge_ms=7.0, encode_ms=2.0,
    payload_bytes=600.0, decode_ms=1.0, cloud_ms=9.0, resume_ms=9.0, key_bytes=6000.0,
)  # fmt: skip
POINTS = (H264, JPEG, LOCAL, TEMPORAL, U8, TRACK)
PLAN = SimPlan(POINTS, 5.0, {point.name: STILL for point in POINTS})
SPREAD = SimPlan(
    POINTS,
    5.0,
    {point.name: Spread(edge=0.1, encode=0.1, size=0.4, decode=0.1, cloud=0.1, resume=0.1) for point in POINTS},
)


def steady(bps: float, *, delay_ms: float = 10.0, jitter_ms: float = 0.0) -> LinkTrace:
    return LinkTrace("steady", (Step(0.0, bps, delay_ms, jitter_ms),), 60.0, down_bps=8e6)
