"""How policies stand: pairing by trace, marks, ratios, harm; all from made-up runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from splitmesh.provision.link.trace import LinkTrace, Step
from splitmesh.sim.compare import STATIC_BEST, PolicyComparison, Runs, Wanted
from splitmesh.sim.document import document
from splitmesh.sim.result import Figures, Latency
from splitmesh.sim.scenario import Scenario
from splitmesh.sim.standing import interval95, leaderboard, standing

sys.path.append(str(Path(__file__).parent))
from sim_values import PLAN

Utilities = Mapping[str, Mapping[str, Sequence[float]]]
"""Case → policy → utility per seed."""


def runs(policy: str, utilities: Sequence[float], *, p99_ms: float = 100.0) -> Runs:
    figures = [
        Figures(each, 1.0, each, 1.0, each / 2, Latency(p99_ms / 2, p99_ms / 2, p99_ms, p99_ms), 100.0, 0.0, {}, {})
        for each in utilities
    ]
    return Runs(policy, "", tuple(figures), 1.0, 100)


def compared(
    utilities: Utilities, *, slowdowns: tuple[float, ...] = (), sets: Mapping[str, str] | None = None
) -> PolicyComparison:
    traces = {name.split(" @")[0]: LinkTrace(name, (Step(0.0, 1e6),), 60.0) for name in utilities}
    first = next(iter(utilities.values()))
    seeds = len(next(iter(first.values())))
    wanted = Wanted(lambda _: PLAN, traces, tuple(first), seeds, Scenario(), slowdowns, sets or {})
    found = {
        name: {policy: runs(policy, each) for policy, each in by_policy.items()}
        for name, by_policy in utilities.items()
    }
    return PolicyComparison(wanted, found)


def test_leads_are_paired_by_the_means_of_traces() -> None:
    utilities = {
        "a": {"adaptive": (0.9, 0.7), "local": (0.8, 0.6)},
        "b": {"adaptive": (0.9, 0.9), "local": (0.9, 0.5)},
        "c": {"adaptive": (0.5, 0.5), "local": (0.3, 0.5)},
    }
    found = standing(compared(utilities), "local", utilities)
    assert found.ahead_by == pytest.approx((0.1 + 0.2 + 0.1) / 3)
    assert found.ahead_ci95 == pytest.approx(interval95([0.1, 0.2, 0.1]))
    assert found.clearly is False  # two degrees of freedom: half of it is 0.143
    assert found.utility == pytest.approx((0.7 + 0.7 + 0.4) / 3)


def test_an_interval_that_excludes_zero_is_marked_on_either_side() -> None:
    ahead = {name: {"adaptive": (0.9,), "local": (0.8 + 0.001 * i,)} for i, name in enumerate("abc")}
    behind = {name: {"adaptive": (0.7,), "local": (0.8 + 0.001 * i,)} for i, name in enumerate("abc")}
    level = {name: {"adaptive": (0.8,), "local": (0.8 + 0.01 * (i - 1),)} for i, name in enumerate("abc")}
    marks = [standing(compared(each), "local", each).clearly for each in (ahead, behind, level)]
    assert marks == [True, True, False]
    assert standing(compared(ahead), "adaptive", ahead).clearly is False


def test_over_one_trace_the_interval_is_over_its_runs() -> None:
    one = {"a": {"adaptive": (0.9, 0.8), "local": (0.8, 0.6)}}
    assert standing(compared(one), "local", one).ahead_ci95 == pytest.approx(interval95([0.1, 0.2]))


def test_slowdowns_of_one_trace_are_not_taken_for_two_links() -> None:
    utilities = {
        "a @4x": {"adaptive": (0.9,), "local": (0.8,)},
        "b @4x": {"adaptive": (0.9,), "local": (0.7,)},
        "a @10x": {"adaptive": (0.9,), "local": (0.6,)},
        "b @10x": {"adaptive": (0.9,), "local": (0.5,)},
    }
    comparison = compared(utilities, slowdowns=(4.0, 10.0))
    overall = standing(comparison, "local", utilities)
    assert overall.ahead_ci95 == pytest.approx(interval95([0.2, 0.3]))
    boards = leaderboard(comparison)
    assert list(boards) == [("links", 4.0), ("links", 10.0)]
    assert boards["links", 10.0]["local"].ahead_by == pytest.approx(0.35)


def test_the_leaderboard_has_a_part_for_each_set_with_the_best_first() -> None:
    utilities = {
        "x/a": {"adaptive": (0.6,), "local": (0.8,)},
        "y/a": {"adaptive": (0.9,), "local": (0.8,)},
        "y/b": {"adaptive": (0.9,), "local": (0.8,)},
    }
    comparison = compared(utilities, sets={"x/a": "x", "y/a": "y", "y/b": "y"})
    boards = leaderboard(comparison)
    assert [list(board) for board in boards.values()] == [["local", "adaptive"], ["adaptive", "local"]]
    listed = document(comparison)["leaderboard"]
    assert [(each["set"], each["traces"]) for each in listed] == [("x", 1), ("y", 2)]


def test_ratios_are_of_the_oracle_and_of_the_best_static_choice_and_harm_is_the_worst() -> None:
    utilities = {
        "a": {"adaptive": (0.9, 0.9), STATIC_BEST: (0.9, 0.9), "oracle-horizon": (1.0, 1.0)},
        "b": {"adaptive": (0.6, 0.4), STATIC_BEST: (1.0, 1.0), "oracle-horizon": (1.0, 1.0)},
    }
    comparison = compared(utilities)
    slow = {**comparison.runs["a"], "adaptive": runs("adaptive", (0.9, 0.9), p99_ms=150.0)}
    comparison = PolicyComparison(comparison.wanted, {**comparison.runs, "a": slow})
    found = standing(comparison, "adaptive", utilities)
    assert (found.oracle_ratio, found.oracle_ratio_worst) == (pytest.approx(0.7), pytest.approx(0.5))
    assert found.oracle_ratio_ci95 == pytest.approx(interval95([0.9, 0.5]))
    assert (found.utility_over_static_best, found.p99_over_static_best) == (pytest.approx(0.5), pytest.approx(1.5))
    row = document(comparison)["traces"]["a"]["policies"]["adaptive"]
    assert (row["utility_over_static_best"], row["p99_over_static_best"]) == (pytest.approx(1.0), pytest.approx(1.5))


def test_without_an_oracle_or_a_static_choice_there_is_no_ratio() -> None:
    utilities = {
        "a": {"adaptive": (0.9,), "oracle-horizon": (0.0,)},
        "b": {"adaptive": (0.9,), "oracle-horizon": (1.0,)},
    }
    found = standing(compared(utilities), "adaptive", utilities)
    assert found.oracle_ratio is None and found.oracle_ratio_worst is None and found.p99_over_static_best is None
