"""Owns a mesh of real processes that faults can strike: a broker, workers, one edge, and the way between them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.chaos.disk import SmallDisk
from bench.chaos.relay import Relay
from bench.chaos.spy import Spy
from bench.chaos.verdict import Seen, faults_of_log, ledger_of, missing, recovered_at, twice
from bench.chaos.wall_clock import WallClock

from splitmesh.bus.server import EmbeddedServer
from splitmesh.frames.record import FrameRecord
from splitmesh.lab.child import Child
from splitmesh.lab.commands import clean_environment, command_line
from splitmesh.plan.bundle.read import Bundle

POLL_S = 0.05
READY_S = 90.0
FPS, DEADLINE_MS = 10, 500
_CLOCK_TOLERANCE_S = 120.0
_LOST = re.compile(r"lacks (\d+) of \d+ lines")
_LIAR = Path(__file__).with_name("liar.py")


@dataclass(frozen=True, slots=True)
class Setup:
    """What a mesh is made of. Without a disk or a clock of its own, the faults that need one can't strike."""

    clip: Path
    bundle: Bundle
    out: Path
    workers: int = 1
    edge_disk: SmallDisk | None = None
    worker_disk: SmallDisk | None = None
    clock: WallClock | None = None
    policy: str = ""
    """"": `pooled_splits`."""

    @property
    def pooled_splits(self) -> str:
        """The adaptive policy among splits at the cut that is the quickest to resume, by a codec without state: every
        request goes to the pool anew, and the breaker decides when the cloud may be used.
        """
        single = {cut.name for cut in self.bundle.cuts if len(cut.tensors) == 1}
        points = [p for p in self.bundle.points if p.cut in single and not p.key_bytes]
        quickest = min(points, key=lambda p: (p.resume_ms, p.payload_bytes))
        return f"only:{quickest.name.rpartition('-')[0]}"


@dataclass(slots=True)
class ResultTail:
    """Reads results.jsonl as it grows. Lines that are no record are counted."""

    path: Path
    frames: list[Seen] = field(default_factory=list)
    malformed: int = 0
    run_ns: int = 0
    _offset: int = 0

    def read(self) -> list[Seen]:
        """All frames so far, in the order of their lines."""
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._offset)
                whole, newline, _ = file.read().rpartition(b"\n")
            self._offset += len(whole) + len(newline)
            for line in whole.splitlines():
                try:
                    record = FrameRecord.from_json_line(line.decode())
                except (ValueError, KeyError, TypeError):
                    self.malformed += bool(line)
                    continue
                self.frames.append(Seen(record, self.run_ns + record.captured_ns))
        return self.frames


class Mesh:
    """`start`, strike, `finish`; `close` in any case."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.out = setup.out
        self.broker = EmbeddedServer(store=self.out / "broker")
        self.spy = Spy()
        self.relay: Relay | None = None
        self.workers: dict[str, Child] = {}
        self.edge: Child | None = None
        self.tail = ResultTail(self._folder("edge", setup.edge_disk) / "results.jsonl")
        self.faults: list[str] = []
        self._lives = 0
        self._logs: list[Path] = []

    # life

    async def start(self) -> None:
        """Until frames flow by way of a worker. Raises ChildError, ServerError, TimeoutError."""
        await self.broker.start()
        self.relay = Relay(self.broker.port)
        await self.relay.start()
        await self.spy.start(self.broker.url)
        names = [f"w-{number}" for number in range(1, self.setup.workers + 1)]
        for name in names:
            await self.start_worker(name, wait=False)
        for name in names:
            await self.workers[name].wait_ready(READY_S)
        self.edge = await self._start("edge", "edge", self._edge_settings(f"nats://127.0.0.1:{self.relay.port}"))
        await self.edge.wait_ready(READY_S)
        self.tail.run_ns = await self._run_began_ns()
        await self.recovery(time.monotonic_ns(), READY_S)

    async def start_worker(self, name: str, *, wait: bool = True) -> None:
        self.workers[name] = await self._start(name, "cloud", self._worker_settings(name))
        if wait:
            await self.workers[name].wait_ready(READY_S)

    async def start_liar(self, seed: int) -> Child:
        bundle = self.setup.bundle
        facts = [bundle.manifest.name, bundle.sha256, str(seed), *(cut.name for cut in bundle.cuts)]
        ready = self.out / "liar.ready.json"
        command = [sys.executable, str(_LIAR), self.broker.url, str(ready), *facts]
        liar = Child("liar", command, log_path=self.out / "liar.log", ready_file=ready)
        await liar.start(environment=clean_environment(os.environ))
        await liar.wait_ready(READY_S)
        return liar

    async def finish(self) -> dict[str, int]:
        """Stop everything in order; the edge's own counts. What is wrong is added to `faults`."""
        assert self.edge is not None  # noqa: S101 - started
        for child in (self.edge, *self.workers.values()):
            child.send(signal.SIGTERM)
            status = await asyncio.wait_for(child.wait(), 30)
            if status:
                self.faults.append(f"{child.name} ended with {child.ending()}: {child.log_tail(3)}")
        log = self.edge.log_path.read_text(errors="replace")
        told = ledger_of(log)
        if told is None:
            self.faults.append("the edge did not say what it counted")
            return {}
        self._judge(told, lost=sum(map(int, _LOST.findall(log))))
        self._judge_clock(log)
        for path in self._logs:
            self.faults += [f"{path.name}: {line}" for line in faults_of_log(path.read_text(errors="replace"))]
        return told

    async def close(self) -> None:
        for child in (self.edge, *self.workers.values()):
            if child is not None:
                await child.stop(grace_s=0.0, first=signal.SIGKILL)
        await self.spy.close()
        if self.relay is not None:
            await self.relay.close()
        await self.broker.stop()

    # what frames tell

    async def recovery(self, ended_ns: int, limit_s: float) -> Seen:
        """The first of ten frames in a row, captured after `ended_ns`, that a worker answered in time.

        Raises TimeoutError, and ChildError if the edge ends.
        """
        async with asyncio.timeout(limit_s):
            while True:
                assert self.edge is not None  # noqa: S101 - started
                if not self.edge.running:
                    raise self.edge.error(f"the edge ended with {self.edge.ending()}")
                first = recovered_at(self.tail.read(), ended_ns)
                if first is not None:
                    return first
                await asyncio.sleep(POLL_S)

    def between(self, began_ns: int, ended_ns: int) -> list[Seen]:
        return [seen for seen in self.tail.read() if began_ns <= seen.captured_ns < ended_ns]

    async def settled(self, condition: Callable[[], bool], limit_s: float = 10.0) -> bool:
        """Whether `condition` comes true within `limit_s`."""
        until_s = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > until_s:
                return False
            await asyncio.sleep(POLL_S)
        return True

    def _judge(self, told: dict[str, int], lost: int) -> None:
        """The law on the edge's own counts, and its lines against them; `lost`: lines it says it could not write."""
        in_flight, captured = told.pop("in_flight"), told["captured"]
        if in_flight or captured != sum(told.values()) - captured:
            self.faults.append(f"not conserved: {told}, {in_flight} in flight")
        seqs = [seen.record.seq for seen in self.tail.read()]
        gone = missing(seqs, 0, captured)
        if len(gone) != lost:
            self.faults.append(f"{len(gone)} frames without a line, where the edge says {lost}: {gone[:10]}")
        if doubled := twice(seqs):
            self.faults.append(f"more than one line: {doubled[:10]}")
        if len(set(seqs)) > captured:
            self.faults.append(f"{len(set(seqs))} frames have lines, {captured} were captured")
        if self.tail.malformed > lost:
            self.faults.append(f"{self.tail.malformed} lines are no record")

    def _judge_clock(self, log: str) -> None:
        """The edge's last words bear the time that the clock was set to: or nothing has been shown by it."""
        shift_s = self.setup.clock.shift_s if self.setup.clock is not None else 0.0
        said = datetime.fromisoformat(json.loads(log.splitlines()[-1])["ts"])
        if abs(said.timestamp() - time.time() - shift_s) > _CLOCK_TOLERANCE_S:
            self.faults.append(f"the edge's clock says {said}, not {shift_s:.0f} s off")

    # processes

    def _folder(self, name: str, disk: SmallDisk | None) -> Path:
        return disk.folder if disk is not None else self.out / name

    async def _start(self, name: str, section: str, settings: dict[str, Any]) -> Child:
        self._lives += 1
        stem = f"{self._lives:03d}-{name}"
        ready, log = self.out / f"{stem}.ready.json", self.out / f"{stem}.log"
        shared = {"plan": self.setup.bundle.folder, "providers": ("cpu",), "web_port": 0, "log_json": True}
        command = command_line(section, {**shared, "name": name, "ready_json": ready, **settings})
        child = Child(name, command, log_path=log, ready_file=ready)
        environment = clean_environment(os.environ)
        if self.setup.clock is not None:
            environment |= self.setup.clock.environment
        if section == "cloud":
            environment["TMPDIR"] = str(self._folder(name, self.setup.worker_disk))
        await child.start(environment=environment)
        self._logs.append(log)
        return child

    def _worker_settings(self, name: str) -> dict[str, Any]:
        folder = self._folder(name, self.setup.worker_disk)
        folder.mkdir(parents=True, exist_ok=True)
        return {"nats_url": self.broker.url, "span_log": folder / "spans", "trace_ratio": 1.0}

    def _edge_settings(self, url: str) -> dict[str, Any]:
        return {
            "nats_url": url,
            "source": str(self.setup.clip),
            "loop": True,
            "max_fps": FPS,
            "deadline_ms": DEADLINE_MS,
            "policy": self.setup.policy or self.setup.pooled_splits,
            "hwaccel": "none",
            "results": self.tail.path,
            "span_log": self.tail.path.parent / "spans",
            "trace_ratio": 1.0,
        }

    async def _run_began_ns(self) -> int:
        """The start of the edge's run on this machine's monotonic clock, to within the time of one question."""
        assert self.edge is not None and self.edge.ready_facts is not None  # noqa: S101 - ready
        reader, writer = await asyncio.open_connection("127.0.0.1", self.edge.ready_facts["web_port"])
        writer.write(b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        raw = await reader.read()
        heard_ns = time.monotonic_ns()
        writer.close()
        await writer.wait_closed()
        status = json.loads(raw.partition(b"\r\n\r\n")[2])
        return heard_ns - int(float(status["run_s"]) * 1e9)
