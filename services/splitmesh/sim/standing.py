"""Owns how policies stand against each other over a set of links: means, leads, ratios, and their intervals.

Runs over one trace are not independent of each other: they share its dips. So every interval here is over traces. For
each trace the difference to the first policy is taken run by run (same seed, same slowdown, same luck) and averaged;
these means are what Student's t is applied to. Where there is a single trace, the interval is over its runs, and says
nothing of other links.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from splitmesh.sim.compare import BEST_ORACLE, STATIC_BEST, PolicyComparison, Runs

Interval = list[float] | None
# 97.5 % quantile of Student's t by degrees of freedom from 1; beyond, the normal one is within 6 %.
_T975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip


def interval95(values: Sequence[float]) -> Interval:
    """95 % confidence interval of the mean by Student's t; None for fewer than two values."""
    count = len(values)
    if count < 2:
        return None
    t = _T975[count - 2] if count - 2 < len(_T975) else 1.96
    mean, half = float(np.mean(values)), t * float(np.std(values, ddof=1)) / math.sqrt(count)
    return [mean - half, mean + half]


@dataclass(frozen=True, slots=True)
class Standing:
    """Of one policy over a set of cases. Means are over traces, each of which counts alike."""

    utility: float
    ahead_by: float
    """What the first policy has more utility than this one."""
    ahead_ci95: Interval
    oracle_ratio: float | None
    """Mean over traces of utility over the horizon oracle's; None where that did not run."""
    oracle_ratio_ci95: Interval
    oracle_ratio_worst: float | None
    utility_over_static_best: float | None
    """Of the trace where it is lowest: what the best static choice in hindsight has is 1. None: that did not run."""
    p99_over_static_best: float | None
    """Of 99th percentiles of latency, of the trace where it is highest."""
    held_fidelity: float
    bytes_per_frame: float

    @property
    def clearly(self) -> bool:
        """The interval of the lead excludes zero."""
        return self.ahead_ci95 is not None and (self.ahead_ci95[0] > 0 or self.ahead_ci95[1] < 0)


def leaderboard(comparison: PolicyComparison) -> dict[tuple[str, float], dict[str, Standing]]:
    """(set of links, slowdown of the edge) → policy → how it stands, best utility first."""
    wanted = comparison.wanted
    groups: dict[tuple[str, float], list[str]] = {}
    for name, case in wanted.cases.items():
        groups.setdefault((wanted.set_of(case), case.edge_slowdown), []).append(name)
    return {group: _ranked(comparison, names) for group, names in groups.items()}


def standing(comparison: PolicyComparison, policy: str, cases: Iterable[str]) -> Standing:
    """Of `policy` over the cases of those names."""
    wanted = comparison.wanted
    by_trace: dict[str, list[Mapping[str, Runs]]] = {}
    for name in cases:
        by_trace.setdefault(wanted.cases[name].trace, []).append(comparison.runs[name])
    traces = list(by_trace.values())

    def mean(of: Callable[[Runs], float]) -> float:
        return float(np.mean([np.mean([of(runs[policy]) for runs in each]) for each in traces]))

    def ratios(other: str, of: Callable[[Runs], float]) -> list[float]:
        """Per trace; none where `other` did not run or has nothing."""
        found = [(of(runs[policy]), of(runs[other])) for each in traces for runs in each if other in runs]
        if len(found) != sum(map(len, traces)) or any(theirs <= 0 for _, theirs in found):
            return []
        per_case = iter(mine / theirs for mine, theirs in found)
        return [float(np.mean([next(per_case) for _ in each])) for each in traces]

    leads = [[lead for runs in each for lead in _leads(runs, wanted.policies[0], policy)] for each in traces]
    per_trace = [float(np.mean(each)) for each in leads]
    of_oracle = ratios(BEST_ORACLE, _utility)
    unharmed, slower = ratios(STATIC_BEST, _utility), ratios(STATIC_BEST, _p99_ms)
    return Standing(
        utility=mean(_utility),
        ahead_by=float(np.mean(per_trace)),
        ahead_ci95=interval95(per_trace if len(traces) > 1 else leads[0]),
        oracle_ratio=float(np.mean(of_oracle)) if of_oracle else None,
        oracle_ratio_ci95=interval95(of_oracle),
        oracle_ratio_worst=min(of_oracle, default=None),
        utility_over_static_best=min(unharmed, default=None),
        p99_over_static_best=max(slower, default=None),
        held_fidelity=mean(lambda runs: float(np.mean([each.held_fidelity or 0.0 for each in runs.figures]))),
        bytes_per_frame=mean(lambda runs: float(np.mean([each.bytes_per_frame for each in runs.figures]))),
    )


def _ranked(comparison: PolicyComparison, names: Sequence[str]) -> dict[str, Standing]:
    found = {policy: standing(comparison, policy, names) for policy in comparison.wanted.policies}
    return dict(sorted(found.items(), key=lambda item: -item[1].utility))


def _leads(runs: Mapping[str, Runs], first: str, policy: str) -> list[float]:
    """Run by run."""
    both = zip(runs[first].utilities, runs[policy].utilities, strict=True)
    return [mine - theirs for mine, theirs in both]


def _utility(runs: Runs) -> float:
    return runs.utility


def _p99_ms(runs: Runs) -> float:
    return runs.p99_ms
