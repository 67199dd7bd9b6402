"""What tracing costs: throughput of an edge, and of edge and worker, with tracing off, at 10 % and at 100 %.

`make bench-telemetry`. Throughput is frames per second of processor time of all that works for a frame (edge, or
edge, broker and worker), on one core, from the moment that they are ready to their end, the last flush included: it
moves less with what else the machine does than frames per second of a clock. The collector, a process that takes OTLP
over HTTP and reads every span, has another core and is not counted. The shares take turns within a round, each is
compared with the untraced run of its round, and each says how many traces per frame the collector got.
Writes bench/results/telemetry.json and telemetry.png.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import resource
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import psutil
from bench.otlp_sink import Sink
from matplotlib.figure import Figure
from scipy.stats import binom

from splitmesh.bus.server import EmbeddedServer
from splitmesh.frames.record import FrameRecord
from splitmesh.lab.artifacts import versions
from splitmesh.lab.child import Child
from splitmesh.lab.commands import clean_environment, command_line
from splitmesh.lab.display import Display
from splitmesh.lab.records import read_records
from splitmesh.lab.stages import gather
from splitmesh.settings.model import LabSettings

RESULTS = Path(__file__).resolve().parent / "results"
SHARES = (0.0, 0.1, 1.0)
TARGETS = {"0.1": 0.02, "1": 0.08}
READY_S = 60.0
RUN_S = 180.0
POLICIES = {"whole model on the edge": "local-only", "cut, tail on a worker": "only:split"}


@dataclass(frozen=True, slots=True)
class Scene:
    """What all runs have in common. fps: of the source, which is played as fast as frames are done."""

    plan: Path
    source: str
    fps: float
    frames: int
    cores: tuple[int, int]


async def run_once(scene: Scene, policy: str, share: float, folder: Path) -> dict[str, float]:
    """Frames per second of processor time, traces at the collector per frame. Raises RuntimeError, ChildError."""
    work, rest = scene.cores
    beside: list[int | None] = []
    with Sink(core=rest) as sink:
        shared = {"plan": scene.plan, "cpu": (work,), "trace_ratio": share}
        shared |= {"otlp_endpoint": sink.url} if share else {}
        async with contextlib.AsyncExitStack() as closing:
            if policy != "local-only":
                server = EmbeddedServer(store=folder / "broker")
                await server.start()
                closing.push_async_callback(server.stop)
                beside.append(server.pid)
                psutil.Process(server.pid).cpu_affinity([work])
                shared["nats_url"] = server.url
                worker = await _started("cloud", folder, {**shared, "web_port": None})
                closing.push_async_callback(worker.stop)
                beside.append(worker.pid)
            values = {
                **shared,
                "policy": policy,
                "source": scene.source,
                "pace": False,
                "loop": True,
                "duration_s": scene.frames / scene.fps,
                "deadline_ms": 10_000,
                "results": folder / "results.jsonl",
                "web_port": None,
            }
            edge = await _started("edge", folder, values)
            closing.push_async_callback(edge.stop)
            before_s = sum(map(_spent_s, [*beside, edge.pid])) + _children_spent_s()
            async with asyncio.timeout(RUN_S):
                status = await edge.wait()
            spent_s = sum(map(_spent_s, beside)) + _children_spent_s() - before_s
        frames = _frames_of(folder / "results.jsonl", status, edge)
        return {"fps": len(frames) / spent_s, "traces_per_frame": round(sink.traces() / len(frames), 4)}


def _spent_s(pid: int | None) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _children_spent_s() -> float:
    """Processor time of children that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


async def _started(section: str, folder: Path, values: dict[str, Any]) -> Child:
    ready = folder / f"{section}.ready.json"
    command = command_line(section, {**values, "ready_json": ready})
    child = Child(section, command, log_path=folder / f"{section}.log", ready_file=ready)
    await child.start(environment=clean_environment(os.environ))
    await child.wait_ready(READY_S)
    return child


def _frames_of(results: Path, status: int, edge: Child) -> Sequence[FrameRecord]:
    """The run's frames. Raises RuntimeError if it failed or if one was not answered by the model."""
    run = read_records(results)
    if status or not run.conserved or not run.records:
        raise RuntimeError(f"the edge ended with {status}: {run.faults()}\n{edge.log_tail()}")
    if sum(record.outcome.inferred for record in run.records) < 0.95 * len(run.records):
        raise RuntimeError(f"too few frames were answered by the model: {run.counts()}")
    return run.records


def measure(scene: Scene, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """By policy one row per round: share, as text, to what `run_once` found."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in POLICIES}
    order = random.Random(1)
    for round_ in range(rounds):
        for name, policy in POLICIES.items():
            row: dict[str, Any] = {}
            for share in order.sample(SHARES, len(SHARES)):
                with tempfile.TemporaryDirectory(prefix="bench-telemetry-") as folder:
                    row[f"{share:g}"] = asyncio.run(run_once(scene, policy, share, Path(folder)))
            rows[name].append(row)
            told = ", ".join(f"{share:.0%} {row[f'{share:g}']['fps']:.2f}" for share in SHARES)
            print(f"{round_ + 1}/{rounds} {name}, frames per processor second: {told}", flush=True)
    return rows


def costs(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """By traced share: the throughput lost against the untraced run of the same round, median and 95 % interval.

    The interval is the sign test's: order statistics of the rounds' ratios (Conover, Practical Nonparametric
    Statistics, 3.2); with fewer than six rounds it is their whole range.
    """
    found = {}
    for share in SHARES[1:]:
        lost = sorted(1 - row[f"{share:g}"]["fps"] / row["0"]["fps"] for row in rows)
        skip = int(binom.ppf(0.025, len(lost), 0.5)) - 1 if len(lost) >= 6 else 0
        skip = max(0, skip)
        found[f"{share:g}"] = {
            "lost": round(statistics.median(lost), 4),
            "low": round(lost[skip], 4),
            "high": round(lost[-1 - skip], 4),
        }
    return found


def plot(report: dict[str, Any], path: Path) -> None:
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    axes = figure.subplots()
    places: list[int] = []
    labels: list[str] = []
    for name, by_share in report["cost"].items():
        for share, cost in by_share.items():
            places.append(len(places))
            labels.append(f"{name}\n{float(share):.0%} traced")
            axes.plot([100 * cost["low"], 100 * cost["high"]], [places[-1]] * 2, color="tab:blue", lw=2)
            axes.plot(100 * cost["lost"], places[-1], "o", color="tab:blue")
            axes.plot(100 * TARGETS[share], places[-1], "|", color="tab:red", ms=16)
    axes.axvline(0, color="grey", lw=0.8)
    axes.set_yticks(places, labels, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("throughput lost, % (median and 95 % interval; red: target)")
    figure.savefig(path, dpi=120)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8, help="of three runs each per policy (default: 8)")
    parser.add_argument("--frames", type=int, default=300, help="frames per run (default: 300)")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        print("two cores are needed: one to be measured, one for the collector", file=sys.stderr)
        return 1
    ingredients = gather(LabSettings(), Display(stream=sys.stderr))
    with av.open(ingredients.source) as container:
        fps = float(container.streams.video[0].average_rate or 25)
    cores = (available[0], available[1])
    scene = Scene(ingredients.bundle.folder, ingredients.source, fps, arguments.frames, cores)
    rows = measure(scene, arguments.rounds)
    report = {
        "cost": {name: costs(rows[name]) for name in POLICIES},
        "targets": TARGETS,
        "rounds": rows,
        "frames": arguments.frames,
        "model": ingredients.model.manifest.name,
        "source": ingredients.shown_source,
        "versions": versions(),
    }
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "telemetry.json").write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    plot(report, arguments.results / "telemetry.png")
    for name, by_share in report["cost"].items():
        for share, cost in by_share.items():
            interval = f"{cost['low']:.1%} to {cost['high']:.1%}"
            print(f"{name}, {float(share):.0%} traced: {cost['lost']:.1%} lost ({interval})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
