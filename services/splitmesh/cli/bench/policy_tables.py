"""Owns the tables that `splitmesh bench policy` prints, from its document. Measures nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_ANSWERS = ("utility", "±95 %", "÷ oracle", "÷ static", "hit", "by model", "fidelity", "held")
_COSTS = ("mean ms", "p50 ms", "p95 ms", "p99 ms", "p99 ÷ static", "bytes", "switches")
_NOTE = (
    "By model: in time and not tracked. Held: fidelity of the answer that a consumer holds, over time. Latency: "
    "frames without an answer in time count too, never below one in time. ÷ static: over what the best operating "
    "point in hindsight has. Bytes: per captured frame, with messages and probes. Switches: changes of the operating "
    "point, a minute. ±95 %: over seeds; between policies of one seed luck is shared, so that the lead has a "
    "narrower interval."
)
_LEADS_NOTE = (
    "Leads: over links, each one's mean over its runs, pair by pair; * where the 95 % interval excludes zero. "
    "÷ oracle: mean and worst of the links; ÷ static and p99 (over the best static choice's): of the worst."
)
_SHIFT_NOTE = (
    "Frames: from the shift's end until utility is back at what it is without a shift, or at the oracle's if that is "
    "lower; strictly: at the former, worst. Regret: frames that the oracle answered better; lost: frames against the "
    "same policy without a shift."
)


def show_policies(console: Console, document: Mapping[str, Any]) -> None:
    """A line per trace and policy, then how policies stand in each set of links, and overall."""
    for columns, cells in ((_ANSWERS, _answers), (_COSTS, _costs)):
        table = _table("link and policy", columns)
        for link, entry in document["traces"].items():
            table.add_row(Text(link, style="bold"))
            best = max(row["utility"] for row in entry["policies"].values())
            for policy, row in entry["policies"].items():
                table.add_row(f"  {policy}", *cells(row), style="bold" if row["utility"] == best else "")
            table.add_section()
        console.print(table)
    groups = document["leaderboard"]
    first = next(iter(document["overall"]))
    for group in groups if len(groups) > 1 else ():
        title = f"{group['set']} ({group['traces']}) @{group['edge_slowdown']:g}x"
        console.print(_standing(title, first, group["policies"], {}))
    console.print(_standing("all links", first, document["overall"], document["us_per_frame"]))
    for link, entry in document["traces"].items():
        for policy, row in entry["policies"].items():
            if row["point"]:
                console.print(Text(f"{policy} over {link}: {row['point']}", style="dim"))
    console.print(Text(f"{_NOTE} {_LEADS_NOTE}", style="dim"))


def show_recovery(console: Console, document: Mapping[str, Any]) -> None:
    """A line per kind of shift and policy."""
    table = _table("shift and policy", ("frames p50", "worst", "strictly", "≤ 30 frames", "never", "regret", "lost"))
    for kind, entry in document["kinds"].items():
        table.add_row(Text(kind, style="bold"))
        for policy, row in entry["policies"].items():
            table.add_row(
                f"  {policy}",
                _number(row["frames_p50"], ".0f"),
                _number(row["frames_worst"], ".0f"),
                _number(row["strict_worst"], ".0f"),
                f"{row['within_30_frames']:.0%}",
                f"{row['never']} of {row['runs']}",
                f"{row['regret']:.1f}",
                f"{row['lost']:.1f}",
            )
        table.add_section()
    console.print(table)
    console.print(Text(_SHIFT_NOTE, style="dim"))


def _answers(row: Mapping[str, Any]) -> list[str]:
    return [
        f"{row['utility']:.4f}",
        "–" if row["ci95"] is None else f"{(row['ci95'][1] - row['ci95'][0]) / 2:.4f}",
        _number(row["oracle_ratio"], ".3f"),
        _number(row["utility_over_static_best"], ".3f"),
        *(f"{row[name]:.3f}" for name in ("hit", "inferred", "fidelity", "held_fidelity")),
    ]


def _costs(row: Mapping[str, Any]) -> list[str]:
    return [
        *(f"{row['latency_ms'][key]:.1f}" for key in ("mean", "p50", "p95", "p99")),
        _number(row["p99_over_static_best"], ".2f"),
        f"{row['bytes_per_frame']:,.0f}",
        f"{row['switches_per_min']:.1f}",
    ]


def _standing(title: str, first: str, policies: Mapping[str, Any], costs: Mapping[str, float]) -> Table:
    """costs: µs per frame, by policy; not shown where there are none."""
    ranked = sorted(policies.items(), key=lambda item: -item[1]["utility"])
    heads = ["utility", f"{first} ahead by", "95 % interval", "÷ oracle", "worst", "÷ static", "p99"]
    table = _table(title, (*heads, *(["µs/frame"] if costs else [])))
    for policy, row in ranked:
        interval = row["first_ahead_ci95"] if policy != first else None
        mark = "*" if row["interval_excludes_zero"] else " "
        table.add_row(
            policy,
            f"{row['utility']:.4f}",
            f"{row['first_ahead_by']:+.4f}{mark}" if policy != first else "",
            f"{interval[0]:+.3f} … {interval[1]:+.3f}" if interval else "",
            _number(row["oracle_ratio"], ".3f"),
            _number(row["oracle_ratio_worst"], ".3f"),
            _number(row["utility_over_static_best_worst"], ".3f"),
            _number(row["p99_over_static_best_worst"], ".2f"),
            *([f"{costs[policy]:,.0f}"] if costs else []),
        )
    return table


def _table(first: str, columns: tuple[str, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    table.add_column(first, overflow="fold", min_width=16)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
