"""One tenant at ten times its quota on a real worker, and what the others notice.

`make bench-tenants` writes bench/results/serving_tenants.json. One worker process with two slots on a broker of its
own serves five tenants over NATS, real frames as JPEG, each request worth nothing after 150 ms. The four others send
together a third of what it can serve, which is measured first, as Poisson processes with the same moments under both
loads. By turns the fifth sends what its quota allows, and ten times as much. Others' latencies of all rounds are
pooled; the interval is a bootstrap over rounds. Load generators and broker share the cores with the worker, so that
what it costs to be flooded at all is in the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.serving import RESULTS, Partner
from bench.serving_bodies import whole_bodies
from bench.serving_load import write_bodies
from bench.serving_report import DEADLINE_MS, percentile
from bench.serving_systems import Server, mesh_server

from splitmesh.lab.artifacts import versions
from splitmesh.lab.display import Display
from splitmesh.lab.stages import gather
from splitmesh.settings.model import LabSettings

NOISY = "noisy"
OTHERS = ("t1", "t2", "t3", "t4")
OTHERS_LOAD, QUOTA_LOAD, FLOOD = 0.33, 0.1, 10.0
"""Of what the worker can serve: what the others send together, and the noisy one's quota; what that one then sends
over its quota."""
WARM_S = 1.0
_DRAWS = 400


def order(server: Server, bodies: Path, tenant: str, rate: float, seconds: float, seed: int) -> dict[str, Any]:
    """Requests of one tenant to the worker."""
    subjects = [subject.replace(f".{NOISY}.", f".{tenant}.") for subject in server.caller["subjects"]]
    caller = {**server.caller, "subjects": subjects}
    times = {"rate": rate, "seconds": seconds, "warm_s": WARM_S, "seed": seed, "budget_us": DEADLINE_MS * 1000}
    return {"caller": caller, "bodies": str(bodies), **times}


class Bench:
    """The worker under both loads, each made by a process of its own."""

    def __init__(self, server: Server, bodies: Path, capacity: float, seconds: float) -> None:
        self._server, self._bodies, self._seconds = server, bodies, seconds
        self.quota_rps = QUOTA_LOAD * capacity
        self._other_rps = OTHERS_LOAD * capacity / len(OTHERS)
        self._quiet, self._noise = Partner("bench.serving_load"), Partner("bench.serving_load")

    def close(self) -> None:
        self._quiet.close()
        self._noise.close()

    def run(self, noisy_rps: float, seed: int) -> dict[str, Any]:
        """The others' latencies and refusals while the noisy one sends `noisy_rps`, and how that one's ended."""
        cpu_s = self._server.cpu_s()
        self._noise.tell(order(self._server, self._bodies, NOISY, noisy_rps, self._seconds, seed))
        each = [
            order(self._server, self._bodies, tenant, self._other_rps, self._seconds, seed * 31 + number)
            for number, tenant in enumerate(OTHERS)
        ]
        self._quiet.tell({"together": each})
        runs = json.loads(self._quiet.line())["together"]
        noise = json.loads(self._noise.line())
        return {
            "latency_ms": [ms for run in runs for ms in run["latency_ms"]],
            "ends": _added(run["ends"] for run in runs),
            "noisy_ends": noise["ends"],
            "worker_cpu": (self._server.cpu_s() - cpu_s) / (WARM_S + self._seconds),
        }


def _added(ends: Any) -> dict[str, int]:
    total: dict[str, int] = {}
    for each in ends:
        for end, count in each.items():
            total[end] = total.get(end, 0) + count
    return total


def figures(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of all rounds of one kind: the others' latencies, how their requests ended, and the noisy one's."""
    pooled = [ms for run in runs for ms in run["latency_ms"]]
    return {
        "requests": sum(sum(run["ends"].values()) for run in runs),
        **{f"p{each}_ms": round(percentile(pooled, each / 100), 1) for each in (50, 95, 99)},
        "late": sum(ms > DEADLINE_MS for ms in pooled),
        "ends": _added(run["ends"] for run in runs),
        "noisy_ends": _added(run["noisy_ends"] for run in runs),
        "worker_cpu": round(statistics.fmean(run["worker_cpu"] for run in runs), 3),
    }


def rises(calm: Sequence[dict[str, Any]], flooded: Sequence[dict[str, Any]], share: float) -> dict[str, float]:
    """The quantile's rise by the flood, pooled, and the middle nine tenths of what other rounds might have shown."""
    luck = random.Random(1)

    def rise(rounds: Sequence[int]) -> float:
        before, after = ([ms for each in rounds for ms in runs[each]["latency_ms"]] for runs in (calm, flooded))
        return percentile(after, share) / percentile(before, share) - 1

    drawn = sorted(rise(luck.choices(range(len(calm)), k=len(calm))) for _ in range(_DRAWS))
    low, high = drawn[int(0.05 * _DRAWS)], drawn[int(0.95 * _DRAWS)]
    return {"rise": round(rise(range(len(calm))), 4), "low": round(low, 4), "high": round(high, 4)}


def peak_rps(server: Server, bodies: Path) -> float:
    """Answers per second with eight requests at a time."""
    load = Partner("bench.serving_load")
    try:
        load.tell({"caller": server.caller, "bodies": str(bodies), "clients": 8, "warm_s": WARM_S, "seconds": 4.0})
        return float(json.loads(load.line())["rps"])
    finally:
        load.close()


async def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    ingredients = gather(LabSettings(threads=1), Display(stream=sys.stderr))
    with tempfile.TemporaryDirectory(prefix="bench-tenants-") as name:
        folder = Path(name)
        payloads, _ = whole_bodies(ingredients.bundle, ingredients.source)
        write_bodies(folder / "bodies", payloads)
        (folder / "store").mkdir()
        (folder / "store" / "first").write_bytes(payloads[0])
        one = partial(mesh_server, ingredients.bundle, "", {}, folder / "store", workers=1, threads=2, tenant=NOISY)
        capacity = arguments.capacity
        if not capacity:
            async with one(more=("--tenants", NOISY)) as server:
                capacity = peak_rps(server, folder / "bodies")
        quota = f"{NOISY}:rate={QUOTA_LOAD * capacity:g},share={arguments.share:g}"
        more = ("--tenants", ",".join((quota, *OTHERS)))
        kinds: dict[str, list[dict[str, Any]]] = {"at_quota": [], "flooded": []}
        async with one(more=more) as server:
            bench = Bench(server, folder / "bodies", capacity, arguments.seconds)
            try:
                for number in range(arguments.rounds):
                    for kind, factor in (("at_quota", 1.0), ("flooded", FLOOD)):
                        kinds[kind].append(run := bench.run(factor * bench.quota_rps, number))
                        p99_ms = percentile(run["latency_ms"], 0.99)
                        told = f"others' p99 {p99_ms:.0f} ms, {run['ends']}, noisy {run['noisy_ends']}"
                        print(f"{number + 1}/{arguments.rounds} {kind}: {told}", flush=True)
            finally:
                bench.close()
    return {
        **{kind: figures(runs) for kind, runs in kinds.items()},
        "p99": rises(kinds["at_quota"], kinds["flooded"], 0.99),
        "p95": rises(kinds["at_quota"], kinds["flooded"], 0.95),
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "capacity_rps": round(capacity, 1),
        "quota": quota,
        "cores": len(os.sched_getaffinity(0)),
        "versions": versions(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="of both loads (default: 10)")
    parser.add_argument("--seconds", type=float, default=15.0, help="per load and round (default: 15)")
    parser.add_argument(
        "--capacity", type=float, default=0.0, help="requests per second that the worker can serve; 0: measured"
    )
    parser.add_argument("--share", type=float, default=0.5, help="of the compute, for the noisy one (default: 0.5)")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the worker ends with us
    report = asyncio.run(compare(arguments))
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "serving_tenants.json").write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    print(json.dumps({kind: report[kind] for kind in ("at_quota", "flooded", "p95", "p99")}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
