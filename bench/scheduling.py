"""Orders of service compared on the same arrivals → bench/results/scheduling.json and .png. `make bench-scheduling`.

Five tenants with four sources each, of every deadline from 50 to 500 ms, send to one or two servers on virtual time:
as Poisson processes, in bursts, or as cameras do, frame by frame with jitter. A service takes 10 ms on average, 2 %
of them four times as long; no rule knows beforehand. Then one tenant sends ten times its quota, and the others'
answers are looked at. A run is a pure function of its seed; only what a push and a pop cost is read from a clock.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.scheduling_rules import RULES, ByUrgency, Edf, Fair
from bench.scheduling_traces import KINDS, MEAN_MS, MS, SECOND, Ended, Job, serve, sources, trace

from splitmesh.schedule.fair import FairQueue
from splitmesh.schedule.tenants import Quotas, Tenant

LOADS = (0.5, 0.8, 1.0, 1.5, 2.0)
SERVERS = (1, 2)
CALM_LOAD, QUOTA, FLOOD = 0.4, 1.5, 10.0
"""Of all tenants together; a tenant's quota over what it sends when calm; what one then sends over its quota."""
NOISY = "t0"
ATTACKED = ("FIFO, hopeless ones dropped", "EDF, admission", "fair, EDF, admission", "quotas, fair, EDF, admission")
WAITING = ((1, 64), (5, 64), (1, 1000), (5, 1000), (50, 1000))
"""Tenants, and jobs that wait, where a push is timed."""


def quantile(values: Sequence[float], share: float) -> float | None:
    return round(sorted(values)[int(share * len(values))], 2) if values else None


def figures(ended: Sequence[Ended]) -> dict[str, Any]:
    """hit: answered in time, of all; p50 … of what was answered, also late; the rest as shares of all."""
    answered = [each.took_ms for each in ended if each.how == "answered"]

    def share(count: int) -> float:
        return round(count / len(ended), 4)

    in_time = sum(each.in_time for each in ended)
    return {
        "jobs": len(ended),
        "hit": share(in_time),
        **{f"p{percent}_ms": quantile(answered, percent / 100) for percent in (50, 95, 99)},
        "refused": share(sum(each.how == "refused" for each in ended)),
        "dropped": share(sum(each.how == "dropped" for each in ended)),
        "late": share(len(answered) - in_time),
    }


def compare(kind: str, servers: int, load: float, duration_s: float, seeds: int) -> list[dict[str, Any]]:
    traces = [trace(kind, sources(load, servers), duration_s, seed) for seed in range(seeds)]
    rows = []
    for name, make in RULES.items():
        ended = [each for jobs in traces for each in serve(make(servers), jobs)]
        busy_s = sum(each.job.cost_ns for each in ended) / SECOND
        capacity = servers * duration_s * seeds * len(ended) / busy_s
        goodput = round(sum(each.in_time for each in ended) / capacity, 4)
        what = {"kind": kind, "servers": servers, "load": load, "rule": name}
        rows.append({**what, "goodput": goodput, **figures(ended)})
    return rows


def rule(name: str, jobs: Sequence[Job], duration_s: float) -> ByUrgency | Edf | Fair:
    """A fresh one for one server; quotas: of each tenant by what it sends in `jobs`."""
    if name in RULES:
        return RULES[name](1)
    tenants = sorted({job.source.tenant for job in jobs})
    rates = {tenant: sum(job.source.tenant == tenant for job in jobs) / duration_s for tenant in tenants}
    return Fair(1, Quotas([Tenant(tenant, rate_rps=QUOTA * rates[tenant]) for tenant in tenants]))


def attack(kind: str, duration_s: float, seeds: int) -> list[dict[str, Any]]:
    """The figures of all tenants but one, before and while that one sends ten times its quota."""
    calm = sources(CALM_LOAD, 1)
    flood = [replace(each, rate_hz=QUOTA * FLOOD * each.rate_hz) if each.tenant == NOISY else each for each in calm]
    rows = []
    for name in ATTACKED:
        row: dict[str, Any] = {"kind": kind, "rule": name}
        for when, sent_by in (("calm", calm), ("attacked", flood)):
            ended = []
            for seed in range(seeds):
                before = trace(kind, calm, duration_s, seed)
                ended += serve(rule(name, before, duration_s), trace(kind, sent_by, duration_s, seed))
            row[when] = figures([each for each in ended if each.job.source.tenant != NOISY])
            row[f"{when}_noisy"] = figures([each for each in ended if each.job.source.tenant == NOISY])
        row["p99_ratio"] = round(row["attacked"]["p99_ms"] / row["calm"]["p99_ms"], 3)
        rows.append(row)
    return rows


def cost(tenants: int, waiting: int) -> dict[str, Any]:
    """µs of a push and of a pop in a queue in which `waiting` jobs wait; medians."""
    rng = random.Random(waiting)
    queue: FairQueue[int] = FairQueue(waiting + 1)
    pushes, pops = [], []
    for number in range(waiting + 500):
        times = {"cost_ns": round(MEAN_MS * MS), "now_ns": 0}
        deadline_ns = rng.randint(2 * waiting, 20 * waiting) * round(MEAN_MS * MS)
        begun_ns = time.perf_counter_ns()
        queue.push(f"{number}", number, tenant=f"t{number % tenants}", deadline_ns=deadline_ns, **times)
        pushed_ns = time.perf_counter_ns()
        if number >= waiting:
            item, _ = queue.pop(0)
            pops.append((time.perf_counter_ns() - pushed_ns) / 1e3)
            pushes.append((pushed_ns - begun_ns) / 1e3)
            queue.done(f"{item}")
    what = {"tenants": tenants, "waiting": waiting}
    return {**what, "push_us": round(statistics.median(pushes), 1), "pop_us": round(statistics.median(pops), 1)}


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(KINDS), figsize=(10, 3.8), sharey=True)
    for kind, axis in zip(KINDS, axes, strict=True):
        for name in RULES:
            mine = [row for row in rows if (row["kind"], row["rule"], row["servers"]) == (kind, name, 1)]
            axis.plot([row["load"] for row in mine], [row["goodput"] for row in mine], "o-", label=name, markersize=3)
        axis.set_title(kind)
        axis.set_xlabel("load")
    axes[0].set_ylabel("answered in time ÷ capacity")
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, ncols=3, loc="lower center")
    figure.tight_layout(rect=(0, 0.13, 1, 1))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="of virtual time in each run (default: 20)")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each kind (default: 2)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for kind in KINDS:
        for servers in SERVERS:
            for load in LOADS:
                rows += (made := compare(kind, servers, load, arguments.seconds, arguments.seeds))
                told = ", ".join(f"{row['rule']} {row['goodput']:.3f}" for row in made)
                print(f"{kind}, {servers} servers, load {load}: {told}", flush=True)
    attacks = [row for kind in KINDS for row in attack(kind, 2 * arguments.seconds, 2 * arguments.seeds)]
    for row in attacks:
        told = ", ".join(f"p99 {row[when]['p99_ms']} ms, hit {row[when]['hit']}" for when in ("calm", "attacked"))
        print(f"{row['kind']}, {row['rule']}: {told}", flush=True)
    costs = [cost(*size) for size in WAITING]
    report = {
        "seconds": arguments.seconds,
        "seeds": arguments.seeds,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "rows": rows,
        "attack": attacks,
        "cost": costs,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "scheduling.json").write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    draw(rows, arguments.out / "scheduling.png")


if __name__ == "__main__":
    main()
