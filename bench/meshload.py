"""Whether meshload tells the truth, and how much load it makes → bench/results/meshload.json and .png.

`make bench-meshload`. Servers of known latency (bench/meshload_servers.py) run beside it on this machine: where it
has two cores, generator, server and broker share them, and what they can do together is less than the generator can.
The comparison with wrk is `bench.meshload_wrk`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import resource
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.meshload_runs import load, server
from bench.meshload_servers import Latency

from splitmesh.bus.server import EmbeddedServer

RESULTS = Path(__file__).parent / "results"
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
DISTRIBUTIONS = ("constant:20", "bimodal:5:50:0.2", "pareto:5:3")
RATES = (1000, 2000, 5000, 10_000, 20_000, 30_000, 40_000)
SERVER_SEED = 5
FREEZE_S = 1.0


def stall(rate: int) -> dict[str, Any]:
    """A server that freezes in the middle: of requests at an even rate, those within wait for the rest of it."""
    length_s = 10.0
    arguments = ("--latency", "constant:2", "--freeze", f"5:{FREEZE_S}")
    with server("http", *arguments) as served:
        opened = load("-R", rate, "-d", f"{length_s}s", "--arrivals", "constant", served.url)
    with server("http", *arguments) as served:
        closed = load("--closed", "-c", 4, "-d", f"{length_s}s", served.url)
    analytic_ms = 1000 * FREEZE_S * (1 - 0.01 * length_s / FREEZE_S)
    return {
        "rate": rate,
        "analytic_p99_ms": analytic_ms,
        "open_p99_ms": opened["latency_ms"]["p99"],
        "closed_p99_ms": closed["latency_ms"]["p99"],
        "error": opened["latency_ms"]["p99"] / analytic_ms - 1,
    }


def accuracy(kind: str, rate: int, length_s: float, rounds: int) -> dict[str, Any]:
    """Reported quantiles against those of the very times that the server drew; medians of the rounds."""
    latency = Latency.parse(kind)
    rng = random.Random(SERVER_SEED)
    drawn = sorted(latency.draw_ms(rng) for _ in range(round(rate * length_s)))
    true = {name: drawn[max(0, math.ceil(q * len(drawn)) - 1)] for name, q in QUANTILES.items()}
    runs = []
    for _ in range(rounds):
        with server("http", "--awake", "--latency", kind) as served:
            runs.append(load("-R", rate, "-d", f"{length_s}s", "--arrivals", "constant", served.url))
    row: dict[str, Any] = {"kind": kind, "rate": rate, "requests": len(drawn), "true_ms": true}
    for key in ("latency_ms", "service_ms"):
        row[key] = {name: statistics.median(run[key][name] for run in runs) for name in QUANTILES}
    row["lag_ms_p99"] = statistics.median(run["generator"]["lag_ms_p99"] for run in runs)
    row["within"] = {name: abs(row["latency_ms"][name] - ms) <= max(0.02 * ms, 0.2) for name, ms in true.items()}
    return row


def rates(url: str, length_s: float, rounds: int) -> list[dict[str, Any]]:
    """How much of a rate leaves in time; stops after the first rate of which less than 98 % does."""
    rows = []
    for rate in RATES:
        runs = [load("-R", rate, "-d", f"{length_s}s", "--warmup", "0.5s", url) for _ in range(rounds)]
        kept = [run["kept_rps"] / (run["requests"]["offered"] / run["duration_s"]) for run in runs]
        row = {
            "rate": rate,
            "kept": statistics.median(kept),
            "cpu": statistics.median(run["generator"]["cpu"] for run in runs),
            "lag_ms_p50": statistics.median(run["generator"]["lag_ms_p50"] or 0.0 for run in runs),
            "lag_ms_p99": statistics.median(run["generator"]["lag_ms_p99"] or 0.0 for run in runs),
            "latency_ms_p50": statistics.median(run["latency_ms"]["p50"] for run in runs),
        }
        rows.append(row)
        print(f"rate {rate}: kept {row['kept']:.4f}, CPU {row['cpu']:.0%}", flush=True)
        if row["kept"] < 0.98:
            break
    return rows


def ceiling(url: str, length_s: float, rounds: int) -> dict[str, Any]:
    """What one process and a no-op responder do together, and what a request costs the generator."""
    runs = [load("--closed", "-c", 256, "-d", f"{length_s}s", "--warmup", "0.5s", url) for _ in range(rounds)]
    rps = statistics.median(run["achieved_rps"] for run in runs)
    cost_us = statistics.median(1e6 * run["generator"]["cpu"] / run["achieved_rps"] for run in runs)
    return {"rps": rps, "best_rps": max(run["achieved_rps"] for run in runs), "cpu_us_per_request": cost_us}


def edges(url: str) -> dict[str, Any]:
    """10,000 virtual edges at one frame a second from one process, and the memory of that process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    run = load("--edges", 10_000, "--fps", 1, "-d", "10s", "--warmup", "1s", url)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    kept = run["kept_rps"] / (run["requests"]["offered"] / run["duration_s"])
    return {
        "edges": 10_000,
        "kept": kept,
        "answered_rps": run["achieved_rps"],
        "cpu": run["generator"]["cpu"],
        "peak_mb_at_most": max(before, peak) / 1024,
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="per run (the stall takes 10)")
    parser.add_argument("--rounds", type=int, default=7, help="medians of so many")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args(argv)
    report = measure(asked.seconds, asked.rounds)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "meshload.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    from bench.meshload_plot import draw

    draw(report, asked.out / "meshload.png")
    print(json.dumps(report, indent=1))
    return 0


def measure(length_s: float, rounds: int) -> dict[str, Any]:
    """Everything that `main` writes."""
    report: dict[str, Any] = {
        "machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version(),
        "seconds": length_s, "rounds": rounds, "load_before": os.getloadavg()[0],
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        report |= on_nats(Path(folder), length_s, rounds)
    report["stall"] = stall(500)
    report["accuracy"] = [accuracy(kind, 500, length_s, rounds) for kind in DISTRIBUTIONS]
    report["load_after"] = os.getloadavg()[0]
    return report


def on_nats(folder: Path, length_s: float, rounds: int) -> dict[str, Any]:
    """Rates, ceiling and edges against a no-op responder on a broker of our own."""
    import asyncio

    async def run() -> dict[str, Any]:
        async with EmbeddedServer(store=folder) as broker:
            with server("nats", broker.url, "echo"):
                url = f"nats-raw://{broker.url.partition('://')[2]}/echo"
                return await asyncio.to_thread(
                    lambda: {
                        "ceiling": ceiling(url, length_s, rounds),
                        "rates": rates(url, length_s, rounds),
                        "edges": edges(url),
                    }
                )

    return asyncio.run(run())


if __name__ == "__main__":
    raise SystemExit(main())
