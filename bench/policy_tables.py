"""Owns the tables of docs/benchmarks.md on policies: the leaderboard, no harm, and recovery. Measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Head, and rows."""


def leaderboard(report: dict[str, Any]) -> Table:
    """A row per policy, a column per set and slowdown: utility, and what the first policy is ahead by."""
    groups = report["leaderboard"]
    first = next(iter(report["overall"]))
    ranked = sorted(report["overall"], key=lambda policy: -report["overall"][policy]["utility"])
    head = ("policy", *(_title(group) for group in groups))
    return head, [
        (f"**{policy}**" if policy == first else f"`{policy}`", *(_stands(group, policy, first) for group in groups))
        for policy in ranked
    ]


def harm(report: dict[str, Any]) -> Table:
    """A row per set and slowdown, of the first policy: against the oracle, and against the best static choice."""
    first = next(iter(report["overall"]))
    head = ("links", "÷ oracle", "worst", "utility ÷ best static's, worst", "p99 ÷ best static's, worst", "held")
    rows = []
    for group in report["leaderboard"]:
        row = group["policies"][first]
        rows.append(
            (
                _title(group),
                _with_interval(row["oracle_ratio"], row["oracle_ratio_ci95"]),
                _number(row["oracle_ratio_worst"]),
                _number(row["utility_over_static_best_worst"]),
                _number(row["p99_over_static_best_worst"], ".2f"),
                _number(row["held_fidelity"]),
            )
        )
    return head, rows


def recovery(report: dict[str, Any]) -> Table:
    """A row per kind of shift and policy."""
    head = ("shift", "policy", "frames, median", "worst", "worst, strictly", "≤ 30 frames", "regret", "lost")
    rows = []
    for kind, entry in report["kinds"].items():
        for number, (policy, row) in enumerate(entry["policies"].items()):
            rows.append(
                (
                    kind if number == 0 else "",
                    f"`{policy}`",
                    _number(row["frames_p50"], ".0f", "never"),
                    _number(row["frames_worst"], ".0f", f"never in {row['never']} of {row['runs']}"),
                    _number(row["strict_worst"], ".0f", "never"),
                    f"{row['within_30_frames']:.0%}",
                    f"{row['regret']:.1f}",
                    f"{row['lost']:.1f}",
                )
            )
    return head, rows


def _title(group: dict[str, Any]) -> str:
    return f"{group['set']} ({group['traces']}), {group['edge_slowdown']:g}×"


def _stands(group: dict[str, Any], policy: str, first: str) -> str:
    row = group["policies"][policy]
    if policy == first:
        return f"**{row['utility']:.3f}**"
    return f"{row['utility']:.3f} ({row['first_ahead_by']:+.3f}{'*' if row['interval_excludes_zero'] else ''})"


def _with_interval(value: float | None, interval: list[float] | None) -> str:
    return _number(value) + (f" ({interval[0]:.3f} … {interval[1]:.3f})" if interval else "")


def _number(value: float | None, form: str = ".3f", otherwise: str = "–") -> str:
    return otherwise if value is None else format(value, form)
