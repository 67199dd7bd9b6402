"""Requests per second and latency of a worker over NATS, against the same work in a bare loop, and against peers.

`make bench-serving`. Every system decodes, normalises, runs onnxruntime on one thread that does not spin and
post-processes, two requests at a time on the same cores; load generator and broker share these cores with it, the
bare loop (two processes) has them to itself. Bare loop and systems take turns, each system between bare runs of its
own. Closed loops of 1, 8, 32 and 256 requests at once; an open loop with Poisson arrivals at 60 % of the system's own
peak. Processor time per request (`cpu_ms`) hardly depends on what else the machine does. `splitmesh` is one worker
process with two slots, `splitmesh-2` two worker processes of one slot. The mesh is also sent twice its peak, each
request worth nothing after 150 ms: once the worker is told so and admits what can make it, once it is not and serves
in order of arrival (FIFO). Writes bench/results/serving.{json,png}.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Any, cast

from bench.serving_bodies import cut_bodies, whole_bodies
from bench.serving_load import write_bodies
from bench.serving_report import DEADLINE_MS, condense, draw
from bench.serving_systems import (
    PEERS,
    PROCESSES,
    NoAnswer,
    NotInstalled,
    Server,
    environment,
    mesh_server,
    peer_server,
)

from splitmesh.lab.artifacts import versions
from splitmesh.lab.display import Display
from splitmesh.lab.stages import gather
from splitmesh.plan.bundle.read import Bundle
from splitmesh.settings.model import LabSettings

RESULTS = Path(__file__).resolve().parent / "results"
CUT, LEVEL = "n60-96x19x19", 78
MESH = {"splitmesh": (1, 2), "splitmesh-2": (2, 1)}
"""Worker processes, and threads that each is given."""
CLIENTS = (1, 8, 32, 256)
OPEN_SHARE = 0.6
OVERLOAD = 2.0
WARM_S = 1.0


class Partner:
    """A process that takes one order per line and answers with one."""

    def __init__(self, *command: str, env: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )
        self._in, self._out = cast(IO[str], self._process.stdin), cast(IO[str], self._process.stdout)

    def tell(self, order: dict[str, Any]) -> None:
        self._in.write(json.dumps(order) + "\n")
        self._in.flush()

    def line(self) -> str:
        """Raises RuntimeError if the process has ended."""
        line = self._out.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended with {self._process.wait()}")
        return line

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class Bench:
    """One kind of work: its bodies, its bare loops, its load generator."""

    def __init__(self, bundle: Bundle, source: str, cut: str, folder: Path, seconds: float) -> None:
        self.bundle, self.cut, self.folder, self.seconds = bundle, cut, folder, seconds
        payloads, plain = cut_bodies(bundle, source, cut, LEVEL) if cut else whole_bodies(bundle, source)
        folder.mkdir(parents=True)
        for name, bodies in (("mesh", payloads), ("plain", plain)):
            write_bodies(folder / name, bodies)
        self._first = {"mesh": payloads[0], "plain": plain[0]}
        self.env = {"BENCH_PLAN": str(bundle.folder), "BENCH_CUT": cut}
        self._load = Partner("bench.serving_load")
        self._bare = [Partner("bench.serving_bare", str(folder / "plain"), env=self.env) for _ in range(PROCESSES)]
        for each in self._bare:
            each.line()

    def close(self) -> None:
        for each in (self._load, *self._bare):
            each.close()

    def bare(self, processes: int) -> dict[str, Any]:
        """The loop in so many processes at once."""
        used = self._bare[:processes]
        for each in used:
            each.tell({"warm_s": WARM_S / 2, "seconds": self.seconds})
        reports = [json.loads(each.line()) for each in used]
        return {
            "rps": sum(report["rps"] for report in reports),
            "p50_ms": statistics.median(ms for report in reports for ms in report["latency_ms"]),
            "cpu_ms": statistics.fmean(report["cpu_ms"] for report in reports),
        }

    @contextlib.asynccontextmanager
    async def server(self, system: str, environments: Path) -> AsyncIterator[Server]:
        store = Path(tempfile.mkdtemp(dir=self.folder))
        (store / "first").write_bytes(self._first["mesh" if system in MESH else "plain"])
        if system in MESH:
            workers, threads = MESH[system]
            async with mesh_server(self.bundle, self.cut, {}, store, workers=workers, threads=threads) as server:
                yield server
        else:
            async with peer_server(system, environment(system, environments), self.env, store) as server:
                yield server

    def load(self, server: Server, **order: Any) -> dict[str, Any]:
        """One run of the generator, with the processor time of the server per request."""
        bodies = self.folder / ("mesh" if server.caller["kind"] == "mesh" else "plain")
        cpu_s, broker_s = server.cpu_s(), server.broker_cpu_s()
        self._load.tell({"caller": server.caller, "bodies": str(bodies), "warm_s": WARM_S, **order})
        report: dict[str, Any] = json.loads(self._load.line())
        served = max(1, report["served"])
        report["cpu_ms"] = (server.cpu_s() - cpu_s) * 1e3 / served
        report["broker_cpu_ms"] = (server.broker_cpu_s() - broker_s) * 1e3 / served
        report["load_cpu_ms"] = report.pop("load_cpu_s") * 1e3 / served
        return report


async def visit(bench: Bench, system: str, environments: Path, seed: int, clients: list[int]) -> dict[str, Any]:
    """One round of one system: the bare loop before and after, closed loops, the open loop."""
    async with bench.server(system, environments) as server:
        for count in (1, 8):
            bench.load(server, clients=count, seconds=WARM_S)
        alone = bench.bare(1)
        row: dict[str, Any] = {"alone": alone, "before": bench.bare(PROCESSES), "closed": {}}
        for count in clients:
            row["closed"][str(count)] = bench.load(server, clients=count, seconds=bench.seconds)
        row["after"] = bench.bare(PROCESSES)
        peak = max(run["rps"] for run in row["closed"].values())
        row["open"] = bench.load(server, rate=OPEN_SHARE * peak, seconds=2 * bench.seconds, seed=seed)
        if system in MESH:
            flood = {"rate": OVERLOAD * peak, "seconds": bench.seconds, "seed": seed}
            row["flood"] = bench.load(server, **flood, budget_us=DEADLINE_MS * 1000)
            row["flood_fifo"] = bench.load(server, **flood)
    return row


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", default="splitmesh", help=f"of {', '.join(MESH)}; default: splitmesh")
    parser.add_argument("--peers", default="", help=f"of {', '.join(PEERS)}; default: none")
    parser.add_argument("--environments", type=Path, default=Path.home() / ".cache" / "splitmesh" / "bench-peers")
    parser.add_argument("--rounds", type=int, default=3, help="over all systems (default: 3)")
    parser.add_argument("--seconds", type=float, default=6.0, help="per closed loop (default: 6)")
    parser.add_argument("--clients", default=",".join(map(str, CLIENTS)), help="requests at once, of closed loops")
    parser.add_argument("--work", default="whole,cut", help="whole: from a JPEG; cut: from compact features")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


async def main() -> int:
    arguments = parsed()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers end with us
    systems = [name for name in f"{arguments.systems},{arguments.peers}".split(",") if name]
    for peer in [name for name in systems if name not in MESH]:
        try:
            environment(peer, arguments.environments)
        except NotInstalled as exc:
            systems.remove(peer)
            print(f"{peer} is left out, it can't be installed here: {exc}", flush=True)
    ingredients = gather(LabSettings(threads=1), Display(stream=sys.stderr))
    rows: dict[str, dict[str, list[dict[str, Any]]]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as folder, contextlib.ExitStack() as stack:
        for work in arguments.work.split(","):
            cut = CUT if work == "cut" else ""
            bench = Bench(ingredients.bundle, ingredients.source, cut, Path(folder) / work, arguments.seconds)
            stack.callback(bench.close)
            rows[work] = {}
            clients = [int(each) for each in arguments.clients.split(",")]
            for round_ in range(arguments.rounds):
                for system in list(systems):
                    try:
                        row = await visit(bench, system, arguments.environments, round_, clients)
                    except NoAnswer as exc:
                        if system in MESH:
                            raise
                        systems.remove(system)
                        print(f"{system} is left out: {exc}", flush=True)
                        continue
                    rows[work].setdefault(system, []).append(row)
                    told = " ".join(f"c{c} {run['rps']:.1f}" for c, run in row["closed"].items())
                    bare = (row["before"]["rps"] + row["after"]["rps"]) / 2
                    print(
                        f"{work} {round_ + 1}/{arguments.rounds} {system}: bare {bare:.1f} req/s, {told}", flush=True
                    )
    report = condense(rows) | {
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "cut": CUT,
        "model": ingredients.model.manifest.name,
        "source": ingredients.shown_source,
        "cores": len(os.sched_getaffinity(0)),
        "versions": versions(),
        "peers": {peer: list(PEERS[peer]) for peer in systems if peer in PEERS},
    }
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "serving.json").write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    draw(report, arguments.results / "serving.png")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
