"""Owns the picture of bench/meshload.py's results, and its rows in docs/benchmarks.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw(report: dict[str, Any], path: Path) -> None:
    """Reported against true quantiles, and what is kept of a rate. Writes `path`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = list(report["accuracy"][0]["true_ms"])
    for row in report["accuracy"]:
        left.plot(names, [row["true_ms"][name] for name in names], "k_", markersize=18)
        left.plot(names, [row["latency_ms"][name] for name in names], "o-", label=row["kind"])
    left.set(yscale="log", ylabel="ms", title="latency: reported (dots) and true (bars)")
    left.legend()
    rates = [row["rate"] for row in report["rates"]]
    right.plot(rates, [100 * row["kept"] for row in report["rates"]], "o-", label="left in time, %")
    right.plot(rates, [100 * row["cpu"] for row in report["rates"]], "s--", label="CPU of a core, %")
    right.set(xlabel="requests/s asked, one process, NATS, 128 B", ylim=(0, 105), title="rate kept")
    right.legend()
    figure.savefig(path, dpi=110)


def table(report: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """(head, rows): what was asked for, what was measured, in words."""
    stall, top, edges = report["stall"], report["ceiling"], report["edges"]
    rows: list[tuple[str, ...]] = [
        (
            f"p99 of an open loop at {stall['rate']}/s, server frozen for 1 of 10 s",
            f"{stall['analytic_p99_ms']:.0f} ms by arithmetic",
            f"{stall['open_p99_ms']:.0f} ms ({stall['error']:+.1%}); closed loop: {stall['closed_p99_ms']:.1f} ms",
        )
    ]
    for row in report["accuracy"]:
        pairs = ", ".join(f"{n} {row['true_ms'][n]:.4g} → {row['latency_ms'][n]:.4g}" for n in row["true_ms"])
        fine = sum(row["within"].values())
        rows.append(
            (
                f"latency of `{row['kind']}` at {row['rate']}/s, ms",
                "2 % or 0.2 ms",
                f"{pairs} ({fine} of {len(row['within'])})",
            )
        )
    kept = [row for row in report["rates"] if row["kept"] >= 0.995]
    highest = (
        f"up to {kept[-1]['rate']:,}/s ({kept[-1]['kept']:.2%}, CPU {kept[-1]['cpu']:.0%})" if kept else "at none"
    )
    rows += [
        ("rate that leaves in time, one process, NATS, 128 B", "99.5 %", highest),
        (
            "one process and a no-op responder, closed loop",
            "20,000/s",
            f"{top['rps']:,.0f}/s; {top['cpu_us_per_request']:.1f} µs of the generator's core per request",
        ),
        (
            f"{edges['edges']:,} virtual edges at 1 frame/s",
            "2 GB",
            f"{edges['kept']:.2%} in time, CPU {edges['cpu']:.0%}, at most {edges['peak_mb_at_most']:.0f} MB",
        ),
    ]
    return ("what", "wanted", "measured"), rows
