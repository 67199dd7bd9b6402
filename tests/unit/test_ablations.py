"""Every part that the ablations take out is really gone, and comes back; what is made of the runs."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from bench.ablated import PARTS, Part, Swap, without
from bench.ablations import (
    HIT_PRESETS,
    HITS,
    PLAN_ERRS,
    PRESETS,
    Column,
    Run,
    Utility,
    ablate,
    columns,
    idle,
    some,
    struck,
    table,
)

from splitmesh.cli.bench.policy_links import Links
from splitmesh.cli.bench.policy_pool import spread_over
from splitmesh.frames.outcome import Outcome
from splitmesh.policy.breaker import Breaker
from splitmesh.provision.link.presets import load_link
from splitmesh.provision.link.trace import LinkTrace, Step
from splitmesh.settings.units import Outage
from splitmesh.sim.result import RunResult
from splitmesh.sim.run import simulate
from splitmesh.sim.scenario import Burst, Loss, Scenario
from splitmesh.sim.spread import in_turn

sys.path.append(str(Path(__file__).parent))
from sim_values import H264, SPREAD, steady

EVENTFUL = Scenario(
    duration_s=13.0,
    edge_slowdown=4.0,
    outages=(Outage(2.0, 2.0), Outage(9.0, 1.0, cut=True)),
    edge_bursts=(Burst(5.0, 1.0, 4.0),),
    worker_bursts=(Burst(6.5, 1.0, 8.0),),
    losses=(Loss(0, 8.0, 1.0),),
)
PLAN = replace(
    SPREAD,
    points=tuple(replace(point, encode_ms=6 * point.encode_ms) for point in SPREAD.points),
    spreads={name: replace(spread, encode=0.5) for name, spread in SPREAD.spreads.items()},
)
"""Codecs take long, and now and then longer."""
RUNS = (
    (load_link("lte", duration_s=13.0), replace(EVENTFUL, edge_slowdown=6.0)),
    (load_link("lab-default", duration_s=13.0), replace(EVENTFUL, edge_slowdown=20.0)),
    (steady(1e6), replace(EVENTFUL, edge_slowdown=3.0)),
    (steady(3e5), replace(EVENTFUL, edge_slowdown=6.0)),
)


@cache
def run_of(number: int, part: str) -> RunResult:
    trace, scenario = RUNS[number]
    with without(part, scenario):
        return simulate(PLAN, "adaptive", trace, scenario, seed=1)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_taken_out_is_missed_for_as_long_as_that_lasts(part: str) -> None:
    before = [getattr(swap.owner, swap.attribute) for swap in PARTS[part].swaps]
    assert any(run_of(number, part) != run_of(number, "") for number in range(len(RUNS)))
    assert [getattr(swap.owner, swap.attribute) for swap in PARTS[part].swaps] == before


def test_what_is_no_longer_there_cannot_be_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARTS, "gone", Part("nothing", (Swap(Breaker, "no_such_method", None),)))
    with pytest.raises(AttributeError, match="no_such_method"), without("gone", EVENTFUL):
        pass


@pytest.mark.parametrize("hit", [hit for hit in HITS if hit != PLAN_ERRS])
def test_what_befalls_a_run_costs_the_policy_something(hit: str) -> None:
    calm = Scenario(duration_s=20.0, edge_slowdown=6.0)
    trace, scenario = struck(hit, steady(8e6), calm)
    struck_result, calm_result = (
        simulate(SPREAD, "adaptive", of, each, seed=0) for of, each in ((trace, scenario), (steady(8e6), calm))
    )
    assert sum(struck_result.utilities) < sum(calm_result.utilities) - 2
    assert struck_result.utilities[:70] == pytest.approx(calm_result.utilities[:70])


def test_where_the_plan_errs_answers_keep_less_from_the_first_on() -> None:
    calm = Scenario(duration_s=4.0, edge_slowdown=6.0)
    trace, scenario = struck(PLAN_ERRS, steady(8e6), calm)
    runs = [simulate(SPREAD, f"static:{H264.name}", trace, each, seed=0) for each in (scenario, calm)]
    (kept,), (planned,) = ({each.fidelity for each in run.frames if each.outcome is Outcome.FRAME} for run in runs)
    assert planned == H264.fidelity and kept == pytest.approx(1 - 2.5 * (1 - planned))


def test_nothing_else_can_befall_a_run() -> None:
    with pytest.raises(ValueError, match="'hail'"):
        struck("hail", steady(8e6), Scenario())


def test_processes_take_parts_out_as_it_is_done_here() -> None:
    runs = [Run("fast", 4.0, "worker lost", part) for part in ("", "breaker")]
    work = Utility(SPREAD, {"fast": steady(8e6)})
    here = in_turn(work, runs, lambda _: None)
    assert here[0] != here[1]
    assert spread_over(2)(work, runs, lambda _: None) == here


# -- what is made of the runs -------------------------------------------------------------------------------------


def made_up(run: Run) -> float:
    """Without probes 0.02 to 0.04 are lost in outages; the breaker costs something, and nothing else matters."""
    cost = {"probes": 0.02 * (0.5 + int(run.link) + run.seed) if run.hit else 0.0, "breaker": -0.01, "freshness": 0.0}
    return 0.8 - 0.01 * run.edge_slowdown - cost.get(run.without, 0.0)


def report(*links: str) -> dict[str, object]:
    wanted = [Column("calm", links, (4.0, 10.0)), Column("outage", links, (6.0,), "outage")]
    told: list[float] = []
    found = ablate(made_up, wanted, ("probes", "breaker", "freshness"), in_turn, told.append, seeds=2)
    assert told[-1] == 1.0 and len(told) == 2 * 3 * len(links) * 4
    return found


def test_a_table_says_what_is_lost_and_how_sure_that_is() -> None:
    head, rows = table(report("0", "1"))
    assert head == ("taken out", "instead", "calm (2)", "outage (2)")
    assert rows == [
        ("*whole policy*", "", "*0.730*", "*0.740*"),
        ("probes", "none", "0", "30.0 ± 127.1"),
        ("breaker", "never opens", "**-10.0 ± 0.0**", "**-10.0 ± 0.0**"),
        ("freshness", "0", "0", "0"),
    ]
    assert table(report("0"))[1][1] == ("probes", "none", "0.0", "20.0")


def test_parts_that_are_clearly_worth_something_nowhere_are_named() -> None:
    assert idle(report("0", "1", "2", "3")) == ["breaker", "freshness"]


def test_some_links_of_each_set_are_taken_and_the_presets_alone_where_there_are_none() -> None:
    names = [f"{group}/{i}" for group, count in (("a", 9), ("b", 2)) for i in range(count)]
    found = Links(
        {name: LinkTrace(name, (Step(0.0, 1e6),), 60.0) for name in names}, {each: each[0] for each in names}
    )
    assert some(found, 3) == ("a/0", "a/3", "a/6", "b/0", "b/1")
    by_name = {column.name: column for column in columns(found)}
    assert by_name["traces, 4×"] == Column("traces, 4×", some(found, 3), (4.0,))
    assert by_name["outage"].links == (*HIT_PRESETS, "a/0", "b/0")
    alone = columns(Links({}, {}))
    assert [column.name for column in alone] == ["presets", *HITS]
    assert all(column.links == PRESETS for column in alone)


def test_a_hit_is_on_top_of_what_the_scenario_has() -> None:
    assert struck("", steady(8e6), EVENTFUL) == (steady(8e6), EVENTFUL)
    _, lost = struck("worker lost", steady(8e6), replace(EVENTFUL, losses=()))
    assert lost.outages == EVENTFUL.outages and len(lost.losses) == 2
