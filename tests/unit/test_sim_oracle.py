"""The oracles: hand-computed choices, the link's curve against the trace itself, and no policy above the horizon."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmesh.frames.outcome import Outcome
from splitmesh.provision.link.presets import load_link
from splitmesh.provision.link.trace import LinkTrace, Step
from splitmesh.settings.units import Outage
from splitmesh.sim.curve import Curve
from splitmesh.sim.oracle import foresee
from splitmesh.sim.run import simulate
from splitmesh.sim.scenario import Burst, Scenario

sys.path.append(str(Path(__file__).parent))
from sim_values import PLAN, SPREAD, steady

SLOW = Scenario(duration_s=2.0, fps=10.0, deadline_ms=200.0, prepare_ms=2.0, edge_slowdown=1.0)
BUSY = Scenario(duration_s=10.0, fps=25.0, deadline_ms=150.0, edge_slowdown=5.0)


def test_with_an_idle_device_everything_runs_here() -> None:
    result = foresee(PLAN, steady(8e6), SLOW, seed=0)
    assert {each.point for each in result.frames} == {"local"} and result.uplink_bytes == 0
    assert result.figures().utility == 1.0
    local_ms = next(p.edge_ms for p in PLAN.points if p.name == "local")
    assert [each.latency_ms for each in result.frames] == pytest.approx([2 + local_ms] * 20)


def test_a_device_too_slow_for_the_deadline_sends_what_keeps_most() -> None:
    result = foresee(PLAN, steady(80e6), replace(SLOW, edge_slowdown=100.0), seed=0)
    best = max(p.fidelity for p in PLAN.points if p.place.value == "frame")
    assert all(each.outcome is Outcome.FRAME and each.fidelity == best for each in result.frames)
    assert result.uplink_bytes > 0


def test_without_a_link_the_oracle_is_left_with_the_device_and_the_tracker() -> None:
    slow = replace(BUSY, edge_slowdown=8.0)
    result = foresee(PLAN, load_link("dead"), slow, seed=0)
    assert {each.outcome for each in result.frames} == {Outcome.LOCAL, Outcome.TRACKED}
    local = simulate(PLAN, "local", load_link("dead"), slow, seed=0).figures().utility
    assert result.figures().utility >= local


@pytest.mark.parametrize("link", ["lte", "3g", "lab-default"])
@pytest.mark.parametrize("slowdown", [3.0, 8.0])
def test_no_policy_does_better_than_the_horizon(link: str, slowdown: float) -> None:
    scenario = replace(BUSY, edge_slowdown=slowdown)
    trace = load_link(link, duration_s=10.0)
    horizon = foresee(SPREAD, trace, scenario, seed=3).figures().utility
    statics = [f"static:{point.name}" for point in PLAN.points if point.name != "track"]
    for policy in ("adaptive", "local", *statics):
        assert simulate(SPREAD, policy, trace, scenario, seed=3).figures().utility <= horizon + 0.002, policy
    assert foresee(SPREAD, trace, scenario, seed=3, width=1).figures().utility <= horizon


def test_it_knows_of_bursts_and_outages_beforehand() -> None:
    burst = replace(BUSY, edge_bursts=(Burst(2.0, 3.0, 50.0),))
    result = foresee(PLAN, steady(80e6), burst, seed=0)
    during = [each.outcome for each in result.frames[50:125]]
    assert Outcome.LOCAL not in during and Outcome.FRAME in during
    cut = replace(BUSY, edge_slowdown=100.0, outages=(Outage(2.0, 3.0, cut=True),))
    gone = foresee(PLAN, steady(80e6), cut, seed=0)
    assert {each.outcome for each in gone.frames[51:123]} <= {Outcome.TRACKED, Outcome.LOCAL}
    assert gone.frames[130].outcome is Outcome.FRAME


@pytest.mark.parametrize("factor", [8.0, 20.0])
def test_it_leaves_no_queue_to_a_pool_that_is_slow_for_a_while(factor: float) -> None:
    slow = replace(BUSY, duration_s=8.0, edge_slowdown=10.0, worker_bursts=(Burst(2.0, 2.0, factor),))
    utilities = foresee(SPREAD, steady(8e6), slow, seed=0).utilities
    assert sum(utilities[100:]) / 100 > 0.93
    for policy in ("adaptive", "neurosurgeon", "static:frame/jpeg-50"):
        assert sum(simulate(SPREAD, policy, steady(8e6), slow, seed=0).utilities) < sum(utilities), policy


def test_the_same_twice_and_another_with_other_luck() -> None:
    trace = load_link("3g", duration_s=10.0)
    assert foresee(SPREAD, trace, BUSY, seed=1, width=4) == foresee(SPREAD, trace, BUSY, seed=1, width=4)
    assert foresee(SPREAD, trace, BUSY, seed=1, width=4) != foresee(SPREAD, trace, BUSY, seed=2, width=4)


@given(
    rates=st.lists(st.just(0.0) | st.floats(1e4, 1e6), min_size=1, max_size=8),
    begin_s=st.floats(0, 20),
    start_s=st.floats(0, 15),
    size_bytes=st.integers(1, 200_000),
    gone=st.booleans(),
)
def test_a_curve_says_what_its_trace_says(
    rates: list[float], begin_s: float, start_s: float, size_bytes: int, gone: bool
) -> None:
    steps = tuple(Step(float(at), rate, 5.0, 0.0) for at, rate in enumerate(rates))
    trace = LinkTrace("t", steps, float(len(rates)))
    if gone:
        trace = trace.with_outages([Outage(begin_s + 1.0, 2.0)])
    curve = Curve(trace, begin_s=begin_s, end_s=begin_s + 20)
    expected = trace.finish_s(begin_s + start_s, size_bytes) - begin_s
    found = curve.finish_s(start_s, size_bytes)
    if expected < 19.999:
        assert math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-5)
    elif expected > 20.001:
        assert found == math.inf
