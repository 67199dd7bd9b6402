"""Owns the picture of bench/meshload_wrk.py's results, and their tables in docs/benchmarks.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_WITHIN = 0.05


def draw(report: dict[str, Any], path: Path) -> None:
    """Requests per second and core of both, and what both say of the same servers. Writes `path`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    rows, best = report["throughput"]["rows"], report["throughput"]
    names = [f"{row['tool']} -t {row['processes']}" for row in rows]
    left.bar(names, [row["rps"] / 1000 for row in rows], 0.7, color="#bbb", label="in all")
    left.plot(names, [row["rps_per_core"] / 1000 for row in rows], "ko", label="per core that it kept busy")
    left.set(ylabel="1000 requests/s", title=f"no-op server ({best['server']}), {best['callers']} callers")
    left.legend()
    both = report["agreement"]["rows"]
    kinds = [row["kind"] for row in both]
    for tool, mark in (("meshload", "o"), ("wrk", "x")):
        for key, colour in (("mean", "C0"), ("p99", "C3")):
            values = [row[tool][key] for row in both if tool in row]
            if values:
                right.plot(kinds, values, mark, color=colour, markersize=9, label=f"{tool}, {key}")
    right.set(ylabel="ms", title="closed loop on servers of known service time", ylim=(0, None))
    right.legend()
    figure.savefig(path, dpi=110)


def throughput_table(report: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """(head, rows): what each tool made, and what of wrk's that is."""
    theirs = {row["processes"]: row for row in report["throughput"]["rows"] if row["tool"] == "wrk"}
    rows: list[tuple[str, ...]] = []
    for row in report["throughput"]["rows"]:
        other = theirs.get(row["processes"])
        share = per_core = "–"
        if other and row["tool"] != "wrk":
            share = f"{row['rps'] / other['rps']:.2f}"
            per_core = f"{row['rps_per_core'] / other['rps_per_core']:.2f}"
        rows.append(
            (
                f"{row['tool']} -t {row['processes']}", f"{row['rps']:,.0f}", f"{row['cpu']:.2f}",
                f"{row['rps_per_core']:,.0f}", f"{row['server_cpu']:.2f}", share, per_core, row["limit"],
            )
        )  # fmt: skip
    if not theirs:
        rows.append(("wrk: not installed", *("–" for _ in range(7))))
    head = (
        "tool",
        "requests/s",
        "its cores",
        "requests/s per core",
        "server's cores",
        "of wrk's",
        "of wrk's per core",
    )
    return (*head, "limited by"), rows


def agreement_table(report: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """(head, rows): what both say of the same servers."""
    rows: list[tuple[str, ...]] = []
    for row in report["agreement"]["rows"]:
        for key in ("mean", "p99"):
            theirs, off = (_spread(row, "wrk", key), row["off"][key]) if "wrk" in row else ("not installed", None)
            told = "–" if off is None else f"{off:+.1%}"
            kept = "–" if off is None else "yes" if abs(off) <= _WITHIN else "no"
            name = f"`{row['kind']}`, {row['callers']} callers, {key}"
            rows.append((name, theirs, _spread(row, "meshload", key), told, kept))
    return ("server", "wrk ms", "meshload ms", "apart", "within 5 %"), rows


def _spread(row: dict[str, Any], tool: str, key: str) -> str:
    """The median of the runs, the least and the most of them."""
    runs = row[f"{tool}_runs"][key]
    return f"{row[tool][key]:.2f} ({runs[0]:.2f} to {runs[-1]:.2f})"


def conditions(report: dict[str, Any]) -> str:
    """On what, and beside what else, it was measured."""
    told = [
        f"{name}: medians of {part['rounds']} runs of {part['seconds']:g} s, load average {part['load_before']:.1f} "
        f"before, {part['load_after']:.1f} after{', ahead of other processes' * part['realtime']}"
        for name, part in (("Rates", report["throughput"]), ("Agreement", report["agreement"]))
    ]
    return f"{'. '.join(told)}. {report['cores']} cores {report['machine']}, Python {report['python']}."
