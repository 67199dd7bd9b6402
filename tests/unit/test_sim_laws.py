"""Laws that hold in whatever befalls a run: one outcome per frame, figures within their bounds, repetition."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from splitmesh.provision.link.trace import LinkTrace, Step
from splitmesh.settings.units import Outage
from splitmesh.sim.run import simulate
from splitmesh.sim.scenario import Burst, Loss, Scenario

sys.path.append(str(Path(__file__).parent))
from sim_values import POINTS, SPREAD

LENGTH_S = 3.0
CODED_MS = 10.0
starts = st.floats(0, LENGTH_S)
lengths = st.floats(0.01, LENGTH_S)
rates = st.sampled_from([0.0, 3e4, 3e5, 3e6, 3e7])
bursts = st.lists(st.builds(Burst, starts, lengths, st.floats(0.2, 30)), max_size=2).map(tuple)
links = st.lists(st.tuples(rates, st.floats(0, 200), st.floats(0, 30)), min_size=1, max_size=4).map(
    lambda steps: LinkTrace("made up", tuple(Step(float(at), *each) for at, each in enumerate(steps)), len(steps))
)
scenarios = st.builds(
    Scenario,
    duration_s=st.just(LENGTH_S),
    fps=st.sampled_from([4.0, 15.0, 30.0]),
    deadline_ms=st.sampled_from([40.0, 150.0, 1000.0]),
    edge_slowdown=st.floats(0.5, 30),
    workers=st.just(2),
    slots=st.integers(1, 3),
    trace_start_s=starts,
    queue_bytes=st.sampled_from([0, 10_000, 1_000_000]),
    motion=st.floats(0, 0.3),
    edge_bursts=bursts,
    worker_bursts=bursts,
    losses=st.lists(st.builds(Loss, st.integers(0, 1), starts, lengths), max_size=3).map(tuple),
    outages=st.lists(st.builds(Outage, starts, lengths, st.booleans()), max_size=2).map(tuple),
)
policies = st.sampled_from(["adaptive", "local", "cloud", "track", *(f"static:{point.name}" for point in POINTS)])


@settings(max_examples=60, deadline=None)
@given(policies, links, scenarios, st.integers(0, 3))
def test_every_frame_ends_once_and_runs_repeat(policy: str, link: LinkTrace, scenario: Scenario, seed: int) -> None:
    result = simulate(SPREAD, policy, link, scenario, seed=seed)
    counts = dict(result.outcomes)
    assert counts.pop("captured") == len(result.frames) == scenario.frames == sum(counts.values())
    for each in result.frames:
        assert 0 <= each.fidelity <= 1
        assert each.hit == (each.outcome.answered and each.latency_ms <= scenario.deadline_ms)
        assert scenario.prepare_ms <= each.latency_ms + 1e-6
        # A head that was done within the last moments of the grace is still coded before its frame is given up.
        assert each.latency_ms <= scenario.deadline_ms + 2000.0 + CODED_MS
    figures = result.figures()
    assert 0 <= figures.utility <= min(figures.hit, figures.fidelity) <= 1
    assert simulate(SPREAD, policy, link, scenario, seed=seed) == result
