"""Owns the comparison of policies over links in simulated runs, and its document. Reads no clock of its own.

Every policy meets the same luck: runs of one seed share content, service times and the place in the trace where they
begin. So differences between policies are taken run by run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from splitmesh.errors import SettingsError
from splitmesh.policy.point import Place
from splitmesh.provision.link.trace import LinkTrace
from splitmesh.sim.oracle import ORACLES, foresee
from splitmesh.sim.plan import SimPlan
from splitmesh.sim.result import Figures
from splitmesh.sim.run import simulate
from splitmesh.sim.scenario import Scenario

STATIC_BEST = "static-best"
"""The static policy of highest utility on that very trace, found by trying all: nobody could know it beforehand."""
BEST_ORACLE = "oracle-horizon"
VERSION = 1
# 97.5 % quantile of Student's t by degrees of freedom from 1; beyond, the normal one is within 3 %.
_T975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is compared. `plan_of`: policy → plan with the points that this policy works with."""

    plan_of: Callable[[str], SimPlan]
    traces: Mapping[str, LinkTrace]
    policies: tuple[str, ...]
    seeds: int
    scenario: Scenario


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of one policy over one trace, one per seed."""

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


@dataclass(frozen=True, slots=True)
class PolicyComparison:
    """By trace, then by policy, in the order that was asked for."""

    wanted: Wanted
    runs: Mapping[str, Mapping[str, Runs]]

    def ahead(self, policy: str) -> list[float]:
        """What the first policy has more utility than `policy`, run by run."""
        first = self.wanted.policies[0]
        return [
            mine - theirs
            for by_policy in self.runs.values()
            for mine, theirs in zip(by_policy[first].utilities, by_policy[policy].utilities, strict=True)
        ]

    def us_per_frame(self, policy: str) -> float:
        """Processor time that a simulated frame took, µs."""
        mine = [by_policy[policy] for by_policy in self.runs.values()]
        return 1e6 * sum(each.busy_s for each in mine) / sum(each.frames for each in mine)

    def document(self) -> dict[str, Any]:
        """As in `splitmesh bench policy --json`; see docs/architecture.md."""
        wanted = self.wanted
        return {
            "version": VERSION,
            "scenario": asdict(wanted.scenario),
            "seeds": wanted.seeds,
            "traces": {
                name: {
                    "link": wanted.traces[name].describe(),
                    "policies": {
                        policy: _row(runs, by_policy.get(BEST_ORACLE)) for policy, runs in by_policy.items()
                    },
                }
                for name, by_policy in self.runs.items()
            },
            "overall": {policy: self._overall(policy) for policy in wanted.policies},
            "us_per_frame": {policy: round(self.us_per_frame(policy), 1) for policy in wanted.policies},
        }

    def _overall(self, policy: str) -> dict[str, Any]:
        """Means over traces; the lead of the first policy with its interval, paired by run."""
        utilities = [float(np.mean(by_policy[policy].utilities)) for by_policy in self.runs.values()]
        lead = self.ahead(policy)
        return {
            "utility": float(np.mean(utilities)),
            "first_ahead_by": float(np.mean(lead)),
            "first_ahead_ci95": interval95(lead),
        }


def compare(
    wanted: Wanted, *, clock: Callable[[], float], progress: Callable[[float], None] = lambda _share: None
) -> PolicyComparison:
    """Run everything. `clock`: seconds, for what runs cost; `progress`: told the share that is done, [0, 1].

    Raises SettingsError for an unknown policy, and where there is nothing to compare.
    """
    if not wanted.policies or not wanted.traces or wanted.seeds < 1:
        raise SettingsError("a comparison needs a policy, a trace and a seed", key="policies")
    tried = {policy: _tried(policy, wanted) for policy in wanted.policies}
    total = len(wanted.traces) * wanted.seeds * sum(len(names) for names in tried.values())
    done = 0
    runs: dict[str, dict[str, Runs]] = {}
    for trace_name, trace in wanted.traces.items():
        runs[trace_name] = {}
        for policy, names in tried.items():
            began_s = clock()
            figures: dict[str, list[Figures]] = {name: [] for name in names}
            for name in names:
                for seed in range(wanted.seeds):
                    figures[name].append(_run(wanted, name, trace, seed))
                    done += 1
                    progress(done / total)
            best = max(names, key=lambda name: float(np.mean([f.utility for f in figures[name]])))
            point = best.removeprefix("static:") if policy == STATIC_BEST else ""
            frames = wanted.scenario.frames * wanted.seeds * len(names)
            runs[trace_name][policy] = Runs(policy, point, tuple(figures[best]), clock() - began_s, frames)
    return PolicyComparison(wanted, runs)


def start_s(trace: LinkTrace, seed: int, seeds: int) -> float:
    """Where in `trace` the run of that seed begins: spread evenly over one that loops, else at its start."""
    return trace.period_s * seed / seeds if trace.loop and len(trace.steps) > 1 else 0.0


def interval95(values: Sequence[float]) -> list[float] | None:
    """95 % confidence interval of the mean by Student's t; None for fewer than two values."""
    count = len(values)
    if count < 2:
        return None
    t = _T975[count - 2] if count - 2 < len(_T975) else 1.96
    mean, half = float(np.mean(values)), t * float(np.std(values, ddof=1)) / math.sqrt(count)
    return [mean - half, mean + half]


def _tried(policy: str, wanted: Wanted) -> tuple[str, ...]:
    """The policies that stand behind a name."""
    if policy != STATIC_BEST:
        return (policy,)
    points = wanted.plan_of(policy).points
    return tuple(f"static:{point.name}" for point in points if point.place is not Place.TRACK)


def _run(wanted: Wanted, policy: str, trace: LinkTrace, seed: int) -> Figures:
    scenario = replace(wanted.scenario, trace_start_s=start_s(trace, seed, wanted.seeds))
    plan = wanted.plan_of(policy)
    if policy in ORACLES:
        return foresee(plan, trace, scenario, seed=seed, width=ORACLES[policy]).figures()
    return simulate(plan, policy, trace, scenario, seed=seed).figures()


def _row(runs: Runs, oracle: Runs | None) -> dict[str, Any]:
    """Means over seeds; decisions and outcomes summed up. oracle: what utilities are held against, if it ran."""
    figures = [asdict(each) for each in runs.figures]

    def mean(name: str) -> float:
        return float(np.mean([each[name] for each in figures]))

    def total(name: str) -> dict[str, int]:
        summed: dict[str, int] = {}
        for each in figures:
            for key, value in each[name].items():
                summed[key] = summed.get(key, 0) + value
        return summed

    latency_ms = {key: float(np.mean([each["latency_ms"][key] for each in figures])) for key in _LATENCIES}
    return {
        "utility": mean("utility"),
        "hit": mean("hit"),
        "fidelity": mean("fidelity"),
        "latency_ms": latency_ms,
        "bytes_per_frame": mean("bytes_per_frame"),
        "switches_per_min": mean("switches_per_min"),
        "oracle_ratio": mean("utility") / float(np.mean(oracle.utilities)) if oracle else None,
        "ci95": interval95(runs.utilities),
        "point": runs.point or None,
        "decisions": total("decisions"),
        "outcomes": total("outcomes"),
    }


_LATENCIES = ("mean", "p50", "p95", "p99")
