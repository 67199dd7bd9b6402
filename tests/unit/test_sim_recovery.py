"""Shifts: what they do to a run, when a policy is back from one, and what it cost."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from splitmesh.errors import SettingsError
from splitmesh.provision.link.presets import load_link
from splitmesh.provision.link.trace import LinkTrace, Step
from splitmesh.settings.units import Outage
from splitmesh.sim.compare import BEST_ORACLE, Wanted
from splitmesh.sim.errand import Case
from splitmesh.sim.recovery import (
    REGRET_FRAMES,
    WINDOW,
    Disturbed,
    Recovered,
    RecoveryComparison,
    frames_to_recover,
    recover,
    regret,
)  # fmt: skip
from splitmesh.sim.recovery_document import recovery_document, summary
from splitmesh.sim.run import simulate
from splitmesh.sim.scenario import Burst, Scenario
from splitmesh.sim.shift import KINDS, Shift, laid_out, shifted

sys.path.append(str(Path(__file__).parent))
from sim_values import SPREAD, steady

SHIFT = Shift(start_s=2.0, length_s=2.0)
SCENARIO = Scenario(duration_s=15.0, fps=10.0, deadline_ms=200.0, prepare_ms=2.0, edge_slowdown=4.0)
SAWTOOTH = LinkTrace("sawtooth", (Step(0.0, 1e6, 10.0), Step(3.0, 2e6, 30.0), Step(5.0, 0.5e6, 20.0)), 7.0)


@pytest.mark.parametrize("begin_s", [0.0, 4.5, 30.0])
def test_a_link_laid_out_offers_what_the_trace_does_and_less_in_the_collapse(begin_s: float) -> None:
    scenario = Scenario(duration_s=20.0, trace_start_s=begin_s)
    laid = laid_out(SAWTOOTH, scenario, collapse=Outage(2.25, 2.0), share=0.03)
    for at_s in np.arange(0.05, 20.0, 0.1).tolist():
        share = 0.03 if 2.25 <= at_s < 4.25 else 1.0
        assert laid.rate_bps(at_s) == pytest.approx(share * SAWTOOTH.rate_bps(begin_s + at_s)), at_s
        assert laid.delay_ms(at_s) == SAWTOOTH.delay_ms(begin_s + at_s), at_s
    assert laid.down_bps == SAWTOOTH.down_bps


def test_outages_of_the_trace_stay_where_they_are() -> None:
    trace = SAWTOOTH.with_outages([Outage(1.0, 2.0), Outage(6.0, 3.0, cut=True), Outage(40.0, 1.0)])
    laid = laid_out(trace, Scenario(duration_s=20.0, trace_start_s=7.0), collapse=Outage(12.0, 2.0), share=1.0)
    assert laid.outages == (Outage(0.0, 2.0, cut=True), Outage(33.0, 1.0))


@pytest.mark.parametrize("begin_s", [0.0, 20.0])
def test_a_run_without_a_shift_is_the_run_over_the_trace_itself(begin_s: float) -> None:
    trace = load_link("lte", duration_s=30.0)
    scenario = Scenario(duration_s=15.0, fps=10.0, edge_slowdown=4.0, trace_start_s=begin_s)
    laid = shifted("", SHIFT, trace, scenario)
    plain, again = (simulate(SPREAD, "adaptive", *each, seed=1) for each in ((trace, scenario), laid))
    assert plain.utilities == pytest.approx(again.utilities, abs=1e-9)
    assert plain.figures().latency_ms.mean == pytest.approx(again.figures().latency_ms.mean, abs=1e-3)


def test_each_kind_shifts_one_thing() -> None:
    burst = Burst(2.0, 2.0, 4.0)
    calm, edge, link, worker = (shifted(kind, SHIFT, steady(1e6), SCENARIO) for kind in ("", *KINDS))
    assert edge.scenario.edge_bursts == (burst,) and edge.trace == calm.trace
    assert worker.scenario.worker_bursts == (burst._replace(factor=8.0),) and worker.trace == calm.trace
    assert link.scenario == calm.scenario and link.trace.rate_bps(3.0) == pytest.approx(3e4)
    with pytest.raises(SettingsError, match="no shift is called 'moon'"):
        shifted("moon", SHIFT, steady(1e6), SCENARIO)


def drop(at: int, frames: int, *, count: int = 60, to: float = 0.2) -> list[float]:
    """Utilities of 0.9 but `to` for `frames` from `at`."""
    return [to if at <= i < at + frames else 0.9 for i in range(count)]


@pytest.mark.parametrize(
    ("own", "oracle", "frames"),
    [
        (drop(0, 0), drop(0, 0, to=1.0), 0),  # never away
        (drop(5, 15), drop(0, 0), 10),  # bad until frame 20 of which 10 are after the shift's end
        (drop(10, 20), drop(10, 5, to=0.1), 20),
        (drop(5, 15), drop(5, 15), 0),  # so is the oracle
        (drop(10, 50), drop(0, 0), None),
        ([0.9, 0.88] * 30, drop(0, 0), 0),  # within the tolerance
        ([0.86] * 60, drop(0, 0), None),  # just below it
    ],
)
def test_a_policy_is_back_once_a_window_is_as_it_would_have_been(
    own: list[float], oracle: list[float], frames: int | None
) -> None:
    assert frames_to_recover(own, [0.9] * 60, oracle, end=10) == frames


def test_frames_before_the_shifts_end_do_not_count() -> None:
    own = drop(0, 10)
    assert frames_to_recover(own, [0.9] * 60, [0.9] * 60, end=10) == 0
    assert frames_to_recover(own, [0.9] * 60, [0.9] * 60, end=5) == 5


def test_regret_is_in_frames_and_a_better_window_makes_up_for_no_other() -> None:
    assert regret([1.0] * 20, [0.5] * 20) == pytest.approx(10.0)
    assert regret([0.5] * 20, [0.0] * 10 + [1.0] * 10) == pytest.approx(5.0)
    # Within a window it does: what is put off by a frame is not lost.
    assert regret([0.5] * 10, [0.0, 1.0] * 5) == pytest.approx(0.0)
    assert regret([1.0] * 15, [0.0] * 15) == pytest.approx(15.0)


def test_runs_that_never_came_back_are_said_and_not_averaged_away() -> None:
    runs = [Recovered(frames, frames, 1.0, 2.0) for frames in (0, 4, None)]
    found = summary(runs)
    assert (found["frames_p50"], found["frames_worst"], found["strict_worst"]) == (4, None, None)
    assert (found["never"], found["runs"], found["within_30_frames"]) == (1, 3, pytest.approx(2 / 3))
    assert summary(runs[1:])["frames_p50"] == 4 and summary(runs[2:])["frames_p50"] is None
    assert summary(runs[:2])["frames_worst"] == 4


@cache
def recovered() -> RecoveryComparison:
    told: list[float] = []
    wanted = Wanted(lambda _: SPREAD, {"fast": steady(2e6)}, ("static:frame/jpeg-50", "local"), 1, SCENARIO)
    found = recover(wanted, shift=SHIFT, progress=told.append)
    assert told == sorted(told) and told[-1] == pytest.approx(1.0)
    return found


def test_each_shift_hurts_those_who_use_what_it_takes() -> None:
    found = recovered()
    case = Case("fast", 4.0)
    lost = {
        (kind, policy): found.recovered(kind, case, policy, 0) for kind in KINDS for policy in found.wanted.policies
    }
    assert lost["edge", "local"].lost > 5 and abs(lost["edge", "static:frame/jpeg-50"].lost) < 0.5
    assert lost["link", "static:frame/jpeg-50"].lost > 1 and lost["link", "local"].lost == 0
    assert lost["worker", "local"] == Recovered(0, 0, lost["worker", "local"].regret, 0.0)
    assert found.first_after == 40
    bad = found.utilities[Disturbed("edge", case, "local", 0)]
    good = found.utilities[Disturbed("", case, "local", 0)]
    assert list(bad[:20]) == list(good[:20]) and sum(bad[20:40]) < sum(good[20:40])


def test_the_document_says_it_per_kind_with_the_curves_around_the_shift() -> None:
    found = recovered()
    document = json.loads(json.dumps(recovery_document(found), allow_nan=False))
    assert list(document["kinds"]) == list(KINDS)
    for entry in document["kinds"].values():
        assert entry["policies"].keys() == {"static:frame/jpeg-50", "local"}
        curve = entry["curve"]
        assert {len(curve["t_s"])} == {len(each) for each in (curve["oracle"], *curve["policies"].values())}
        assert entry["traces"]["fast"]["local"]["frames"][0] == entry["policies"]["local"]["frames_worst"]
    curve = document["kinds"]["edge"]["curve"]
    at = curve["t_s"].index(1.5)
    last = found.utilities[Disturbed("edge", Case("fast", 4.0), "local", 0)][36 - WINDOW : 36]
    assert curve["policies"]["local"][at] == pytest.approx(np.mean(last), abs=1e-5)
    assert curve["oracle"][at] > curve["policies"]["local"][at]


def test_a_run_must_go_on_long_enough_after_the_shift() -> None:
    wanted = Wanted(lambda _: SPREAD, {"fast": steady(2e7)}, ("local",), 1, SCENARIO)
    with pytest.raises(SettingsError, match="must last 21 s"):
        recover(wanted, shift=Shift(start_s=8.0, length_s=2.0))
    with pytest.raises(SettingsError, match="needs a policy"):
        recover(Wanted(lambda _: SPREAD, {}, ("local",), 1, SCENARIO), shift=SHIFT)
    assert (REGRET_FRAMES, WINDOW, BEST_ORACLE) == (100, 10, "oracle-horizon")
