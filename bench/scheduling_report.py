"""Owns the tables that docs/benchmarks.md shows of `bench.scheduling`: heads and rows of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Table = tuple[Sequence[str], list[Sequence[str]]]
_WORST = 2.0
"""The load at which more is told than goodput."""


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def compared(report: dict[str, Any], servers: int = 1) -> Table:
    """Goodput by load, and what became of everybody at twice the capacity."""
    rows = [row for row in report["rows"] if row["servers"] == servers]
    loads = sorted({row["load"] for row in rows})
    head = ["arrivals", "order", *(f"goodput at {load:g}" for load in loads)]
    at = f"at {_WORST:g}:"
    made: list[Sequence[str]] = []
    for kind, rule in dict.fromkeys((row["kind"], row["rule"]) for row in rows):
        mine = {row["load"]: row for row in rows if (row["kind"], row["rule"]) == (kind, rule)}
        worst = mine[_WORST]
        times = " / ".join(ms(worst[f"p{each}_ms"]) for each in (50, 95, 99))
        shares = (percent(worst[each]) for each in ("hit", "refused", "dropped", "late"))
        made.append((kind, rule, *(f"{mine[load]['goodput']:.3f}" for load in loads), *shares, times))
    told = (f"{at} in time", "refused", "dropped", "answered late", "p50 / p95 / p99 ms")
    return (*head, *told), made


def attacked(report: dict[str, Any]) -> Table:
    """The four others, before and while one tenant sends ten times its quota; and that one."""
    rows: list[Sequence[str]] = []
    for row in report["attack"]:
        calm, under = row["calm"], row["attacked"]
        times = (f"{calm['p50_ms']:.0f} → {under['p50_ms']:.0f}", f"{calm['p99_ms']:.0f} → {under['p99_ms']:.0f}")
        refused, lost = (
            f"{percent(sum(calm[each] for each in ends))} → {percent(sum(under[each] for each in ends))}"
            for ends in (("refused",), ("dropped", "late"))
        )
        rows.append((row["kind"], row["rule"], *times, refused, lost, percent(row["attacked_noisy"]["hit"])))
    head = ("arrivals", "order", "p50 ms", "p99 ms", "refused", "dropped or late", "the one: in time")
    return head, rows


def costs(report: dict[str, Any]) -> Table:
    rows: list[Sequence[str]] = [
        (str(row["tenants"]), str(row["waiting"]), f"{row['push_us']:.0f}", f"{row['pop_us']:.0f}")
        for row in report["cost"]
    ]
    return ("tenants", "waiting", "push µs", "pop µs"), rows
