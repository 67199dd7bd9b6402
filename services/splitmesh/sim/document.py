"""Owns the document of a comparison of policies: what `splitmesh bench policy --json` writes.

`traces{NAME:{policies{POLICY:{…}}}}`; with several slowdowns of the edge each pair of trace and slowdown is an entry,
`NAME @4x`, and says its trace and its slowdown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from splitmesh.sim.compare import BEST_ORACLE, STATIC_BEST, PolicyComparison, Runs
from splitmesh.sim.standing import Standing, interval95, leaderboard, standing

VERSION: Final = 1
_LATENCIES = ("mean", "p50", "p95", "p99")
_MEANS = ("utility", "hit", "fidelity", "inferred", "held_fidelity", "bytes_per_frame", "switches_per_min")


def document(comparison: PolicyComparison) -> dict[str, Any]:
    """Ratios, shares and utilities in [0, 1]; latencies in ms; intervals as [low, high], null for a single value."""
    wanted = comparison.wanted
    cases = wanted.cases
    scenario = asdict(wanted.scenario)
    slowdowns = list(wanted.slowdowns or (wanted.scenario.edge_slowdown,))
    # None where there is no single one.
    scenario["edge_slowdown"] = slowdowns[0] if len(slowdowns) == 1 else None
    return {
        "version": VERSION,
        "scenario": scenario,
        "edge_slowdowns": slowdowns,
        "seeds": wanted.seeds,
        "traces": {
            name: {
                "trace": cases[name].trace,
                "set": wanted.set_of(cases[name]),
                "edge_slowdown": cases[name].edge_slowdown,
                "link": wanted.traces[cases[name].trace].describe(),
                "policies": {policy: _row(runs, by_policy) for policy, runs in by_policy.items()},
            }
            for name, by_policy in comparison.runs.items()
        },
        "overall": {policy: _stands(standing(comparison, policy, cases)) for policy in wanted.policies},
        "leaderboard": [
            {
                "set": group,
                "edge_slowdown": slowdown,
                "traces": sum(
                    wanted.set_of(case) == group and case.edge_slowdown == slowdown for case in cases.values()
                ),
                "policies": {policy: _stands(each) for policy, each in stands.items()},
            }
            for (group, slowdown), stands in leaderboard(comparison).items()
        ],
        "us_per_frame": {policy: round(comparison.us_per_frame(policy), 1) for policy in wanted.policies},
    }


def _stands(of: Standing) -> dict[str, Any]:
    return {
        "utility": of.utility,
        "first_ahead_by": of.ahead_by,
        "first_ahead_ci95": of.ahead_ci95,
        "interval_excludes_zero": of.clearly,
        "oracle_ratio": of.oracle_ratio,
        "oracle_ratio_ci95": of.oracle_ratio_ci95,
        "oracle_ratio_worst": of.oracle_ratio_worst,
        "utility_over_static_best_worst": of.utility_over_static_best,
        "p99_over_static_best_worst": of.p99_over_static_best,
        "held_fidelity": of.held_fidelity,
        "bytes_per_frame": of.bytes_per_frame,
    }


def _row(runs: Runs, others: Mapping[str, Runs]) -> dict[str, Any]:
    """Means over seeds; decisions and outcomes summed up. Ratios are of means, their interval is over seeds."""
    figures = [asdict(each) for each in runs.figures]
    means = {name: float(np.mean([each[name] for each in figures])) for name in _MEANS}
    oracle, static = others.get(BEST_ORACLE), others.get(STATIC_BEST)
    per_seed = _ratios(runs, oracle)
    return {
        **means,
        "latency_ms": {key: float(np.mean([each["latency_ms"][key] for each in figures])) for key in _LATENCIES},
        "oracle_ratio": _ratio(runs.utility, oracle.utility if oracle else None),
        "oracle_ratio_ci95": interval95(per_seed),
        "utility_over_static_best": _ratio(runs.utility, static.utility if static else None),
        "p99_over_static_best": _ratio(runs.p99_ms, static.p99_ms if static else None),
        "ci95": interval95(runs.utilities),
        "point": runs.point or None,
        "decisions": _total(figures, "decisions"),
        "outcomes": _total(figures, "outcomes"),
    }


def _ratio(mine: float, theirs: float | None) -> float | None:
    return mine / theirs if theirs else None


def _ratios(runs: Runs, oracle: Runs | None) -> list[float]:
    """Seed by seed; none where the oracle did not run, or has nothing."""
    if oracle is None or min(oracle.utilities) <= 0:
        return []
    return [mine / theirs for mine, theirs in zip(runs.utilities, oracle.utilities, strict=True)]


def _total(figures: list[dict[str, Any]], name: str) -> dict[str, int]:
    summed: dict[str, int] = {}
    for each in figures:
        for key, value in each[name].items():
            summed[key] = summed.get(key, 0) + value
    return summed
