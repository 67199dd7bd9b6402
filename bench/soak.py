"""A loaded mesh that runs long, with restarts: does anything grow, is a frame lost? → bench/results/soak.json, .png.

Usage: python -m bench.soak [--minutes 30] [--edges 3] [--load 0.7] [--restart-every 5]

Edges send every frame as a picture, so many a second that the worker computes for `--load` of the time, as calibrated
at the start. Every few minutes a worker is replaced: a new one starts, then the old one gets SIGTERM. Every 5 s each
process's resident memory, threads, file descriptors and asyncio tasks are sampled. Exit status 1 if one of them grows
(bench/soak_trend.py), a process fails, or a frame is unaccounted for.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from bench.chaos.repeat import plan_for
from bench.chaos.verdict import faults_of_log, ledger_of
from bench.soak_report import conclude

from splitmesh.bus.server import EmbeddedServer
from splitmesh.lab.child import Child
from splitmesh.lab.commands import clean_environment, command_line
from splitmesh.lab.records import read_records
from splitmesh.media.clip import write_test_clip
from splitmesh.plan.bundle.read import Bundle

ROOT = Path(__file__).resolve().parent.parent
EVERY_S = 5.0
READY_S = 90.0
CALIBRATE_S, CALIBRATE_FPS = 10.0, 5
CLIP_FPS = 30
Series = dict[str, list[dict[str, float]]]
"""Process → samples: `at_s` since the start, `rss_bytes`, `threads`, `fds`, `tasks`."""


class Soak:
    """A broker, edges, and one worker after another."""

    def __init__(self, out: Path, clip: Path, bundle: Bundle) -> None:
        self._out, self._clip, self._bundle = out, clip, bundle
        self._broker = EmbeddedServer(store=out / "broker")
        self._edges: dict[str, Child] = {}
        self._worker: Child | None = None
        self._everybody: list[Child] = []
        self._began_s = time.monotonic()
        self.series: Series = {}
        self.busy: list[float] = []
        """Share of its time that each worker computed, one by one."""
        self.faults: list[str] = []
        self.counts: dict[str, int] = {}

    async def run(self, *, minutes: float, edges: int, load: float, restart_every: float) -> float:
        """The frames a second that all edges sent together."""
        try:
            await self._broker.start()
            self._worker = await self._start("worker-1", "cloud", {})
            fps = load / await self._service_s()
            self._began_s = time.monotonic()
            for number in range(1, edges + 1):
                self._edges[f"edge-{number}"] = await self._start_edge(f"edge-{number}", fps / edges)
            sampling = asyncio.create_task(self._sample_for_ever())
            try:
                await self._restart_until(self._began_s + 60 * minutes, 60 * restart_every)
            finally:
                sampling.cancel()
                await asyncio.gather(sampling, return_exceptions=True)
            await self._drain()
            return fps
        finally:
            for child in self._everybody:
                await child.stop(grace_s=0.0, first=signal.SIGKILL)
            await self._broker.stop()

    # processes

    async def _start(self, name: str, section: str, settings: dict[str, Any]) -> Child:
        ready, log = self._out / f"{name}.ready.json", self._out / f"{name}.log"
        shared = {"plan": self._bundle.folder, "providers": ("cpu",), "web_port": 0, "nats_url": self._broker.url}
        command = command_line(section, {**shared, "name": name, "ready_json": ready, **settings})
        child = Child(name, command, log_path=log, ready_file=ready)
        self._everybody.append(child)
        await child.start(environment=clean_environment(os.environ))
        await child.wait_ready(READY_S)
        return child

    async def _start_edge(self, name: str, fps: float) -> Child:
        settings = {
            "source": str(self._clip),
            "loop": True,
            "max_fps": round(fps, 3),
            "deadline_ms": 500,
            "policy": "cloud-only",
            "hwaccel": "none",
            "results": self._out / f"{name}.jsonl",
        }
        return await self._start(name, "edge", settings)

    async def _service_s(self) -> float:
        """What one frame takes of the worker, by its own measurement, with a single edge."""
        edge = await self._start_edge("calibration", CALIBRATE_FPS)
        await asyncio.sleep(CALIBRATE_S)
        count, seconds = await self._computed(self._worker)
        await self._end(edge)
        if count < CALIBRATE_FPS:
            raise SystemExit(f"the worker answered {count:.0f} frames in {CALIBRATE_S:g} s: {edge.log_tail()}")
        return seconds / count

    async def _restart_until(self, until_s: float, every_s: float) -> None:
        """Replace the worker every `every_s`, so that no life is shorter than that."""
        number = 1
        born_s = time.monotonic()
        while (left_s := until_s - time.monotonic()) > 0:
            await asyncio.sleep(min(left_s, every_s))
            await self._note_busy(born_s)
            if until_s - time.monotonic() < every_s / 2:
                continue
            number += 1
            leaving, self._worker = self._worker, await self._start(f"worker-{number}", "cloud", {})
            born_s = time.monotonic()
            await self._end(leaving)

    async def _end(self, child: Child | None) -> None:
        assert child is not None  # noqa: S101 - started
        child.send(signal.SIGTERM)
        status = await asyncio.wait_for(child.wait(), READY_S)
        if status:
            self.faults.append(f"{child.name} ended with {child.ending()}: {child.log_tail(3)}")

    async def _drain(self) -> None:
        for name, edge in self._edges.items():
            await self._end(edge)
            told = ledger_of(edge.log_path.read_text(errors="replace"))
            if told is None:
                self.faults.append(f"{name} did not say what it counted")
                continue
            captured, in_flight = told["captured"], told.pop("in_flight")
            run = read_records(self._out / f"{name}.jsonl", expected=captured, exact=True)
            if in_flight or told != run.counts() or not run.conserved:
                self.faults.append(f"{name} counts {told} and {in_flight} in flight, its lines {run.counts()}")
            self.counts = {key: self.counts.get(key, 0) + value for key, value in told.items()}
        await self._end(self._worker)
        for child in self._everybody:
            log = child.log_path.read_text(errors="replace")
            self.faults += [f"{child.name}: {line}" for line in faults_of_log(log)]

    # samples

    async def _sample_for_ever(self) -> None:
        while True:
            at_s = time.monotonic() - self._began_s
            self._sample("broker", self._broker.pid, at_s, None)
            for name, child in [*self._edges.items(), *([(self._worker.name, self._worker)] if self._worker else [])]:
                tasks = await gauge(child, "splitmesh_process_tasks")
                self._sample(name, child.pid, at_s, tasks)
            await asyncio.sleep(EVERY_S)

    def _sample(self, name: str, pid: int | None, at_s: float, tasks: float | None) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            row = {
                "at_s": round(at_s, 1),
                "rss_bytes": process.memory_info().rss,
                "threads": process.num_threads(),
                "fds": process.num_fds(),
            }
            self.series.setdefault(name, []).append(row | ({} if tasks is None else {"tasks": tasks}))

    async def _note_busy(self, born_s: float) -> None:
        _, seconds = await self._computed(self._worker)
        self.busy.append(round(seconds / (time.monotonic() - born_s), 3))

    async def _computed(self, worker: Child | None) -> tuple[float, float]:
        """(frames answered, seconds of decoding and model time) of that worker's life."""
        assert worker is not None  # noqa: S101 - started
        page = await metrics_page(worker)
        seconds = total(page, "splitmesh_decode_seconds_sum") + total(page, "splitmesh_service_seconds_sum")
        return total(page, "splitmesh_decode_seconds_count"), seconds


async def metrics_page(child: Child) -> str:
    """Its /metrics; "" if it does not answer any more."""
    facts = child.ready_facts or {}
    try:
        async with asyncio.timeout(EVERY_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", facts["web_port"])
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            raw = await reader.read()
            writer.close()
            await writer.wait_closed()
    except (OSError, TimeoutError):
        return ""
    return raw.decode()


async def gauge(child: Child, name: str) -> float | None:
    found = re.search(rf"^{name} (\S+)", await metrics_page(child), re.MULTILINE)
    return float(found[1]) if found else None


def total(page: str, name: str) -> float:
    """The sum of `name` over its labels."""
    return sum(map(float, re.findall(rf"^{name}(?:{{.*}})? (\S+)", page, re.MULTILINE)))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30, help="length (default %(default)s)")
    parser.add_argument("--edges", type=int, default=3, help="edges that share the load (default %(default)s)")
    parser.add_argument("--load", type=float, default=0.7, help="of the worker's time (default %(default)s)")
    parser.add_argument("--restart-every", type=float, default=5, help="minutes of a worker (default %(default)s)")
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "soak", help="logs and lines")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results", help="folder of the report")
    given = parser.parse_args(arguments)
    logging.getLogger("splitmesh").setLevel(logging.CRITICAL)
    shutil.rmtree(given.work, ignore_errors=True)
    given.work.mkdir(parents=True)
    clip = write_test_clip(given.work / "shapes.mp4", fps=CLIP_FPS, frames=2 * CLIP_FPS)
    soak = Soak(given.work, clip, plan_for(clip))
    every = min(given.restart_every, given.minutes / 2)
    fps = asyncio.run(soak.run(minutes=given.minutes, edges=given.edges, load=given.load, restart_every=every))
    facts = {
        "minutes": given.minutes,
        "edges": given.edges,
        "load": given.load,
        "restart_every_min": every,
        "fps": round(fps, 2),
        "busy": soak.busy,
        "counts": soak.counts,
        "python": sys.version.split()[0],
    }
    report = conclude(facts, soak.series, soak.faults, given.out)
    print(json.dumps({key: value for key, value in report.items() if key not in ("series", "trends")}, indent=1))
    return 1 if report["faults"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
