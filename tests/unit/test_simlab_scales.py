"""How far a lab run's times and sizes lie from the plan's, and what becomes of that in a simulation of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from bench.simlab_scales import Scale, Scales, scales_of, spread_as
from sim_values import H264, JPEG, PLAN, POINTS, TEMPORAL, U8
from simlab_values import record

from splitmesh.frames.outcome import Outcome

BY_NAME = {point.name: point for point in POINTS}


def test_scales_are_medians_of_measured_by_profiled_time() -> None:
    took = {"head": 5 * 7.0 * 1.5, "encode": 3.0, "decode": 2.0, "tail": 18.0}
    records = [
        record(0, Outcome.SPLIT, U8.name, 90.0, times_ms=took),
        record(1, Outcome.LOCAL, "local", 90.0, times_ms={"local": 5 * 16.0 * 1.1}),
        record(2, Outcome.RESUMED, U8.name, 90.0, times_ms={"resume": 5 * 9.0 * 1.2}),
        record(3, Outcome.LOCAL, "frame/jpeg-50", 90.0, times_ms={"local": 5 * 16.0 * 9.0}),
        record(4, Outcome.TRACKED, "track", 5.0, times_ms={"preprocess": 1.0}),
        record(5, Outcome.SPLIT, "split/unknown", 90.0, times_ms={"head": 1e6}),
        record(6, Outcome.SHED, "", None),
    ]
    scales = scales_of(records, BY_NAME, slowdown=5.0)
    assert (scales.edge.count, scales.encode["u8zstd"].count, scales.cloud.count) == (4, 1, 1)
    assert scales.edge.median == pytest.approx((1.2 + 1.5) / 2), "between the two in the middle"
    assert scales.encode["u8zstd"].median == pytest.approx(3.0) and scales.cloud.median == pytest.approx(2.0)
    assert scales_of([], BY_NAME, slowdown=5.0) == Scales()


def test_a_codec_that_never_ran_is_as_slow_as_those_that_did() -> None:
    records = [
        record(seq, Outcome.FRAME, JPEG.name, 90.0, times_ms={"encode": 1.5 * JPEG.encode_ms}) for seq in range(9)
    ]
    records.append(record(9, Outcome.SPLIT, TEMPORAL.name, 90.0, times_ms={"encode": 7 * TEMPORAL.encode_ms}))
    found = scales_of(records, BY_NAME, slowdown=5.0).encode_factors(POINTS)
    assert found == pytest.approx({"h264": 1.5, "jpeg": 1.5, "temporal": 7.0, "u8zstd": 1.5})
    assert Scales().encode_factors(POINTS) == {}


def test_sizes_are_told_of_codecs_that_fill_no_room() -> None:
    sent = [(JPEG, 2 * 4790), (JPEG, 4790), (H264, 1800), (H264, 10_000), (TEMPORAL, 9999)]
    records = [record(seq, Outcome.FRAME, of.name, 90.0, uplink_bytes=size) for seq, (of, size) in enumerate(sent)]
    found = scales_of(records, BY_NAME, slowdown=5.0).size
    assert {codec: scale.mean for codec, scale in found.items()} == pytest.approx({"jpeg": 1.5, "h264": 2.0})


def test_a_spread_is_the_runs_where_enough_was_seen_and_the_points_are_left_alone() -> None:
    enough, few = Scale(1.5, 1.6, 0.4, 50), Scale(1.5, 1.6, 0.4, 5)
    found = spread_as(PLAN, Scales(edge=enough, cloud=few, encode={"jpeg": enough}, size={"jpeg": enough}))
    assert found.points == PLAN.points
    jpeg, split = found.spread(JPEG), found.spread(U8)
    assert (jpeg.edge, jpeg.resume, jpeg.encode, jpeg.size) == (0.4,) * 4
    assert (jpeg.cloud, jpeg.decode, split.encode, split.size) == (0.0,) * 4
    times = [5 * 16.0 * math.exp(0.3 * math.sin(seq)) for seq in range(300)]
    runs = [record(seq, Outcome.LOCAL, "local", 90.0, times_ms={"local": ms}) for seq, ms in enumerate(times)]
    late = np.quantile(0.3 * np.sin(range(300)), 0.95)
    assert scales_of(runs, BY_NAME, slowdown=5.0).edge.sigma == pytest.approx(late / 1.645, rel=0.02)
