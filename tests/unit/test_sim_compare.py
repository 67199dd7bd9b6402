"""Comparisons of policies: hindsight, intervals, what is shared between runs, the document."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import pytest

from splitmesh.errors import SettingsError
from splitmesh.provision.link.trace import LinkTrace, Step
from splitmesh.sim.compare import STATIC_BEST, PolicyComparison, Wanted, compare
from splitmesh.sim.errand import start_s
from splitmesh.sim.run import simulate
from splitmesh.sim.scenario import Scenario
from splitmesh.sim.standing import interval95

sys.path.append(str(Path(__file__).parent))
from sim_values import PLAN, POINTS, SPREAD, steady

SCENARIO = Scenario(duration_s=2.0, fps=10.0, deadline_ms=200.0, prepare_ms=2.0, stack_ms=0.2, edge_slowdown=4.0)
TRACES = {"fast": steady(2e7), "slow": steady(1e5)}


def compared(policies: tuple[str, ...], *, seeds: int = 1) -> PolicyComparison:
    ticks = itertools.count()
    wanted = Wanted(lambda _: SPREAD, TRACES, policies, seeds, SCENARIO)
    return compare(wanted, clock=lambda: next(ticks) * 0.1)


def test_the_best_static_policy_is_found_for_each_link() -> None:
    runs = compared(("local", STATIC_BEST)).runs
    for name, trace in TRACES.items():
        tried = {
            point.name: simulate(SPREAD, f"static:{point.name}", trace, SCENARIO, seed=0).figures().utility
            for point in POINTS
            if point.name != "track"
        }
        found = runs[name][STATIC_BEST]
        assert found.utilities == [max(tried.values())]
        assert tried[found.point] == max(tried.values())
        assert found.frames == 5 * SCENARIO.frames
    assert runs["fast"]["local"].point == ""


def test_utility_is_the_mean_of_hit_times_fidelity() -> None:
    result = simulate(PLAN, "static:frame/jpeg-50", steady(2e7), SCENARIO, seed=0)
    figures = result.figures()
    assert figures.utility == pytest.approx(0.9) and figures.hit == 1.0
    # prepare 2, encode 1, 2 on the link, 10, 0.4 in the LAN, 17 at the worker, 0.5 and 10 back
    assert figures.latency_ms.p50 == pytest.approx(42.9)
    assert figures.decisions == {"frame/jpeg-50": 20} and figures.switches_per_min == 0.0
    late = simulate(PLAN, "static:frame/jpeg-50", steady(1e5), SCENARIO, seed=0).figures()
    assert late.utility < late.fidelity or late.hit == 1.0


def test_intervals_are_students() -> None:
    assert interval95([0.5]) is None
    low, high = interval95([1.0, 2.0, 3.0]) or [0.0, 0.0]
    assert (low, high) == pytest.approx((2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5))
    wide = interval95([0.0, 1.0] * 50) or [0.0, 0.0]
    assert wide == pytest.approx([0.5 - 1.96 * 0.050252, 0.5 + 1.96 * 0.050252], abs=1e-4)


def test_seeds_begin_at_different_places_of_a_trace_that_loops() -> None:
    looped = LinkTrace("looped", (Step(0.0, 1e6), Step(30.0, 2e6)), 60.0)
    assert [start_s(looped, seed, 3) for seed in range(3)] == [0.0, 20.0, 40.0]
    once = LinkTrace("once", looped.steps, 60.0, loop=False)
    assert [start_s(once, seed, 3) for seed in range(3)] == [0.0] * 3


def test_the_document_holds_every_policy_of_every_trace() -> None:
    comparison = compared(("adaptive", "local"), seeds=3)
    document = json.loads(json.dumps(comparison.document(), allow_nan=False))
    assert document["traces"].keys() == TRACES.keys()
    for entry in document["traces"].values():
        for name in ("adaptive", "local"):
            row = entry["policies"][name]
            assert row["ci95"][0] <= row["utility"] <= row["ci95"][1]
            assert row["latency_ms"]["p50"] <= row["latency_ms"]["p95"] <= row["latency_ms"]["p99"]
            assert 0 <= row["utility"] <= row["fidelity"] <= 1
            assert 0 < row["held_fidelity"] < row["fidelity"] and 0 <= row["inferred"] <= row["hit"]
            assert row["outcomes"]["captured"] == sum(row["decisions"].values()) == 3 * SCENARIO.frames
    overall = document["overall"]
    assert overall["adaptive"]["first_ahead_by"] == 0.0
    ahead = overall["adaptive"]["utility"] - overall["local"]["utility"]
    assert overall["local"]["first_ahead_by"] == pytest.approx(ahead)
    # The clock's ticks are 0.1 s apart, two for each run of 20 frames.
    assert document["us_per_frame"]["local"] == pytest.approx(0.1 / 20 * 1e6, rel=1e-3)


@pytest.mark.parametrize(("policies", "traces"), [((), TRACES), (("local",), {})])
def test_there_must_be_something_to_compare(policies: tuple[str, ...], traces: dict[str, LinkTrace]) -> None:
    with pytest.raises(SettingsError):
        compare(Wanted(lambda _: PLAN, traces, policies, 1, SCENARIO), clock=lambda: 0.0)


def test_progress_is_told_up_to_the_end() -> None:
    told: list[float] = []
    wanted = Wanted(lambda _: PLAN, TRACES, ("local", "cloud"), 2, SCENARIO)
    compare(wanted, clock=lambda: 0.0, progress=told.append)
    assert told == [pytest.approx(done / 8) for done in range(1, 9)]


def test_progress_counts_a_slow_run_for_more() -> None:
    told: list[float] = []
    wanted = Wanted(lambda _: PLAN, {"fast": TRACES["fast"]}, ("local", "oracle-horizon"), 1, SCENARIO)
    compare(wanted, clock=lambda: 0.0, progress=told.append)
    assert told == [pytest.approx(25 / 26), pytest.approx(1.0)]  # the slow one goes first


def test_several_slowdowns_make_a_case_of_each_pair() -> None:
    wanted = Wanted(lambda _: PLAN, TRACES, ("local",), 1, SCENARIO, (4.0, 10.0), {"fast": "wired"})
    document = compare(wanted, clock=lambda: 0.0).document()
    assert list(document["traces"]) == ["fast @4x", "slow @4x", "fast @10x", "slow @10x"]
    entry = document["traces"]["slow @10x"]
    assert (entry["trace"], entry["edge_slowdown"], entry["set"]) == ("slow", 10.0, "links")
    assert document["edge_slowdowns"] == [4.0, 10.0] and document["scenario"]["edge_slowdown"] is None
    by_slowdown = [document["traces"][f"fast @{k}x"]["policies"]["local"]["latency_ms"]["p50"] for k in (4, 10)]
    assert by_slowdown == pytest.approx([2 + 4 * 16, 2 + 10 * 16])
    groups = [(each["set"], each["edge_slowdown"]) for each in document["leaderboard"]]
    assert groups == [("wired", 4.0), ("links", 4.0), ("wired", 10.0), ("links", 10.0)]


def test_one_slowdown_is_one_entry_per_trace_by_its_own_name() -> None:
    wanted = Wanted(lambda _: PLAN, TRACES, ("local",), 1, SCENARIO, (10.0,))
    document = compare(wanted, clock=lambda: 0.0).document()
    assert list(document["traces"]) == ["fast", "slow"] and document["scenario"]["edge_slowdown"] == 10.0
    assert document["traces"]["fast"]["policies"]["local"]["latency_ms"]["p50"] == pytest.approx(162.0)
