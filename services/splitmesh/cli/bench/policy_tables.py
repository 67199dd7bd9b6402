"""Owns the tables that `splitmesh bench policy` prints. Measures nothing."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from splitmesh.sim.compare import PolicyComparison

_COLUMNS = ("utility", "±95 %", "of oracle", "hit", "fidelity", "p50 ms", "p95 ms", "p99 ms", "bytes", "switches")
_NOTE = (
    "Bytes: per captured frame, with messages and probes. Latency: frames without an answer count until they were "
    "given up. Switches: changes of the operating point, a minute. ±95 %: over seeds; between policies of one seed "
    "luck is shared, so that the lead has a narrower interval."
)


def show_policies(console: Console, comparison: PolicyComparison) -> None:
    """A line per trace and policy, then the means over traces and what the first policy is ahead by."""
    document = comparison.document()
    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    table.add_column("link and policy", overflow="fold")
    for name in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for link, entry in document["traces"].items():
        best = max(row["utility"] for row in entry["policies"].values())
        table.add_row(Text(link, style="bold"))
        for policy, row in entry["policies"].items():
            latency = row["latency_ms"]
            utility = Text(f"{row['utility']:.4f}", style="bold" if row["utility"] == best else "")
            table.add_row(
                f"  {policy}",
                utility,
                "–" if row["ci95"] is None else f"{(row['ci95'][1] - row['ci95'][0]) / 2:.4f}",
                "" if row["oracle_ratio"] is None else f"{row['oracle_ratio']:.3f}",
                f"{row['hit']:.4f}",
                f"{row['fidelity']:.4f}",
                *(f"{latency[key]:.1f}" for key in ("p50", "p95", "p99")),
                f"{row['bytes_per_frame']:,.0f}",
                f"{row['switches_per_min']:.1f}",
            )
        table.add_section()
    console.print(table)
    console.print(_overall(comparison))
    for link, entry in document["traces"].items():
        for policy, row in entry["policies"].items():
            if row["point"]:
                console.print(Text(f"{policy} over {link}: {row['point']}", style="dim"))
    console.print(Text(_NOTE, style="dim"))


def _overall(comparison: PolicyComparison) -> Table:
    document, first = comparison.document(), comparison.wanted.policies[0]
    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    table.add_column("all links", no_wrap=True)
    for name in ("utility", f"{first} ahead by", "95 % interval", "µs per frame"):
        table.add_column(name, justify="right", no_wrap=True)
    ranked = sorted(document["overall"].items(), key=lambda item: -item[1]["utility"])
    for policy, row in ranked:
        interval = row["first_ahead_ci95"]
        lead = policy != first
        table.add_row(
            policy,
            f"{row['utility']:.4f}",
            f"{row['first_ahead_by']:+.4f}" if lead else "",
            f"{interval[0]:+.4f} … {interval[1]:+.4f}" if lead and interval else "",
            f"{document['us_per_frame'][policy]:,.0f}",
        )
    return table
