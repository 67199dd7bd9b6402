"""Answers that err more than the plan says: what a scenario makes of them, and what audits then do for the policy."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from splitmesh.errors import SettingsError
from splitmesh.frames.outcome import Outcome
from splitmesh.policy.audit import AuditSchedule
from splitmesh.policy.base import forecast
from splitmesh.policy.decision import Decision, Observation
from splitmesh.policy.world import World
from splitmesh.sim.device import Device
from splitmesh.sim.engine import Engine
from splitmesh.sim.run import simulate
from splitmesh.sim.scenario import Scenario

sys.path.append(str(Path(__file__).parent))
from sim_values import H264, JPEG, LOCAL, PLAN, SPREAD, U8, steady

MS = 1_000_000
CALM = Scenario(duration_s=2.0, fps=10.0, deadline_ms=300.0, prepare_ms=2.0, stack_ms=0.2, edge_slowdown=1.0)
FAST = steady(8e6)


class Always:
    """One point for all frames; keeps the world that it was shown."""

    name = "always"

    def __init__(self, point: str) -> None:
        self._point = point
        self.world: World | None = None

    def decide(self, *, world: World, seen: Observation) -> Decision:
        self.world = world
        return Decision(forecast(world.by_name[self._point], world, seen), "always", ())


def kept(point: str, ratios: Mapping[str, float]) -> float:
    """What answers of that point keep."""
    frames = simulate(PLAN, Always(point), FAST, replace(CALM, error_ratios=ratios), seed=0).frames
    (fidelity,) = {each.fidelity for each in frames}
    return fidelity


@pytest.mark.parametrize(
    ("point", "ratios", "fidelity"),
    [
        (JPEG.name, {}, 0.9),
        (JPEG.name, {"jpeg": 3.0}, 0.7),
        (JPEG.name, {"frame": 2.0}, 0.8),
        (JPEG.name, {"frame": 2.0, "jpeg": 0.5}, 0.95),
        (JPEG.name, {"h264": 3.0, "split": 3.0}, 0.9),
        (JPEG.name, {"jpeg": 50.0}, 0.0),
        (U8.name, {"split": 4.0}, 0.96),
        (LOCAL.name, {"local": 9.0, "frame": 9.0}, 1.0),
    ],
)
def test_answers_err_as_the_scenario_says(point: str, ratios: dict[str, float], fidelity: float) -> None:
    assert kept(point, ratios) == pytest.approx(fidelity)


@pytest.mark.parametrize("ratio", [-0.1, float("inf"), float("nan")])
def test_no_error_is_such_a_multiple(ratio: float) -> None:
    with pytest.raises(SettingsError, match="error_ratios"):
        Scenario(error_ratios={"jpeg": ratio})


@pytest.mark.parametrize("ratio", [0.5, 1.0, 3.0])
def test_audits_find_out_what_answers_keep(ratio: float) -> None:
    policy = Always(JPEG.name)
    scenario = replace(CALM, duration_s=60.0, error_ratios={"jpeg": ratio})
    simulate(PLAN, policy, FAST, scenario, seed=1)
    assert policy.world is not None and policy.world.fidelity.audits > 50
    assert policy.world.by_name[JPEG.name].fidelity == pytest.approx(1 - 0.1 * ratio, abs=0.06)


def test_what_is_believed_changes_no_answer() -> None:
    """Not what a coarser one keeps of it either: that goes by the truth."""
    thin, scenario = steady(1.2e5), replace(CALM, duration_s=20.0, error_ratios={"split": 3.0})
    known = simulate(PLAN, "static:split/c/temporal-80", thin, scenario, seed=0)
    truth = replace(PLAN, points=tuple(replace(p, fidelity=scenario.true_fidelity(p)) for p in PLAN.points))
    told = simulate(truth, "static:split/c/temporal-80", thin, replace(scenario, error_ratios={}), seed=0)
    pairs = [
        (a.fidelity, b.fidelity) for a, b in zip(known.frames, told.frames, strict=True) if a.outcome is Outcome.SPLIT
    ]
    assert len(pairs) > 50 and all(a == pytest.approx(b, abs=0.02) for a, b in pairs)


# -- the device ---------------------------------------------------------------------------------------------------


def test_an_audit_gives_way_and_says_how_long_it_ran() -> None:
    engine, ended = Engine(), []
    device = Device(engine, slowdown=4.0)
    device.spare(expected_ms=40.0, needs_ms=40.0, over=lambda ran_ms, whole: ended.append((ran_ms, whole)))
    engine.run(4 * MS)
    assert device.backlog_ms(4 * MS) == pytest.approx(6.0), "what can't be cut short"
    engine.at(15 * MS, lambda: device.submit(expected_ms=20.0, needs_ms=20.0))
    engine.run(15 * MS)
    assert ended == [(15.0, False)] and device.backlog_ms(15 * MS) == pytest.approx(20.0)
    engine.run(100 * MS)
    assert device.backlog_ms(100 * MS) == 0


def test_an_audit_of_an_idle_device_comes_to_its_end() -> None:
    engine, ended = Engine(), []
    device = Device(engine, slowdown=4.0)
    device.spare(expected_ms=30.0, needs_ms=40.0, over=lambda ran_ms, whole: ended.append((ran_ms, whole)))
    engine.run(100 * MS)
    assert ended == [(40.0, True)] and device.backlog_ms(100 * MS) == 0


# -- what it is worth ---------------------------------------------------------------------------------------------


def gained(monkeypatch: pytest.MonkeyPatch, ratios: Mapping[str, float], *, seeds: int = 2) -> float:
    """Mean utility of the adaptive policy over what it has without audits."""
    scenario = Scenario(duration_s=20.0, edge_slowdown=10.0, error_ratios=ratios)
    utilities = []
    for audited in (True, False):
        if not audited:
            monkeypatch.setattr(AuditSchedule, "due", lambda *_: False)
        runs = [simulate(SPREAD, "adaptive", steady(8e5), scenario, seed=seed).utilities for seed in range(seeds)]
        utilities.append(sum(map(sum, runs)) / sum(map(len, runs)))
    return utilities[0] - utilities[1]


def test_a_codec_that_keeps_less_than_promised_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gained(monkeypatch, {H264.codec: 4.0}) > 0.1


def test_where_the_plan_is_right_audits_cost_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gained(monkeypatch, {}) > -0.002
