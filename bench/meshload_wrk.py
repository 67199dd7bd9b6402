"""meshload beside wrk, on the same server, in turns → bench/results/meshload_wrk.json and .png.

`make bench-meshload-wrk`. wrk (https://github.com/wg/wrk) is written in C and is what people compare with. Two
questions: how many requests a core of each can make, and whether both say the same of a server that neither can
saturate. Debian: apt install wrk. Where it is missing, its part is left out and a line says so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.meshload_runs import Served, load, noop_server, server, wrk

RESULTS = Path(__file__).parent / "results"
CALLERS = 64
PROCESSES = (1, 2)
AGREEMENT_CALLERS = 4
SERVICE_TIMES = ("constant:5", "bimodal:4:8:0.3")
"""None above twice the mean: of those wrk puts more into its figures than it measured (`stats_correct`, stats.c)."""
BUSY = 0.9
"""A share of its cores above which a side is taken for what limits the rate."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="per run; whole ones, as wrk wants it")
    parser.add_argument("--rounds", type=int, default=5, help="medians of so many")
    parser.add_argument("--part", choices=PARTS, help="measure this one anew; the other keeps its figures")
    parser.add_argument("--realtime", action="store_true", help="the agreement ahead of all other processes; as root")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args(argv)
    path = shutil.which("wrk")
    if path is None:
        print("wrk is not installed: its part is left out (Debian: apt install wrk)")
    asked.out.mkdir(parents=True, exist_ok=True)
    file = asked.out / "meshload_wrk.json"
    report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if asked.part else {}
    report |= {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    for name in [asked.part] if asked.part else PARTS:
        load_before = os.getloadavg()[0]
        first = asked.realtime and name == "agreement"
        with ahead_of_others(first):
            found = PARTS[name](path, asked.seconds, asked.rounds)
        loads = {"load_before": load_before, "load_after": os.getloadavg()[0]}
        report[name] = {"seconds": asked.seconds, "rounds": asked.rounds, "realtime": first, **loads, **found}
    file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    from bench.meshload_wrk_plot import draw

    draw(report, asked.out / "meshload_wrk.png")
    print(json.dumps(report, indent=1))
    return 0


@contextmanager
def ahead_of_others(wanted: bool) -> Iterator[None]:
    """What is started meanwhile gets a core as soon as it can use one (SCHED_RR). Raises PermissionError.

    For what needs little of it: the rest of the machine waits.
    """
    if not wanted:
        yield
        return
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def throughput(path: str | None, length_s: float, rounds: int) -> dict[str, Any]:
    """Requests/s of both over -t on a no-op server, closed loop, in turns, and the cores that each side kept busy."""
    cores = os.cpu_count() or 1
    threads = max(1, cores // 2)
    rows: list[dict[str, Any]] = []
    with noop_server(threads) as served:
        threads = threads if served.kind.startswith("C") else 1
        for processes in PROCESSES:
            tools: dict[str, list[dict[str, float]]] = {"meshload": [], **({"wrk": []} if path else {})}
            for _ in range(rounds):
                tools["meshload"].append(_meshload(served, processes, length_s))
                if path:
                    tools["wrk"].append(_wrk(path, served, processes, length_s))
            for tool, runs in tools.items():
                row = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
                limit = bottleneck(row["cpu"], processes, row["server_cpu"], threads, cores)
                rows.append({"tool": tool, "processes": processes, **row, "limit": limit})
                print(json.dumps(rows[-1]), flush=True)
    return {"server": served.kind, "callers": CALLERS, "rows": rows}


def _meshload(served: Served, processes: int, length_s: float) -> dict[str, float]:
    before_s = served.cpu_s()
    asked = ("--closed", "-c", CALLERS, "-t", processes, "-d", f"{length_s}s", "--method", "GET")
    run = load(*asked, served.url)
    cpu = sum(run["generator"]["cpus"])
    return _row(run["achieved_rps"], cpu, (served.cpu_s() - before_s) / length_s)


def _wrk(path: str, served: Served, processes: int, length_s: float) -> dict[str, float]:
    before_s = served.cpu_s()
    run = wrk(path, served.url, threads=processes, callers=CALLERS, length_s=length_s)
    return _row(run["rps"], run["cpu"], (served.cpu_s() - before_s) / max(1, round(length_s)))


def _row(rps: float, cpu: float, server_cpu: float) -> dict[str, float]:
    """cpu, server_cpu: cores kept busy."""
    return {"rps": rps, "cpu": cpu, "rps_per_core": rps / cpu, "server_cpu": server_cpu}


def bottleneck(cpu: float, processes: int, server_cpu: float, threads: int, cores: int) -> str:
    """What limits a closed loop, by the cores that either side kept busy."""
    if cpu >= BUSY * processes:
        return "generator"
    if server_cpu >= BUSY * threads:
        return "server"
    return "the machine's cores" if cpu + server_cpu >= BUSY * cores else "other work on the machine"


def agreement(path: str | None, length_s: float, rounds: int) -> dict[str, Any]:
    """What both say of servers of known service time."""
    return {"rows": [_agreement(path, kind, length_s, rounds) for kind in SERVICE_TIMES]}


def _agreement(path: str | None, kind: str, length_s: float, rounds: int) -> dict[str, Any]:
    """Mean and p99 (ms) of both on a server of this service time, in turns; each run meets the same drawn times."""
    runs: dict[str, list[dict[str, float]]] = {"meshload": [], **({"wrk": []} if path else {})}
    for _ in range(rounds):
        with server("http", "--latency", kind) as served:
            asked = ("--closed", "-c", AGREEMENT_CALLERS, "-d", f"{length_s}s", "--method", "GET", served.url)
            runs["meshload"].append(load(*asked)["latency_ms"])
        if path:
            with server("http", "--latency", kind) as served:
                runs["wrk"].append(wrk(path, served.url, threads=1, callers=AGREEMENT_CALLERS, length_s=length_s))
    row: dict[str, Any] = {"kind": kind, "callers": AGREEMENT_CALLERS}
    for tool, found in runs.items():
        row[tool] = {key: statistics.median(run[key] for run in found) for key in ("mean", "p99")}
        row[f"{tool}_runs"] = {key: sorted(run[key] for run in found) for key in ("mean", "p99")}
    if path:
        row["off"] = {key: row["meshload"][key] / row["wrk"][key] - 1 for key in ("mean", "p99")}
    print(json.dumps(row), flush=True)
    return row


PARTS = {"throughput": throughput, "agreement": agreement}


if __name__ == "__main__":
    raise SystemExit(main())
