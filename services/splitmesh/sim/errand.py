"""Owns a single run of a comparison: what it is made of, and running it. Errands can be pickled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from splitmesh.provision.link.trace import LinkTrace
from splitmesh.sim.draws import draw
from splitmesh.sim.oracle import ORACLES, foresee
from splitmesh.sim.plan import SimPlan
from splitmesh.sim.result import Figures, RunResult
from splitmesh.sim.run import simulate
from splitmesh.sim.scenario import Scenario


class Case(NamedTuple):
    """A link, and an edge that is so many times slower than the profile says."""

    trace: str
    edge_slowdown: float


class Errand(NamedTuple):
    case: Case
    policy: str
    """What is run: never `static-best`, which stands for several."""
    under: str
    """The name that it was asked for by, which says whose operating points it works with."""
    seed: int


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What errands share. Called with an errand: (figures, seconds by `clock`)."""

    plans: Mapping[str, SimPlan]
    """By the name that was asked for."""
    traces: Mapping[str, LinkTrace]
    scenario: Scenario
    seeds: int
    clock: Callable[[], float]

    def __call__(self, errand: Errand) -> tuple[Figures, float]:
        began_s = self.clock()
        trace, plan = self.traces[errand.case.trace], self.plans[errand.under]
        scenario = replace(
            self.scenario,
            edge_slowdown=errand.case.edge_slowdown,
            trace_start_s=start_s(trace, errand.seed, self.seeds),
        )
        kappa = plan.track_kappa if scenario.track_kappa is None else scenario.track_kappa
        ageing = [kappa * travelled for travelled in draw(scenario, errand.seed).travelled]
        figures = run(plan, errand.policy, trace, scenario, seed=errand.seed).figures(ageing)
        return figures, self.clock() - began_s


def run(plan: SimPlan, policy: str, trace: LinkTrace, scenario: Scenario, *, seed: int) -> RunResult:
    """Oracles and policies alike."""
    if policy in ORACLES:
        return foresee(plan, trace, scenario, seed=seed, width=ORACLES[policy])
    return simulate(plan, policy, trace, scenario, seed=seed)


def start_s(trace: LinkTrace, seed: int, seeds: int) -> float:
    """Where in `trace` the run of that seed begins: spread evenly over one that loops, else at its start."""
    return trace.period_s * seed / seeds if trace.loop and len(trace.steps) > 1 else 0.0
