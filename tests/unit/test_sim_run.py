"""Whole simulated runs: hand-computed latencies, conservation, repetition, outages, lost workers, bursts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from splitmesh.errors import SettingsError
from splitmesh.frames.outcome import Outcome
from splitmesh.policy.base import Policy
from splitmesh.policy.baselines import make_policy
from splitmesh.policy.decision import Decision, Observation
from splitmesh.policy.point import Place
from splitmesh.policy.world import World
from splitmesh.provision.link.presets import load_link
from splitmesh.settings.units import Outage
from splitmesh.sim.result import RunResult
from splitmesh.sim.run import simulate
from splitmesh.sim.scenario import Burst, Loss, Scenario

sys.path.append(str(Path(__file__).parent))
from sim_values import PLAN, SPREAD, TEMPORAL, U8, steady

SLOW = Scenario(duration_s=2.0, fps=10.0, deadline_ms=200.0, prepare_ms=2.0, stack_ms=0.2, edge_slowdown=1.0)
BUSY = Scenario(duration_s=10.0, fps=25.0, deadline_ms=150.0, edge_slowdown=5.0)
REMOTE = (Outcome.SPLIT, Outcome.FRAME)


def between(result: RunResult, scenario: Scenario, start_s: float, end_s: float) -> list[Outcome]:
    """Outcomes of the frames captured in [start_s, end_s)."""
    at = enumerate(result.frames)
    return [each.outcome for seq, each in at if start_s <= seq / scenario.fps < end_s]


# -- by hand ------------------------------------------------------------------------------------------------------


def test_a_picture_takes_what_its_parts_take() -> None:
    result = simulate(PLAN, "static:frame/jpeg-50", steady(8e6), SLOW, seed=0)
    # prepare 2, encode 1, 4790 + 210 bytes up at 1000 bytes/ms, 10 ms, to the worker 0.2, decode 1, model 16,
    # back 0.2, 500 bytes down at 1000 bytes/ms, 10 ms.
    assert [each.latency_ms for each in result.frames[:4]] == pytest.approx([45.9] * 4)
    assert all((each.outcome, each.hit, each.fidelity) == (Outcome.FRAME, True, 0.9) for each in result.frames)
    payloads = result.uplink_bytes - 20 * 5000
    assert 0 <= payloads <= 2 * (5000 + 210)  # what is left are probes


def test_a_split_takes_what_its_parts_take() -> None:
    result = simulate(PLAN, f"static:{U8.name}", steady(8e6), replace(SLOW, edge_slowdown=3.0), seed=0)
    # prepare 2, head 3 × 7, encode 1, 19790 + 210 bytes up, 10 ms, 0.2, decode 1, tail 9, 0.2, 0.5 down, 10 ms.
    assert [each.latency_ms for each in result.frames[:4]] == pytest.approx([74.9] * 4)
    assert {each.outcome for each in result.frames} == {Outcome.SPLIT}


def test_frames_queue_on_the_link_first_in_first_out() -> None:
    """Each frame finds the ones before it still on the link."""
    scenario = replace(SLOW, fps=20.0, duration_s=0.2, deadline_ms=2000.0)
    result = simulate(PLAN, "static:frame/jpeg-50", steady(4e5), scenario, seed=0)
    # 100 ms of the link per frame, 50 ms between frames: each is 50 ms later than the one before.
    latencies = [each.latency_ms for each in result.frames]
    assert latencies == pytest.approx([140.9, 190.9, 240.9, 290.9])


def test_the_whole_model_here_takes_the_device_and_no_byte() -> None:
    result = simulate(PLAN, "local", steady(8e6), replace(SLOW, edge_slowdown=4.0), seed=0)
    assert [each.latency_ms for each in result.frames] == pytest.approx([2.0 + 4 * 16.0] * 20)
    assert (result.uplink_bytes, result.outcomes["local"]) == (0, 20)


def test_a_device_that_is_slower_than_the_camera_tracks_what_it_can_not_run() -> None:
    result = simulate(PLAN, "local", steady(8e6), BUSY, seed=0)
    assert result.outcomes["local"] + result.outcomes["tracked"] == 250
    assert 100 <= result.outcomes["local"] <= 125  # 80 ms of 10 s each
    tracked = [each.fidelity for each in result.frames if each.outcome is Outcome.TRACKED]
    assert 0 < min(tracked) < max(tracked) < 1


# -- laws ---------------------------------------------------------------------------------------------------------

EVIL = replace(
    BUSY,
    workers=2,
    edge_bursts=(Burst(1.0, 1.0, 4.0),),
    worker_bursts=(Burst(2.0, 1.0, 10.0),),
    losses=(Loss(0, 3.0, 2.0), Loss(1, 4.0, 2.0)),
    outages=(Outage(7.0, 1.0), Outage(8.5, 0.5, cut=True)),
)


@pytest.mark.parametrize(
    "policy",
    ["adaptive", "local", "cloud", "track", "only:split", "static:split/c/temporal-80", "static:frame/h264-24"],
)
@pytest.mark.parametrize("scenario", [BUSY, EVIL], ids=["calm", "evil"])
def test_every_captured_frame_has_one_outcome(policy: str, scenario: Scenario) -> None:
    result = simulate(SPREAD, policy, load_link("lte", duration_s=10), scenario, seed=4)
    counts = dict(result.outcomes)
    assert counts.pop("captured") == len(result.frames) == 250
    assert sum(counts.values()) == 250
    for outcome in Outcome:
        assert counts[outcome.value] == sum(each.outcome is outcome for each in result.frames)
    assert all(0 <= each.fidelity <= 1 and each.latency_ms >= 0 for each in result.frames)
    assert all(each.latency_ms <= scenario.deadline_ms for each in result.frames if each.hit)


def test_a_run_repeats_and_another_seed_is_another_run() -> None:
    link = load_link("lte", duration_s=10)
    first, again, other = (simulate(SPREAD, "adaptive", link, EVIL, seed=seed) for seed in (4, 4, 5))
    assert first == again
    assert first.frames != other.frames


_PRINT = """
import hashlib, sys
sys.path.append(sys.argv[1])
from test_sim_run import EVIL, SPREAD, load_link, simulate
result = simulate(SPREAD, "adaptive", load_link("lte", duration_s=10), EVIL, seed=4)
print(hashlib.sha256(repr(result).encode()).hexdigest())
"""


def test_it_repeats_to_the_byte_in_other_processes() -> None:
    """Whatever the order of hashes there."""
    hashes = {
        subprocess.run(
            [sys.executable, "-c", _PRINT, str(Path(__file__).parent)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(hashes) == 1 and len(hashes.pop().strip()) == 64


def test_policies_meet_the_same_luck() -> None:
    """Local runs take the same, frame by frame, whatever else the policy does."""
    link = steady(8e6)
    scenario = replace(SLOW, duration_s=3.0)
    here = simulate(SPREAD, "local", link, scenario, seed=1).frames
    also = simulate(SPREAD, "static:local", link, scenario, seed=1).frames
    assert [each.latency_ms for each in here] == [each.latency_ms for each in also]
    assert len({round(each.latency_ms, 6) for each in here}) > 20


@dataclass
class Pupil:
    """Decides as another policy does, and remembers what it is told."""

    teacher: Policy
    name: str = "pupil"
    told: list[tuple[str, float, bool]] = field(default_factory=list)

    def decide(self, *, world: World, seen: Observation) -> Decision:
        return self.teacher.decide(world=world, seen=seen)

    def settled(self, decision: Decision, *, latency_ms: float, answered: bool, now_ns: int) -> None:
        self.told.append((decision.point.name, latency_ms, answered))


def test_a_policy_that_learns_is_told_how_each_of_its_decisions_ended() -> None:
    pupil = Pupil(make_policy("adaptive", SPREAD.points))
    result = simulate(SPREAD, pupil, load_link("lte", duration_s=10), EVIL, seed=4)
    assert result == simulate(SPREAD, "adaptive", load_link("lte", duration_s=10), EVIL, seed=4)
    ended = [
        (each.point, round(each.latency_ms - EVIL.prepare_ms, 6), each.outcome.inferred) for each in result.frames
    ]
    assert sorted((name, round(ms, 6), answered) for name, ms, answered in pupil.told) == sorted(ended)


def test_a_plan_without_pictures_is_probed_all_the_same() -> None:
    split_only = replace(SPREAD, points=tuple(point for point in SPREAD.points if point.place is not Place.FRAME))
    result = simulate(split_only, "adaptive", steady(8e6), BUSY, seed=1)
    assert result.outcomes["split"] > 200


def test_over_a_thin_link_a_stream_fades_in_where_a_whole_key_would_be_late() -> None:
    """6210 bytes at 16 kbyte/s are 388 ms: the first answers come before such a key could."""
    scenario = Scenario(duration_s=8.0, fps=10.0, deadline_ms=400.0, edge_slowdown=2.0)
    result = simulate(PLAN, "static:split/c/temporal-80", steady(128e3, delay_ms=30.0), scenario, seed=1)
    answered = [each for each in result.frames if each.outcome is Outcome.SPLIT and each.hit]
    assert len(answered) > 60
    assert answered[0].fidelity < 0.9 * TEMPORAL.fidelity  # a part of the key
    assert [each.fidelity for each in answered[-30:]] == pytest.approx([TEMPORAL.fidelity] * 30)


# -- what goes wrong ----------------------------------------------------------------------------------------------


def test_in_an_outage_nothing_comes_back_and_frames_are_tracked_or_run_here() -> None:
    scenario = replace(BUSY, duration_s=12.0, outages=(Outage(4.0, 4.0),))
    for policy in ("adaptive", "cloud"):
        result = simulate(PLAN, policy, steady(8e6), scenario, seed=2)
        assert not set(between(result, scenario, 4.0, 7.8)) & set(REMOTE), policy
        assert set(between(result, scenario, 3.0, 3.8)) <= set(REMOTE), policy
    # Whoever adapts goes on with the device, and is back within two seconds.
    mixed = simulate(PLAN, "adaptive", steady(8e6), scenario, seed=2)
    assert Outcome.LOCAL in between(mixed, scenario, 5.0, 8.0)
    assert set(between(mixed, scenario, 10.0, 12.0)) <= set(REMOTE)


def test_a_cut_that_waits_for_a_reply_in_vain_is_resumed_here() -> None:
    scenario = replace(SLOW, outages=(Outage(1.0, 1.0),), edge_slowdown=3.0)
    result = simulate(PLAN, f"static:{U8.name}", steady(8e6), scenario, seed=0)
    resumed = [each for each in result.frames if each.outcome is Outcome.RESUMED]
    assert between(result, scenario, 0.0, 0.9) == [Outcome.SPLIT] * 9
    assert set(between(result, scenario, 1.0, 2.0)) == {Outcome.RESUMED}
    # The head is not run twice: the tail alone, 3 × 9 ms, from when the timer fired; and nothing is lost by it.
    assert all(each.hit and each.fidelity == 1.0 and each.latency_ms > 100 for each in resumed)


def test_a_lost_worker_takes_what_it_held_along_and_its_stream_begins_anew() -> None:
    scenario = replace(BUSY, losses=(Loss(0, 4.0, 2.0),), duration_s=10.0)
    policy = "static:split/c/temporal-80"
    result = simulate(PLAN, policy, steady(8e6), scenario, seed=2)
    assert Outcome.SPLIT not in between(result, scenario, 4.0, 5.9)
    assert between(result, scenario, 7.0, 10.0).count(Outcome.SPLIT) > 60
    whole = simulate(PLAN, policy, steady(8e6), replace(scenario, losses=()), seed=2)
    assert Outcome.SPLIT in between(whole, scenario, 4.0, 5.9)


def test_another_worker_takes_over() -> None:
    scenario = replace(BUSY, workers=2, losses=(Loss(0, 4.0, 3.0),))
    result = simulate(PLAN, "static:split/c/temporal-80", steady(8e6), scenario, seed=2)
    assert between(result, scenario, 5.5, 7.0).count(Outcome.SPLIT) > 30


def test_without_a_cloud_the_adaptive_policy_is_as_good_as_the_device_alone() -> None:
    for link in ("dead", "satellite"):
        trace = load_link(link, duration_s=10)
        adaptive, local = (simulate(SPREAD, name, trace, BUSY, seed=3).figures() for name in ("adaptive", "local"))
        assert adaptive.utility >= 0.99 * local.utility, link


def test_a_slow_worker_is_known_from_its_answers_alone() -> None:
    """A burst on the worker makes replies late: the policy leaves while it lasts."""
    scenario = replace(BUSY, duration_s=12.0, worker_bursts=(Burst(4.0, 4.0, 20.0),))
    result = simulate(PLAN, "adaptive", steady(8e6), scenario, seed=2)
    before, during = (between(result, scenario, *span) for span in ((2.0, 4.0), (5.0, 8.0)))
    assert sum(each in REMOTE for each in before) > 0.9 * len(before)
    assert sum(each in REMOTE for each in during) < 0.2 * len(during)


def test_a_burst_on_the_edge_makes_local_runs_slower() -> None:
    scenario = replace(SLOW, edge_bursts=(Burst(1.0, 0.5, 3.0),))
    latencies = [each.latency_ms for each in simulate(PLAN, "static:local", steady(8e6), scenario, seed=0).frames]
    assert latencies[:10] == pytest.approx([18.0] * 10)
    assert latencies[10:15] == pytest.approx([50.0] * 5)
    assert latencies[15:] == pytest.approx([18.0] * 5)


def test_a_queue_that_is_full_takes_nothing_more() -> None:
    """Nothing crosses 1 kbit/s: beyond the bound frames are not even sent."""
    scenario = replace(SLOW, duration_s=3.0, queue_bytes=12_000)
    result = simulate(PLAN, "static:frame/jpeg-50", steady(1e3), scenario, seed=0)
    assert result.uplink_bytes <= 3 * 5000 + 2 * 1000
    assert result.outcomes["local"] > 20  # what can't be sent runs here


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: replace(BUSY, fps=0.0), "fps"),
        (lambda: replace(BUSY, deadline_ms=-1.0), "deadline_ms"),
        (lambda: replace(BUSY, prepare_ms=150.0, fps=1.0), "prepare_ms"),
        (lambda: replace(BUSY, prepare_ms=40.0), "prepare_ms"),
        (lambda: replace(BUSY, losses=(Loss(1, 0.0, 1.0),)), "losses"),
    ],
)
def test_a_scenario_that_can_not_be_is_refused(make: Callable[[], Scenario], key: str) -> None:
    with pytest.raises(SettingsError) as refused:
        make()
    assert refused.value.key == key
