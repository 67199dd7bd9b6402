"""Owns the document of a comparison of recoveries: figures per kind of shift, per link, and utility over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from splitmesh.sim.compare import BEST_ORACLE
from splitmesh.sim.errand import Case
from splitmesh.sim.recovery import (
    TOLERANCE,
    UNDISTURBED,
    WINDOW,
    Disturbed,
    Recovered,
    RecoveryComparison,
    window_means,
)
from splitmesh.sim.shift import KINDS

VERSION: Final = 1
_BEFORE_S, _AFTER_S = 2.0, 5.0
"""What is shown of the time around the shift."""


def recovery_document(comparison: RecoveryComparison) -> dict[str, Any]:
    """`kinds{KIND:{policies{POLICY:{…}}, traces{NAME:{POLICY:{frames, strict, regret, lost: [per seed]}}, curve}}`.

    Regret and what was lost are in frames.
    """
    wanted = comparison.wanted
    return {
        "version": VERSION,
        "scenario": asdict(wanted.scenario),
        "edge_slowdowns": list(wanted.slowdowns or (wanted.scenario.edge_slowdown,)),
        "seeds": wanted.seeds,
        "shift": asdict(comparison.shift),
        "window_frames": WINDOW,
        "tolerance": TOLERANCE,
        "links": {name: trace.describe() for name, trace in wanted.traces.items()},
        "kinds": {kind: _kind(comparison, kind) for kind in KINDS},
    }


def _kind(comparison: RecoveryComparison, kind: str) -> dict[str, Any]:
    wanted = comparison.wanted
    found = {
        name: {
            policy: [comparison.recovered(kind, case, policy, seed) for seed in range(wanted.seeds)]
            for policy in wanted.policies
        }
        for name, case in wanted.cases.items()
    }
    return {
        "policies": {
            policy: summary([each for by_policy in found.values() for each in by_policy[policy]])
            for policy in wanted.policies
        },
        "traces": {
            name: {policy: _listed(runs) for policy, runs in by_policy.items()} for name, by_policy in found.items()
        },
        "curve": _curve(comparison, kind),
    }


def summary(runs: Sequence[Recovered]) -> dict[str, Any]:
    """Over all runs. Frames are null where a run (of the median: half of them) never came back."""
    frames = sorted(np.inf if each.frames is None else each.frames for each in runs)
    never = sum(each.frames is None for each in runs)
    p50 = float(np.quantile(frames, 0.5, method="inverted_cdf"))
    return {
        "runs": len(runs),
        "never": never,
        "frames_p50": None if np.isinf(p50) else p50,
        "frames_worst": None if never else frames[-1],
        "strict_worst": None if any(each.strict is None for each in runs) else max(each.strict or 0 for each in runs),
        "within_30_frames": sum(each <= 30 for each in frames) / len(runs),
        "regret": float(np.mean([each.regret for each in runs])),
        "lost": float(np.mean([each.lost for each in runs])),
    }


def _listed(runs: Sequence[Recovered]) -> dict[str, Any]:
    return {name: [getattr(each, name) for each in runs] for name in ("frames", "strict", "regret", "lost")}


def _curve(comparison: RecoveryComparison, kind: str) -> dict[str, Any]:
    """Mean over all runs of the utility over the last `WINDOW` frames, by time since the shift's beginning."""
    wanted, shift = comparison.wanted, comparison.shift
    fps = wanted.scenario.fps
    first = max(WINDOW - 1, int((shift.start_s - _BEFORE_S) * fps))
    last = min(wanted.scenario.frames, int((shift.end_s + _AFTER_S) * fps))

    def over_time(kind: str, policy: str) -> list[float]:
        cases: list[Case] = list(wanted.cases.values())
        runs = [Disturbed(kind, case, policy, seed) for case in cases for seed in range(wanted.seeds)]
        mean = np.mean([window_means(comparison.utilities[run]) for run in runs], axis=0)
        return [round(float(value), 5) for value in mean[first - WINDOW + 1 : last - WINDOW + 1]]

    return {
        "t_s": [round(seq / fps - shift.start_s, 4) for seq in range(first, last)],
        "policies": {policy: over_time(kind, policy) for policy in wanted.policies},
        "undisturbed": {policy: over_time(UNDISTURBED, policy) for policy in wanted.policies},
        "oracle": over_time(kind, BEST_ORACLE),
    }
