"""Hand-made worlds for the tests of rival policies: nine points, and a link, device and worker well known."""

from __future__ import annotations

from dataclasses import replace

from splitmesh.policy.decision import Observation
from splitmesh.policy.payloads import Reference
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.world import RemoteTimes, World

MS = 1_000_000
TRACK = OperatingPoint("track", Place.TRACK, 1.0)
LOCAL = OperatingPoint("local", Place.LOCAL, 1.0, edge_ms=14)
EARLY = OperatingPoint(
    "split/early/u8zstd-8", Place.SPLIT, 0.98, "early", "u8zstd", 8, 2.5, 0.8, 60_000, 0.5, 11.5, 11.5
)
MIDDLE = OperatingPoint("split/mid/compact-40", Place.SPLIT, 0.98, "mid", "compact", 40, 6, 0.7, 8_000, 0.5, 8, 8)
ROUGH = replace(MIDDLE, name="split/mid/compact-24", level=24, fidelity=0.9, payload_bytes=3_000)
FLOW = replace(MIDDLE, name="split/mid/temporal-40", codec="temporal", payload_bytes=1_500, key_bytes=12_000)
LATE = OperatingPoint("split/late/u8zstd-6", Place.SPLIT, 0.97, "late", "u8zstd", 6, 11, 0.4, 2_500, 0.2, 3, 3)
PICTURE = OperatingPoint("frame/jpeg-95", Place.FRAME, 0.96, "", "jpeg", 95, 0, 0.7, 24_000, 0.7, 14)
SMALL = replace(PICTURE, name="frame/jpeg-30", level=30, fidelity=0.55, payload_bytes=4_800)
POINTS = (TRACK, LOCAL, EARLY, MIDDLE, ROUGH, FLOW, LATE, PICTURE, SMALL)
PLAIN = tuple(point for point in POINTS if not point.key_bytes)
SEEN = Observation(
    now_ns=10**12, budget_ms=148, device_backlog_ms=0, frame_period_ms=40, motion=0.03, track_age_ms=80
)


def world(
    points: tuple[OperatingPoint, ...] = PLAIN,
    *,
    gamma: float = 1.0,
    bps: float = 1e7,
    base_ms: float = 10.0,
    alive: bool = True,
    now_ns: int = SEEN.now_ns,
) -> World:
    """A device `gamma` times slower than profiled, a link that 60 messages have crossed, and a worker, if `alive`."""
    w = World(points, track_kappa=20)
    for _ in range(10):
        w.on_device(14 * gamma, 14, now_ns)
    at_ns = now_ns - 120_000 * MS
    for index in range(60):
        size = (13_000, 3_000, 24_000)[index % 3]
        w.link.on_sent(str(index), size, at_ns, remote_ms=0.0)
        at_ns += int((base_ms + size * 8 / bps * 1e3) * MS)
        w.link.on_delivered(str(index), at_ns, remote_ms=0.0)
    for place in (Place.LOCAL, Place.SPLIT, Place.FRAME):
        for _ in range(30):
            w.on_result(place, 100, 100, now_ns)
    w.on_heartbeat(now_ns - 5000 * MS, 0.0)
    w.breaker.tick(now_ns - 2 * MS)
    w.on_heartbeat(now_ns - 2 * MS, 0.0)
    if alive:
        for _ in range(2):
            w.breaker.on_success(now_ns - MS)
    return w


def answered(w: World, point: OperatingPoint, now_ns: int) -> None:
    """A worker has answered a frame of `point`: its stream, if it has one, can go on."""
    w.on_reply("", point, now_ns, "worker", RemoteTimes(0.1, point.decode_ms, point.cloud_ms, 0.0))
    if point.key_bytes:
        w.payloads.on_reference(point.codec, point.cut, Reference.ALIVE)
