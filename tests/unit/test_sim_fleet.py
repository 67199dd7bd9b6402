"""Many edges in one run: each conserves its frames, one alone is what it always was, what is shared is shared."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from splitmesh.errors import SettingsError
from splitmesh.provision.link.presets import load_link
from splitmesh.settings.units import Outage
from splitmesh.sim.fleet import Fleet, simulate_fleet
from splitmesh.sim.fleet_result import FleetResult
from splitmesh.sim.run import simulate
from splitmesh.sim.scenario import Burst, Loss, Scenario

sys.path.append(str(Path(__file__).parent))
from sim_values import PLAN, SPREAD, steady

PICTURES = "static:frame/jpeg-50"
"""4790 + 210 bytes, 17 ms of a worker."""
SLOW = Scenario(duration_s=20.0, fps=1.0, deadline_ms=400.0, prepare_ms=2.0, stack_ms=0.2, edge_slowdown=1.0)
QUICK = Scenario(duration_s=4.0, fps=10.0, deadline_ms=200.0, edge_slowdown=5.0)


EVIL = replace(
    QUICK,
    workers=2,
    edge_bursts=(Burst(1.0, 0.5, 4.0),),
    worker_bursts=(Burst(0.5, 1.0, 10.0),),
    losses=(Loss(0, 1.0, 1.0), Loss(1, 1.5, 1.0)),
    outages=(Outage(2.8, 0.3), Outage(3.3, 0.3, cut=True)),
)


def ran(policy: str, scenario: Scenario, fleet: Fleet, *, bps: float = 8e6, seed: int = 0) -> FleetResult:
    return simulate_fleet(PLAN, policy, [steady(bps)], scenario, fleet, seed=seed)


@pytest.mark.parametrize("policy", ["adaptive", "local", "cloud", "static:split/c/temporal-80"])
def test_a_fleet_of_one_is_an_edge_on_its_own(policy: str) -> None:
    link = load_link("lte", duration_s=4)
    scenario = replace(QUICK, workers=2, losses=(Loss(0, 1.0, 1.0),))
    alone = simulate(SPREAD, policy, link, scenario, seed=3)
    fleet = simulate_fleet(SPREAD, policy, [link], scenario, Fleet(1), seed=3)
    figures, (edge,) = alone.figures(), fleet.edges
    assert edge.outcomes == alone.outcomes and fleet.events == alone.events > 0
    assert edge.bytes_per_frame == figures.bytes_per_frame
    assert edge.utility == pytest.approx(figures.utility, abs=1e-12)
    latencies = sorted(each.latency_ms for each in alone.frames)
    assert edge.latency_ms.p50 == pytest.approx((latencies[19] + latencies[20]) / 2)
    assert fleet.figures.decisions == figures.decisions


@pytest.mark.parametrize("policy", ["adaptive", "local", "cloud", "static:split/c/temporal-80"])
def test_every_edge_settles_each_of_its_frames(policy: str) -> None:
    result = simulate_fleet(SPREAD, policy, [load_link("lte", duration_s=4)], EVIL, Fleet(8, 3), seed=1)
    assert [edge.uplink for edge in result.edges] == [0, 0, 0, 1, 1, 1, 2, 2]
    for edge in result.edges:
        counts = dict(edge.outcomes)
        assert counts.pop("captured") == sum(counts.values()) == 40
        assert 0 <= edge.utility <= min(edge.hit, edge.fidelity) <= 1
    assert result.frames == result.figures.outcomes["captured"] == 320
    assert len({edge.latency_ms.mean for edge in result.edges}) == 8


def test_a_fleet_repeats_and_another_seed_is_another_run() -> None:
    link = load_link("lte", duration_s=4)

    def run(seed: int) -> FleetResult:
        return simulate_fleet(SPREAD, "adaptive", [link], replace(QUICK, workers=2), Fleet(6, 2), seed=seed)

    assert run(1) == run(1)
    assert run(1).figures != run(2).figures


def test_edges_on_one_uplink_wait_for_each_other() -> None:
    """A picture holds the link for 100 ms: alone it is there after 140.9 ms, behind others later."""
    apart = ran(PICTURES, SLOW, Fleet(6, 1), bps=4e5)
    together = ran(PICTURES, SLOW, Fleet(6, 6), bps=4e5)
    assert apart.figures.latency_ms.p50 == pytest.approx(140.9)
    assert together.figures.latency_ms.p50 > 160
    assert together.figures.uplink_bps == pytest.approx(6 * apart.figures.uplink_bps, rel=0.1)


def test_one_pool_serves_all_and_tells_how_busy_it_is() -> None:
    """8 edges × 2 pictures a second × 17 ms are 0.272 of one worker, or half of that of each of two."""
    scenario = replace(SLOW, fps=2.0)
    one = ran(PICTURES, scenario, Fleet(8))
    two = ran(PICTURES, replace(scenario, workers=2), Fleet(8))
    assert one.figures.utilisation == pytest.approx(0.272, abs=0.01)
    assert two.figures.utilisation == pytest.approx(0.136, abs=0.01)
    assert len(two.workers) == 2 and all(worker.answered > 0 for worker in two.workers)
    assert one.figures.pool_wait_ms > two.figures.pool_wait_ms > 0
    assert sum(worker.answered for worker in one.workers) <= sum(edge.requests for edge in one.edges)


def test_what_the_pool_has_no_time_for_is_refused() -> None:
    """60 pictures a second need 1.02 of a worker."""
    result = ran(PICTURES, replace(SLOW, fps=10.0, prepare_ms=2.0, deadline_ms=60.0), Fleet(12))
    assert result.figures.refused > 0.3
    assert result.figures.utilisation > 0.9
    assert sum(worker.refused for worker in result.workers) == pytest.approx(
        sum(edge.refused for edge in result.edges), rel=0.01
    )


def test_a_stream_of_one_edge_is_no_other_edges() -> None:
    """All edges number their streams alike; every change finds its own reference."""
    result = ran("static:split/c/temporal-80", replace(QUICK, edge_slowdown=1.0), Fleet(6))
    assert result.figures.outcomes["split"] > 0.9 * result.frames


def test_fairness_and_the_worst_are_of_edges() -> None:
    result = simulate_fleet(SPREAD, "cloud", [steady(8e6), steady(1e5)], replace(QUICK, workers=4), Fleet(40), seed=0)
    utilities = sorted(edge.utility for edge in result.edges)
    assert result.figures.utility_worst == pytest.approx(sum(utilities[:2]) / 2)
    assert result.figures.jain == pytest.approx(sum(utilities) ** 2 / (40 * sum(u * u for u in utilities)))
    good, bad = ([edge.utility for edge in result.edges if edge.uplink % 2 == which] for which in (0, 1))
    assert min(good) > max(bad) and result.figures.jain < 0.99


# -- samples ------------------------------------------------------------------------------------------------------


def test_a_sample_takes_its_share_of_the_pool_and_whole_uplinks() -> None:
    fleet, scenario = Fleet(200, 10), replace(SLOW, workers=10)
    assert fleet.sample(100, scenario) == (Fleet(100, 10), replace(SLOW, workers=5))
    assert fleet.sample(160, scenario) == (Fleet(160, 10), replace(SLOW, workers=8))
    assert fleet.sample(200, scenario) == (fleet, scenario)


@pytest.mark.parametrize("size", [0, 20, 90, 110, 220])
def test_a_sample_that_has_no_share_says_which_has(size: int) -> None:
    with pytest.raises(SettingsError) as caught:
        Fleet(200, 10).sample(size, replace(SLOW, workers=10))
    assert caught.value.key == "sample" and caught.value.advice == "take a multiple of 20 from 100 on"


def test_a_small_fleet_has_no_sample() -> None:
    with pytest.raises(SettingsError) as caught:
        Fleet(20).sample(10, replace(SLOW, workers=5))
    assert "no sample" in str(caught.value.advice)


def test_a_sample_can_lose_no_worker() -> None:
    with pytest.raises(SettingsError, match="stand for many"):
        Fleet(20).sample(10, replace(SLOW, workers=10, losses=(Loss(0, 1.0, 1.0),)))


def test_a_sample_fares_as_the_whole_does() -> None:
    """48 edges over 10 workers, two fifths busy, against 24 over five: within what other luck changes."""
    scenario = replace(SLOW, duration_s=8.0, fps=5.0, workers=10)
    whole = ran(PICTURES, scenario, Fleet(48)).figures
    some = [
        simulate_fleet(PLAN, PICTURES, [steady(8e6)], scenario, Fleet(48), seed=seed, sample=24) for seed in range(3)
    ]
    assert all(each.stands_for == 2 and len(each.edges) == 24 and len(each.workers) == 5 for each in some)
    assert sum(each.figures.utility for each in some) / 3 == pytest.approx(whole.utility, rel=0.02)
    assert sum(each.figures.utilisation for each in some) / 3 == pytest.approx(whole.utilisation, rel=0.03)
    assert sum(each.figures.pool_wait_ms for each in some) / 3 == pytest.approx(whole.pool_wait_ms, rel=0.25)


# -- what can't be ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [(0, 1), (3, 0)])
def test_a_fleet_needs_edges_and_they_an_uplink(wrong: tuple[int, int]) -> None:
    with pytest.raises(SettingsError):
        Fleet(*wrong)


def test_without_a_link_there_is_no_fleet() -> None:
    with pytest.raises(SettingsError, match="needs a link"):
        simulate_fleet(PLAN, "local", [], SLOW, Fleet(2), seed=0)


def test_progress_goes_from_nothing_to_all() -> None:
    told: list[float] = []
    simulate_fleet(PLAN, "local", [steady(8e6)], SLOW, Fleet(2), seed=0, progress=told.append)
    assert told == sorted(told) and told[-1] == 1.0 and math.isclose(told[0], 0.005)
