"""Owns what `bench.serving` makes of its runs: medians over rounds, the table of the documents, the picture."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Rounds = list[dict[str, Any]]
DEADLINE_MS = 150
"""Of the requests in a flood."""


def percentile(values: Sequence[float], share: float) -> float:
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


def condense(rows: dict[str, dict[str, Rounds]]) -> dict[str, Any]:
    """{"systems": whole model, "systems_cut": tail of the cut}, each system's figures as medians over its rounds."""
    named = {"whole": "systems", "cut": "systems_cut"}
    return {named[work]: {system: figures(rounds) for system, rounds in of.items()} for work, of in rows.items()}


def figures(rounds: Rounds) -> dict[str, Any]:
    """A latency is None where that closed loop was left out."""

    def median(of: Callable[[dict[str, Any]], float | None]) -> float | None:
        known = [value for row in rounds if (value := of(row)) is not None]
        return round(statistics.median(known), 4) if known else None

    def closed(clients: int, share: float) -> Callable[[dict[str, Any]], float | None]:
        def of(row: dict[str, Any]) -> float | None:
            run = row["closed"].get(str(clients))
            return percentile(run["latency_ms"], share) if run and run["latency_ms"] else None

        return of

    def busiest(row: dict[str, Any]) -> dict[str, Any]:
        best: dict[str, Any] = max(row["closed"].values(), key=lambda run: run["rps"])
        return best

    def bare(row: dict[str, Any]) -> float:
        return float(row["before"]["rps"] + row["after"]["rps"]) / 2

    def added(row: dict[str, Any]) -> float | None:
        p50 = closed(1, 0.5)(row)
        return None if p50 is None else p50 - row["alone"]["p50_ms"]

    counts = list(rounds[0]["closed"])
    rps = {count: median(lambda row, c=count: row["closed"][c]["rps"]) for count in counts}  # type: ignore[misc]
    flat = [value for count, value in rps.items() if int(count) >= 8 and value is not None]
    return {
        "peak_rps": median(lambda row: busiest(row)["rps"]),
        "bare_rps": median(bare),
        "ratio_to_bare": median(lambda row: busiest(row)["rps"] / bare(row)),
        "added_p50_ms_c1": median(added),
        "p95_ms_c8": median(closed(8, 0.95)),
        "p95_ms_c32": median(closed(32, 0.95)),
        "open_p99_ms": median(lambda row: percentile(row["open"]["latency_ms"], 0.99)),
        "rps": rps,
        "flatness": round(min(flat) / max(flat), 4) if flat else None,
        "cpu_ms": median(lambda row: busiest(row)["cpu_ms"]),
        "bare_cpu_ms": median(lambda row: (row["before"]["cpu_ms"] + row["after"]["cpu_ms"]) / 2),
        "broker_cpu_ms": median(lambda row: busiest(row)["broker_cpu_ms"]),
        "load_cpu_ms": median(lambda row: busiest(row)["load_cpu_ms"]),
        "goodput_2x": median(lambda row: goodput(row.get("flood"), busiest(row)["rps"])),
        "goodput_2x_fifo": median(lambda row: goodput(row.get("flood_fifo"), busiest(row)["rps"])),
        "refused": sum(refused(run) for row in rounds for run in (*row["closed"].values(), row["open"])),
    }


def goodput(run: dict[str, Any] | None, capacity: float) -> float | None:
    """Answers in time per second, as a share of what the system can do; None without a flood."""
    if run is None:
        return None
    in_time: int = sum(ms <= DEADLINE_MS for ms in run["latency_ms"])
    return in_time / float(run["seconds"]) / capacity


def refused(run: dict[str, Any]) -> int:
    return sum(count for end, count in run["ends"].items() if end != "ok")


def table(report: dict[str, Any], of: str = "systems") -> tuple[Sequence[str], list[tuple[str, ...]]]:
    """Head and rows, the best ratio first."""
    head = (
        "system", "req/s", "÷ bare loop", "added p50 ms, 1 at once", "p95 ms, 8", "p95 ms, 32", "p99 ms, open loop",
        "flat, 8 to 256", "goodput at 2×", "CPU ms per request (bare)",
    )  # fmt: skip

    def shown(value: float | None, form: str) -> str:
        return "–" if value is None else form.format(value)

    ranked = sorted(report[of].items(), key=lambda item: -item[1]["ratio_to_bare"])
    return head, [
        (
            f"**`{name}`**" if name.startswith("splitmesh") else f"`{name}`",
            f"{row['peak_rps']:.1f}",
            f"{row['ratio_to_bare']:.3f}",
            shown(row["added_p50_ms_c1"], "{:.1f}"),
            shown(row["p95_ms_c8"], "{:.0f}"),
            shown(row["p95_ms_c32"], "{:.0f}"),
            f"{row['open_p99_ms']:.0f}",
            shown(row["flatness"], "{:.2f}"),
            f"{row['goodput_2x']:.2f} ({row['goodput_2x_fifo']:.2f})" if row["goodput_2x"] is not None else "–",
            f"{row['cpu_ms']:.2f} ({row['bare_cpu_ms']:.2f})",
        )
        for name, row in ranked
    ]


def draw(report: dict[str, Any], path: Path) -> None:
    """Ratios to the bare loop beside latencies at 8 and 32 requests at once."""
    systems = report.get("systems") or report["systems_cut"]
    names = sorted(systems, key=lambda name: -systems[name]["ratio_to_bare"])
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    colours = ["tab:blue" if name.startswith("splitmesh") else "tab:grey" for name in names]
    left.barh(names, [systems[name]["ratio_to_bare"] for name in names], color=colours)
    left.axvline(1.0, color="black", linewidth=0.8)
    left.invert_yaxis()
    left.set_xlabel("requests per second ÷ bare loop's")
    for key, height, label in (("p95_ms_c8", -0.2, "8 at once"), ("p95_ms_c32", 0.2, "32 at once")):
        places = [place + height for place in range(len(names))]
        right.barh(places, [systems[name][key] or 0.0 for name in names], height=0.4, label=label)
    right.set_yticks(range(len(names)), names)
    right.invert_yaxis()
    right.set_xlabel("p95, ms")
    right.legend()
    figure.savefig(path, dpi=110)
