"""Owns the table that `splitmesh bench fleet` prints. Measures nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_NOTE = (
    "Utility: mean over frames of hit × fidelity. Jain: 1 where all edges fare alike. Refused: for lack of time, "
    "room or a worker. Latency: frames without an answer count until they were given up."
)


def show_fleet(console: Console, document: dict[str, Any]) -> None:
    """document: as `--json` has it."""
    fleet, simulated = document["fleet"], len(document["edges"])
    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    title = f"{fleet['edges']} edges, {document['policy']}"
    table.add_column(title if simulated == fleet["edges"] else f"{title}: {simulated} stand for all")
    table.add_column("", justify="right", no_wrap=True)
    for name, value in _rows(document):
        table.add_row(name, value)
    console.print(table)
    console.print(Text(_NOTE, style="dim"))


def _rows(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    figures, workers = document["figures"], document["workers"]
    latency, busy = figures["latency_ms"], [worker["utilisation"] for worker in workers]
    yield "utility", f"{figures['utility']:.4f}"
    yield "utility of the worst 5 % of edges", f"{figures['utility_worst']:.4f}"
    yield "fairness (Jain)", f"{figures['jain']:.4f}"
    yield "hit", f"{figures['hit']:.4f}"
    yield "fidelity", f"{figures['fidelity']:.4f}"
    yield "latency p50, p95, p99", " / ".join(f"{latency[key]:.1f}" for key in ("p50", "p95", "p99")) + " ms"
    yield "bytes per frame", f"{figures['bytes_per_frame']:,.0f}"
    yield "sent over one uplink", f"{figures['uplink_bps'] / 1e3:,.1f} kbit/s"
    yield f"workers' utilisation ({len(workers)})", f"{min(busy):.3f} to {max(busy):.3f}"
    yield "wait at a worker, mean, p95", f"{figures['pool_wait_ms']:.2f} / {figures['pool_wait_p95_ms']:.2f} ms"
    yield "refused", f"{100 * figures['refused']:.2f} %"
    yield "cost of a simulated frame", f"{document['us_per_frame']:,.0f} µs"
