"""Owns the comparison of policies over links and speeds of the edge in simulated runs. Reads no clock of its own.

Every policy meets the same luck: runs of one seed share content, service times and the place in the trace where they
begin. So differences between policies are taken run by run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from splitmesh.errors import SettingsError
from splitmesh.policy.point import Place
from splitmesh.provision.link.trace import LinkTrace
from splitmesh.sim.errand import Case, Errand, Ingredients
from splitmesh.sim.plan import SimPlan
from splitmesh.sim.result import Figures
from splitmesh.sim.scenario import Scenario
from splitmesh.sim.spread import Spread, in_turn, shares, weight

STATIC_BEST: Final = "static-best"
"""The static policy of highest utility on that very trace, found by trying all: nobody could know it beforehand."""
BEST_ORACLE: Final = "oracle-horizon"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is compared. `plan_of`: policy → plan with the points that this policy works with."""

    plan_of: Callable[[str], SimPlan]
    traces: Mapping[str, LinkTrace]
    policies: tuple[str, ...]
    seeds: int
    scenario: Scenario
    slowdowns: tuple[float, ...] = ()
    """Of the edge, each over every trace; none: the scenario's."""
    sets: Mapping[str, str] = field(default_factory=dict)
    """Trace → the set that it belongs to; all others make one, "links"."""

    @property
    def cases(self) -> dict[str, Case]:
        """By name: the trace's, and where there are several slowdowns `TRACE @4x`."""
        slowdowns = self.slowdowns or (self.scenario.edge_slowdown,)
        return {
            trace if len(slowdowns) == 1 else f"{trace} @{slowdown:g}x": Case(trace, slowdown)
            for slowdown in slowdowns
            for trace in self.traces
        }

    def set_of(self, case: Case) -> str:
        return self.sets.get(case.trace, "links")


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of one policy in one case, one per seed."""

    policy: str
    point: str
    """Of `static-best`: which it was; else ""."""
    figures: tuple[Figures, ...]
    busy_s: float
    """Time that the runs took here; of `static-best`, all that were tried."""
    frames: int
    """Frames that were simulated in that time."""

    @property
    def utilities(self) -> list[float]:
        return [each.utility for each in self.figures]

    @property
    def utility(self) -> float:
        return float(np.mean(self.utilities))

    @property
    def p99_ms(self) -> float:
        return float(np.mean([each.latency_ms.p99 for each in self.figures]))


@dataclass(frozen=True, slots=True)
class PolicyComparison:
    """`runs`: by name of the case, then by policy, in the order that was asked for."""

    wanted: Wanted
    runs: Mapping[str, Mapping[str, Runs]]

    def us_per_frame(self, policy: str) -> float:
        """Processor time that a simulated frame took, µs."""
        mine = [by_policy[policy] for by_policy in self.runs.values()]
        return 1e6 * sum(each.busy_s for each in mine) / sum(each.frames for each in mine)

    def document(self) -> dict[str, Any]:
        """As in `splitmesh bench policy --json`; see `sim.document`."""
        from splitmesh.sim.document import document

        return document(self)


def compare(
    wanted: Wanted,
    *,
    clock: Callable[[], float],
    progress: Callable[[float], None] = lambda _share: None,
    spread: Spread = in_turn,
) -> PolicyComparison:
    """Run everything, the longest runs first. `clock`: seconds, for what runs cost; `progress`: told the share of the
    work that is done, [0, 1]. However runs are spread, all figures but the costs are the same.

    Raises SettingsError for an unknown policy, and where there is nothing to compare.
    """
    if not wanted.policies or not wanted.traces or wanted.seeds < 1:
        raise SettingsError("a comparison needs a policy, a trace and a seed", key="policies")
    tried = {policy: _tried(policy, wanted) for policy in wanted.policies}
    errands = [
        Errand(case, name, policy, seed)
        for case in wanted.cases.values()
        for policy, names in tried.items()
        for name in names
        for seed in range(wanted.seeds)
    ]
    errands.sort(key=lambda errand: -weight(errand.policy))
    plans = {policy: wanted.plan_of(policy) for policy in wanted.policies}
    ingredients = Ingredients(plans, wanted.traces, wanted.scenario, wanted.seeds, clock)
    tell = shares((errand.policy for errand in errands), progress)
    done = dict(zip(errands, spread(ingredients, errands, lambda errand: tell(errand.policy)), strict=True))
    return PolicyComparison(
        wanted,
        {
            name: {policy: _runs(wanted, case, policy, names, done) for policy, names in tried.items()}
            for name, case in wanted.cases.items()
        },
    )


def _runs(
    wanted: Wanted, case: Case, policy: str, names: tuple[str, ...], done: Mapping[Errand, tuple[Figures, float]]
) -> Runs:
    """The best of `names`."""
    results = {name: [done[Errand(case, name, policy, seed)] for seed in range(wanted.seeds)] for name in names}
    best = max(names, key=lambda name: float(np.mean([figures.utility for figures, _ in results[name]])))
    return Runs(
        policy=policy,
        point=best.removeprefix("static:") if policy == STATIC_BEST else "",
        figures=tuple(figures for figures, _ in results[best]),
        busy_s=sum(busy_s for each in results.values() for _, busy_s in each),
        frames=wanted.scenario.frames * wanted.seeds * len(names),
    )


def _tried(policy: str, wanted: Wanted) -> tuple[str, ...]:
    """The policies that stand behind a name."""
    if policy != STATIC_BEST:
        return (policy,)
    points = wanted.plan_of(policy).points
    return tuple(f"static:{point.name}" for point in points if point.place is not Place.TRACK)
