"""What choices cost in energy, by hand; that an average power is kept to in simulated runs, and what that costs."""

from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmesh.errors import SettingsError
from splitmesh.policy.adaptive import Adaptive
from splitmesh.policy.audit import AuditSchedule
from splitmesh.policy.baselines import make_policy
from splitmesh.policy.decision import Decision, Observation
from splitmesh.policy.energy import PowerAccount, PowerBudget, PowerModel
from splitmesh.policy.world import World
from splitmesh.sim.result import RunResult
from splitmesh.sim.run import simulate
from splitmesh.sim.scenario import Scenario

sys.path.append(str(Path(__file__).parent))
from sim_values import LOCAL, PLAN, POINTS, SPREAD, steady

S = 10**9
BOARD = PowerModel(idle_w=3.0, active_w=7.0, radio_nj_per_bit=438.0)
CAMERA = Scenario(duration_s=60.0, fps=25.0, deadline_ms=150.0, edge_slowdown=4.0)
LINK = steady(2e6, delay_ms=20.0)


class Kept(Adaptive):
    """Keeps its decisions."""

    def __init__(self, power: PowerBudget | None) -> None:
        super().__init__(power=power)
        self.made: list[Decision] = []

    def decide(self, *, world: World, seen: Observation) -> Decision:
        self.made.append(super().decide(world=world, seen=seen))
        return self.made[-1]


def run(budget_w: float | None) -> tuple[RunResult, list[Decision]]:
    policy = Kept(None if budget_w is None else PowerBudget(budget_w, BOARD))
    return simulate(SPREAD, policy, LINK, CAMERA, seed=3), policy.made


@pytest.fixture(scope="module")
def free() -> RunResult:
    return run(None)[0]


def test_energy_by_hand() -> None:
    """A second of device time is 4 J, a megabyte is 8 Mbit at 438 nJ."""
    assert BOARD.spent_j(1000.0, 0) == pytest.approx(4.0)
    assert BOARD.spent_j(0.0, 1e6) == pytest.approx(3.504)
    assert BOARD.average_w(500.0, 1e6, 2.0) == pytest.approx(3.0 + (2.0 + 3.504) / 2)


def test_the_price_rises_with_what_is_owed_and_falls_with_time() -> None:
    account = PowerAccount(PowerBudget(5.0, BOARD))  # 2 W to spend
    prices = [account.price(j, s * S, 40.0).per_j for s, j in enumerate((0.0, 6.0, 12.0, 12.0, 12.0, 12.0))]
    assert prices[0] == 0 < prices[1] < prices[2] > prices[3] > prices[4] > prices[5]
    assert account.debt_j == pytest.approx(12.0 - 5 * 2.0)
    assert account.price(12.0, 7 * S, 40.0).per_j == 0


def test_no_more_than_some_seconds_are_saved_up() -> None:
    account = PowerAccount(PowerBudget(5.0, BOARD))
    account.price(0.0, 0, 40.0)
    assert account.price(0.0, 3600 * S, 40.0).per_j == 0
    assert account.debt_j == pytest.approx(-20.0)


@given(
    budget_w=st.floats(3.01, 20.0),
    steps=st.lists(st.tuples(st.integers(0, 10 * S), st.floats(0.0, 100.0)), max_size=50),
)
def test_a_price_is_never_negative_nor_without_bounds(budget_w: float, steps: list[tuple[int, float]]) -> None:
    account, now_ns, spent_j = PowerAccount(PowerBudget(budget_w, BOARD)), 0, 0.0
    for later_ns, more_j in steps:
        now_ns, spent_j = now_ns + later_ns, spent_j + more_j
        price = account.price(spent_j, now_ns, 40.0)
        assert 0 <= price.per_device_ms < math.inf and 0 <= price.per_byte < math.inf


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        (lambda: PowerModel(idle_w=5.0, active_w=5.0), "active_w"),
        (lambda: PowerModel(idle_w=-1.0), "active_w"),
        (lambda: PowerModel(active_w=math.nan), "active_w"),
        (lambda: PowerModel(radio_nj_per_bit=-1.0), "radio_nj_per_bit"),
        (lambda: PowerModel(radio_nj_per_bit=math.inf), "radio_nj_per_bit"),
        (lambda: PowerBudget(3.0, BOARD), "power_budget"),
        (lambda: PowerBudget(math.nan, BOARD), "power_budget"),
    ],
)
def test_what_no_device_is_and_no_choice_can_keep_is_refused(wrong: object, key: str) -> None:
    assert callable(wrong)
    with pytest.raises(SettingsError) as caught:
        wrong()
    assert caught.value.key == key


def test_with_a_budget_below_what_it_would_spend_the_average_is_kept(free: RunResult) -> None:
    """Less and less, down to a tenth of what the free policy spends beyond idling; and utility falls gently."""
    spent_w = free.average_w(BOARD) - BOARD.idle_w
    assert spent_w > 2.0
    utilities = [free.figures().utility]
    for share in (0.8, 0.5, 0.25, 0.1):
        budget_w = BOARD.idle_w + share * spent_w
        result, _ = run(budget_w)
        assert result.average_w(BOARD) == pytest.approx(budget_w, rel=0.03), share
        utilities.append(result.figures().utility)
    assert all(before > after - 0.01 for before, after in pairwise(utilities)), utilities
    assert utilities[2] > utilities[0] - 0.05 and utilities[-1] > utilities[0] - 0.15, utilities


def test_a_budget_that_is_not_reached_changes_nothing() -> None:
    assert run(50.0) == run(None)


def test_the_reason_says_what_power_did_not_allow(free: RunResult) -> None:
    budget_w = BOARD.idle_w + 0.3 * (free.average_w(BOARD) - BOARD.idle_w)
    _, made = run(budget_w)
    told = [each for each in made if "W allow" in each.reason]
    assert len(told) > 0.2 * len(made)
    assert all(f"{budget_w:g} W allow" in each.reason for each in told)
    assert all(f"; {each.point.name} would draw" not in each.reason for each in told)
    assert Counter("W allow" in each.reason for each in run(None)[1]) == {False: len(made)}


def test_nothing_runs_only_to_learn_while_the_budget_is_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that sends pictures is idle, and audits them; one that owes does not."""
    spared: list[float] = []
    monkeypatch.setattr(AuditSchedule, "spent", lambda _self, ran_ms: spared.append(ran_ms))
    simulate(PLAN, Adaptive(only="frame"), LINK, CAMERA, seed=3)
    before = len(spared)
    simulate(PLAN, Adaptive(only="frame", power=PowerBudget(3.1, BOARD)), LINK, CAMERA, seed=3)
    assert before > 20 and len(spared) - before < 0.2 * before


def test_what_the_device_ran_is_counted_whatever_it_was_for() -> None:
    world = World(POINTS, track_kappa=5.0)
    world.on_device(30.0, 16.0, S)
    world.on_device_spare(20.0)
    world.on_device_given_up(5.0, 16.0, S)  # not late yet: teaches nothing
    world.on_device_given_up(500.0, 16.0, S)
    world.on_device(math.nan, 16.0, S)
    assert world.device_ms == pytest.approx(555.0)
    world.on_sent("f1", replace(LOCAL, name="x"), 1000, S, message_bytes=1200)
    assert world.sent_bytes == 1200


def test_policies_are_made_with_a_budget() -> None:
    power = PowerBudget(5.0, BOARD)
    for name in ("adaptive", "only:split"):
        made = make_policy(name, POINTS, power=power)
        world = World(POINTS, track_kappa=5.0)
        world.on_device_spare(1e6)
        made.decide(world=world, seen=Observation(S, 150.0, 0.0, 40.0))
        world.on_device_spare(1e6)
        made.decide(world=world, seen=Observation(2 * S, 150.0, 0.0, 40.0))
        assert not world.may_spare, "it owes"
