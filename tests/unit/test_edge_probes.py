"""What the edge probes with: a picture of the plan where the link can carry one, else the least there is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from splitmesh.codec.picture import decode_picture
from splitmesh.edge.probes import Probes
from splitmesh.policy.link import LinkEstimator
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.world import World

TRACK = OperatingPoint("track", Place.TRACK, 1.0)
LOCAL = OperatingPoint("local", Place.LOCAL, 1.0, edge_ms=100.0)
JPEG = OperatingPoint("frame/jpeg-50", Place.FRAME, 0.8, "", "jpeg", 50, payload_bytes=10_000.0, cloud_ms=20.0)
H264 = replace(JPEG, name="frame/h264-30", codec="h264", level=30, payload_bytes=900.0, key_bytes=9000.0)
FLOW = OperatingPoint(
    "split/c/temporal-80", Place.SPLIT, 0.97, "c", "temporal", 80, payload_bytes=500.0, cloud_ms=15.0, key_bytes=5e3
)
RGB = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)


def probe(*points: OperatingPoint, bandwidth_bps: float, closed: bool = True) -> tuple[OperatingPoint, bytes]:
    world = World([TRACK, LOCAL, *points], track_kappa=1.0, link=LinkEstimator(bandwidth_bps=bandwidth_bps))
    if closed:
        for _ in range(2):
            world.breaker.on_success(0)
    probes = Probes(world, (300, 300))
    point = probes.due(10**10, 400.0)
    assert point is not None and probes.due(10**11, 400.0) is None, "one at a time"
    probes.back()
    assert probes.due(2 * 10**11, 400.0) is not None
    return point, probes.payload(point, RGB)


def test_while_the_breaker_is_open_the_least_goes() -> None:
    point, payload = probe(JPEG, bandwidth_bps=1e9, closed=False)
    assert point is not JPEG and len(payload) < 600


@pytest.mark.parametrize(
    ("points", "bandwidth_bps", "own_picture"),
    [
        ((JPEG,), 8e6, True),
        ((JPEG, H264), 8e6, True),
        ((JPEG,), 64e3, False),
        ((H264,), 8e6, False),
        ((FLOW,), 8e6, False),
        ((), 8e6, False),
    ],
)
def test_what_goes(points: tuple[OperatingPoint, ...], bandwidth_bps: float, own_picture: bool) -> None:
    point, payload = probe(*points, bandwidth_bps=bandwidth_bps)
    decoded = decode_picture(payload, expect=(300, 300))
    assert (point is JPEG) == own_picture
    assert (decoded.std() > 10) == own_picture
    if not own_picture:
        assert len(payload) < 600, "75 ms at 64 kbit/s"
        assert point.place is Place.FRAME and not point.key_bytes
        assert point.cloud_ms == max((each.cloud_ms for each in points), default=0.0)


def test_where_only_features_may_cross_a_probe_shows_nothing_of_the_scene() -> None:
    point, payload = probe(FLOW, bandwidth_bps=1e9)
    assert point.name == "probe"
    assert np.ptp(decode_picture(payload, expect=(300, 300)).astype(int)) <= 2
