"""What the rivals choose in worlds made by hand, and what all of them keep to in any world."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from splitmesh.errors import SettingsError
from splitmesh.policy.base import Learner
from splitmesh.policy.baselines import LocalOnly, make_policy
from splitmesh.policy.decision import Decision, Observation
from splitmesh.policy.payloads import Reference
from splitmesh.policy.point import Place
from splitmesh.policy.rivals.dads import Dads
from splitmesh.policy.rivals.dyno import Dyno
from splitmesh.policy.rivals.menu import Menu, best_codecs, mean_bytes
from splitmesh.policy.rivals.named import RIVALS
from splitmesh.policy.rivals.neurosurgeon import Neurosurgeon
from splitmesh.policy.rivals.stages import stages
from splitmesh.policy.world import World

sys.path.append(str(Path(__file__).parent))
from rival_worlds import (
    EARLY,
    FLOW,
    LATE,
    LOCAL,
    MIDDLE,
    MS,
    PICTURE,
    POINTS,
    ROUGH,
    SEEN,
    SMALL,
    TRACK,
    answered,
    world,
)

PREDICTING = ("neurosurgeon", "dads", "dyno")


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*RIVALS, "track"])
def test_each_is_made_by_its_name(name: str) -> None:
    assert make_policy(name, POINTS).name == name


def test_the_refusal_of_an_unknown_name_lists_them() -> None:
    with pytest.raises(SettingsError) as caught:
        make_policy("mystery", POINTS)
    assert {*RIVALS, "track"} <= set(re.findall(r"[\w-]+", str(caught.value)))


def test_the_bandits_learn_and_nothing_else_does() -> None:
    learners = {name for name in RIVALS if isinstance(make_policy(name, POINTS), Learner)}
    assert learners == {"ans", "ans-discounted"}


# -- worlds made by hand ---------------------------------------------------------------------------------------------


def choose(name: str, w: World, seen: Observation = SEEN) -> Decision:
    return make_policy(name, w.points).decide(world=w, seen=seen)


@pytest.mark.parametrize("name", PREDICTING)
def test_over_a_fast_link_a_slow_device_sends_early(name: str) -> None:
    chosen = choose(name, world(gamma=6, bps=2e8)).point
    assert chosen in (PICTURE, EARLY), chosen


@pytest.mark.parametrize("name", PREDICTING)
def test_over_a_slow_link_an_idle_device_answers_itself(name: str) -> None:
    assert choose(name, world(bps=2e5)).point is LOCAL


@pytest.mark.parametrize("name", [*RIVALS])
def test_without_a_worker_each_is_as_good_as_local_only(name: str) -> None:
    w = world(gamma=6, alive=False)
    for backlog_ms in (0.0, 100.0):
        seen = replace(SEEN, device_backlog_ms=backlog_ms)
        assert choose(name, w, seen).point is LocalOnly().decide(world=w, seen=seen).point


@pytest.mark.parametrize("name", [*RIVALS])
def test_a_link_that_takes_nothing_any_more_is_left_to_the_tracker(name: str) -> None:
    """Half a megabyte under way over some 10 Mbit/s, on a device too slow for any run of its own."""
    w = world(gamma=60, bps=1e7)
    for index in range(20):
        w.link.on_sent(f"x{index}", 25_000, SEEN.now_ns, remote_ms=0.0)
    assert choose(name, w, replace(SEEN, device_backlog_ms=300)).point is TRACK


def test_track_only_runs_the_model_once() -> None:
    w = world()
    assert choose("track", w, replace(SEEN, track_age_ms=None)).point is LOCAL
    assert choose("track", w).point is TRACK


# -- each by its own rule --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backlog_ms", [0.0, 25.0])
@pytest.mark.parametrize("bps", [3e5, 1e6, 3e6, 1e7, 4e7, 2e8])
@pytest.mark.parametrize("gamma", [1.0, 4.0, 8.0])
def test_neurosurgeon_takes_the_least_latency_of_all(gamma: float, bps: float, backlog_ms: float) -> None:
    w = world(gamma=gamma, bps=bps)
    seen = replace(SEEN, device_backlog_ms=backlog_ms)
    totals = {}
    for point in (LOCAL, EARLY, MIDDLE, LATE, PICTURE):
        total = w.edge_ms(point.edge_ms) + (0.0 if point is PICTURE else backlog_ms)
        if point.remote:
            crossing = 8000 * (point.payload_bytes + 210) / w.link.bandwidth_bps + w.link.base_ms
            total += w.encode_ms(point) + crossing + point.decode_ms + point.cloud_ms
        if point.place is not Place.SPLIT or w.resumable(point, seen):
            totals[point.name] = total
    decision = Neurosurgeon(drop=0.05).decide(world=w, seen=seen)
    chosen = decision.runners_up[0].point if decision.point is TRACK else decision.point
    assert chosen.name == min(totals, key=totals.__getitem__), totals


def test_the_floor_bars_what_is_less_faithful_than_accepted() -> None:
    w = world(gamma=6, bps=3e6)
    assert Neurosurgeon(drop=0.05).decide(world=w, seen=SEEN).point is MIDDLE
    assert Neurosurgeon(drop=0.5).decide(world=w, seen=SEEN).point is SMALL
    assert {point.name for point in Menu(drop=0.05).kept(w)}.isdisjoint({ROUGH.name, SMALL.name, "track"})


def test_dads_takes_the_least_latency_while_all_stages_keep_up_else_the_smallest_bottleneck() -> None:
    w = world(gamma=6, bps=4.5e6)
    table = {p: stages(p, w) for p in Menu(drop=0.05).kept(w)}
    fastest = min(table, key=lambda point: table[point].latency_ms)
    broadest = min(table, key=lambda point: table[point].largest_ms)
    assert fastest is not broadest and table[fastest].largest_ms > 40
    light = Dads(drop=0.05).decide(world=w, seen=replace(SEEN, frame_period_ms=500))
    heavy = Dads(drop=0.05).decide(world=w, seen=SEEN)
    assert light.point is fastest and "light" in light.reason
    assert heavy.point is broadest and "heavy" in heavy.reason


def test_dyno_takes_the_most_faithful_that_keeps_up_and_a_coarser_level_where_that_does_not() -> None:
    points = (TRACK, LOCAL, MIDDLE, ROUGH)
    for bps, expected in ((1e7, MIDDLE), (1.7e6, ROUGH)):
        assert Dyno().decide(world=world(points, gamma=4, bps=bps), seen=SEEN).point is expected
    bound = Dyno(drop=0.01).decide(world=world(points, gamma=4, bps=1.7e6), seen=SEEN)
    assert bound.point is MIDDLE, "a bound on what is lost goes before the camera's rate"


def test_dyno_tunes_again_only_when_the_bandwidth_has_moved() -> None:
    points = (TRACK, LOCAL, MIDDLE, ROUGH)
    policy = Dyno()
    assert policy.decide(world=world(points, gamma=4, bps=2.6e6), seen=SEEN).point is MIDDLE
    near, far = (world(points, gamma=4, bps=bps) for bps in (2.2e6, 1.5e6))
    assert Dyno().decide(world=near, seen=SEEN).point is ROUGH
    assert policy.decide(world=near, seen=SEEN).point is MIDDLE, "held: the shift is less than a fifth"
    assert policy.decide(world=far, seen=SEEN).point is ROUGH


# -- streams ---------------------------------------------------------------------------------------------------------


def test_a_stream_that_has_to_begin_is_weighed_by_what_its_key_serves() -> None:
    w = world(POINTS)
    life = w.payloads.key_life_frames(FLOW)
    assert mean_bytes(FLOW, w) == pytest.approx((12_210 + (life - 1) * 1_610) / life)
    w.payloads.on_reference("temporal", "mid", Reference.ALIVE)
    assert mean_bytes(FLOW, w) == 1_610
    codecs = best_codecs(Menu(drop=0.05).on_offer(w, SEEN), w)
    assert {point.name for point in codecs} == {LOCAL.name, EARLY.name, FLOW.name, LATE.name, PICTURE.name}


@pytest.mark.parametrize("name", ["neurosurgeon", "dyno"])
def test_while_a_key_is_under_way_its_stream_is_not_chosen(name: str) -> None:
    w = world((TRACK, LOCAL, MIDDLE, FLOW), gamma=6, bps=2.5e6)
    policy = make_policy(name, w.points)
    assert policy.decide(world=w, seen=SEEN).point is FLOW
    soon = replace(SEEN, now_ns=SEEN.now_ns + 40 * MS)
    assert policy.decide(world=w, seen=soon).point is not FLOW, "its key is still being made"
    w.payloads.on_reference("temporal", "mid", Reference.COMING)
    later = replace(SEEN, now_ns=SEEN.now_ns + 200 * MS)
    assert policy.decide(world=w, seen=later).point is not FLOW, "its key is on the link"
    answered(w, FLOW, later.now_ns)
    assert policy.decide(world=w, seen=later).point is FLOW
