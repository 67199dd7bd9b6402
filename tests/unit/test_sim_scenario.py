"""What a scenario says of codecs, payloads, stack and camera: each alone, against the same run without it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splitmesh.errors import SettingsError
from splitmesh.frames.track import MOTION_FLOOR
from splitmesh.policy.base import forecast
from splitmesh.policy.decision import Decision, Observation
from splitmesh.policy.point import OperatingPoint
from splitmesh.policy.world import World
from splitmesh.sim.draws import Draws, draw
from splitmesh.sim.result import RunResult
from splitmesh.sim.run import simulate
from splitmesh.sim.scenario import Scenario

sys.path.append(str(Path(__file__).parent))
from sim_values import H264, JPEG, PLAN, SPREAD, U8, steady

PLAIN = Scenario(duration_s=2.0, fps=10.0, deadline_ms=300.0, prepare_ms=2.0, stack_ms=0.2, edge_slowdown=1.0)
STEADY = steady(8e6)


def first(point: str, scenario: Scenario) -> float:
    """Latency of the first frame, ms: nothing is before it."""
    return simulate(PLAN, f"static:{point}", STEADY, scenario, seed=0).frames[0].latency_ms


def latencies(result: RunResult) -> list[float]:
    return [each.latency_ms for each in result.frames]


@pytest.mark.parametrize("point", [JPEG.name, U8.name, "local"])
def test_the_stack_is_passed_once_each_way(point: str) -> None:
    later_ms = first(point, replace(PLAIN, stack_ms=3.2)) - first(point, PLAIN)
    assert later_ms == pytest.approx(0.0 if point == "local" else 6.0)


@pytest.mark.parametrize(("point", "place"), [(JPEG.name, "frame"), (U8.name, "split"), ("local", "local")])
def test_a_place_has_a_handover_of_its_own(point: str, place: str) -> None:
    others = {"frame": 1.0, "split": 2.0, "local": 3.0} | {place: 7.5}
    assert first(point, replace(PLAIN, handover_ms=others)) - first(point, PLAIN) == pytest.approx(7.5)
    assert first(point, replace(PLAIN, handover_ms={"track": 9.0})) == first(point, PLAIN)


class Asking:
    """One point for all, and what is believed of its encoder after that."""

    name = "asking"

    def __init__(self, point: OperatingPoint) -> None:
        self._point = point
        self.believed_ms: list[float] = []

    def decide(self, *, world: World, seen: Observation) -> Decision:
        self.believed_ms.append(world.encode_ms(self._point))
        return Decision(forecast(self._point, world, seen), "asked for", ())


def test_a_slow_codec_takes_longer_and_the_edge_finds_out() -> None:
    slow = replace(PLAIN, encode_scales={"jpeg": 5.0, "h264": 100.0})
    assert first(JPEG.name, slow) - first(JPEG.name, PLAIN) == pytest.approx(4 * JPEG.encode_ms)
    policy = Asking(JPEG)
    simulate(PLAN, policy, STEADY, slow, seed=0)
    assert policy.believed_ms[0] == JPEG.encode_ms, "the plan is what it was"
    assert policy.believed_ms[-1] == pytest.approx(5 * JPEG.encode_ms, rel=0.2)


@pytest.mark.parametrize("point", [JPEG, H264], ids=["picture", "stream"])
def test_payloads_of_the_video_at_hand_may_be_larger_than_the_plans(point: OperatingPoint) -> None:
    def crossed(**scales: float) -> int:
        run = simulate(PLAN, f"static:{point.name}", STEADY, replace(PLAIN, size_scales=scales), seed=0)
        return run.uplink_bytes

    other = "h264" if point is JPEG else "jpeg"
    alone = point.payload_bytes if point is JPEG else (point.key_bytes + 19 * point.payload_bytes) / 20
    assert crossed(**{point.codec: 1.5}) - crossed() >= 0.5 * 20 * alone - 20
    assert crossed(**{point.codec: 1.5}) - crossed() < 0.75 * 20 * alone + 2 * JPEG.payload_bytes
    if point is JPEG:
        assert crossed(**{other: 1.5}) == crossed()


def test_preparation_is_drawn_from_its_quantiles_and_nobody_overtakes() -> None:
    quick = replace(PLAIN, fps=100.0, duration_s=20.0, edge_slowdown=5.0)
    drawn = replace(quick, prepare_quantiles_ms=(1.0, 5.0, 40.0))
    times = draw(drawn, 3).prepare_ms
    assert np.percentile(times, (0, 25, 50, 75, 100)) == pytest.approx([1.0, 3.0, 5.0, 22.5, 40.0], rel=0.1, abs=0.2)
    tracked = latencies(simulate(PLAN, "track", STEADY, drawn, seed=3))[100:]
    waits_ms = [max(times[seq - back] - 10.0 * back for back in range(5)) for seq in range(100, 2000)]
    assert tracked == pytest.approx(waits_ms, abs=1e-3), "a frame waits for the one before it"


@pytest.mark.parametrize(
    ("more", "name"),
    [({"prepare_quantiles_ms": (1.0, 40.0)}, "prepare_ms"), ({"motions": (0.1, 0.2)}, "motion")],
)
def test_what_is_drawn_otherwise_leaves_all_other_luck_alone(more: dict[str, Any], name: str) -> None:
    plain, other = draw(PLAIN, 7), draw(replace(PLAIN, **more), 7)
    along = {name, "travelled"} if name == "motion" else {name}
    changed = {each for each in Draws.__slots__ if getattr(plain, each) != getattr(other, each)}
    assert changed == along


def test_the_motion_of_a_video_is_replayed_over_and_over() -> None:
    motions = (0.3, 0.0, 0.1)
    drawn = draw(replace(PLAIN, motions=motions), 0)
    assert np.diff(drawn.travelled[:7]) == pytest.approx(
        [(each + MOTION_FLOOR) / PLAIN.fps for each in (0.0, 0.1, 0.3, 0.0, 0.1, 0.3)]
    )
    assert drawn.motion[:2] == pytest.approx([0.09, 0.063]), "smoothed as an edge does"


def test_named_scales_of_one_change_nothing() -> None:
    alike = replace(PLAIN, encode_scales={"jpeg": 1.0}, size_scales={"h264": 1.0}, handover_ms={"frame": 0.0})
    for policy in ("adaptive", f"static:{H264.name}"):
        assert simulate(SPREAD, policy, STEADY, alike, seed=1) == simulate(SPREAD, policy, STEADY, PLAIN, seed=1)


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"stack_ms": -0.1}, "stack_ms"),
        ({"handover_ms": {"local": -1.0}}, "handover_ms"),
        ({"encode_scales": {"jpeg": 0.0}}, "encode_scales"),
        ({"size_scales": {"jpeg": float("nan")}}, "size_scales"),
        ({"motions": (0.5, 1.5)}, "motions"),
        ({"prepare_quantiles_ms": (-1.0, 2.0)}, "prepare_quantiles_ms"),
        ({"prepare_quantiles_ms": (3.0, 2.0)}, "prepare_quantiles_ms"),
        ({"prepare_quantiles_ms": (3.0, 301.0)}, "prepare_quantiles_ms"),
    ],
)
def test_what_can_not_be_is_refused_by_name(more: dict[str, Any], key: str) -> None:
    with pytest.raises(SettingsError) as refused:
        replace(PLAIN, **more)
    assert refused.value.key == key
