"""Owns the processes of one lab run: broker, worker, link and edge; their start order and stop order. Leaves none."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splitmesh.bus.server import EmbeddedServer
from splitmesh.lab.child import Child
from splitmesh.lab.commands import Cores, clean_environment, command_line
from splitmesh.settings.model import LabSettings

_READY_S = 60.0
_WORKER_DRAIN_S = 3.0
_EDGE_DRAIN_S = 8.0


@dataclass(frozen=True, slots=True)
class MeshSetup:
    """What the processes are started with."""

    settings: LabSettings
    source: str
    plan: Path
    out: Path
    cores: Cores

    @property
    def results(self) -> Path:
        return self.out / "results.jsonl"

    @property
    def link_series(self) -> Path:
        """What the link carried, second by second."""
        return self.out / "link.jsonl"

    @property
    def spans(self) -> Path:
        return self.out / "spans"

    def run_file(self, name: str) -> Path:
        """A file that only matters while the mesh runs, or when something went wrong."""
        return self.out / "processes" / name


class Mesh:
    """Broker, worker, link and edge as processes of this machine."""

    def __init__(self, setup: MeshSetup) -> None:
        self._setup = setup
        self._server = EmbeddedServer(store=setup.run_file("broker"))
        self._environment = clean_environment(os.environ)
        self.link_began_s = 0.0
        """When the link's trace clock was started, `time.monotonic()`."""
        self.worker = self._child("cloud", setup.cores.rest)
        self.link = self._child("link", setup.cores.rest)
        self.edge = self._child("edge", setup.cores.edge)

    def _child(self, name: str, cores: tuple[int, ...]) -> Child:
        return Child(
            name,
            [],
            log_path=self._setup.run_file(f"{name}.log"),
            cores=cores,
            ready_file=self._setup.run_file(f"{name}.ready.json"),
        )

    @property
    def broker_state(self) -> str:
        return "running" if self._server.running else "died"

    @property
    def broker_log_tail(self) -> str:
        return self._server.log_tail()

    @property
    def children(self) -> tuple[Child, ...]:
        return (self.edge, self.link, self.worker)

    async def start(self, report: Callable[[str, float], None]) -> None:
        """Start all four, each ready before the next needs it. Raises ChildError, or what the broker raises."""
        report("broker", 0.0)
        await self._server.start()
        broker = self._server.url
        self.worker.command = command_line("cloud", self._worker_values(broker))
        self.link.command = command_line("link", self._link_values(broker))
        report("worker and link", 0.2)
        await self.worker.start(environment=self._environment)
        await self.link.start(environment=self._environment)
        link = await self.link.wait_ready(_READY_S)
        await self.worker.wait_ready(_READY_S)
        report("edge", 0.6)
        self.edge.command = command_line("edge", self._edge_values(f"nats://127.0.0.1:{link['port']}"))
        await self.edge.start(environment=self._environment)
        await self.edge.wait_ready(_READY_S)
        self.link.send(signal.SIGUSR1)
        self.link_began_s = time.monotonic()
        report("", 1.0)

    async def restart_worker(self) -> None:
        """Start the worker again; it is ready when it says so, nobody waits for it."""
        await self.worker.stop(grace_s=0.0)
        self.worker = self._child("cloud", self._setup.cores.rest)
        self.worker.command = command_line("cloud", self._worker_values(self._server.url))
        await self.worker.start(environment=self._environment)

    async def stop(self) -> None:
        """Edge, link, worker, broker, in this order, whatever state they are in. Idempotent."""
        try:
            await self.edge.stop(grace_s=_EDGE_DRAIN_S, first=signal.SIGINT)
            await self.link.stop()
            await self.worker.stop(grace_s=_WORKER_DRAIN_S)
        finally:
            for child in self.children:
                child.kill_group()
            await self._server.stop()

    def _shared_values(self, broker: str, name: str) -> dict[str, Any]:
        settings = self._setup.settings
        shared: dict[str, Any] = {
            "nats_url": broker,
            "name": f"lab-{name}",
            "model": settings.model,
            "plan": self._setup.plan,
            "threads": settings.threads,
            "span_log": self._setup.spans / name,
            "trace_ratio": settings.trace_ratio,
            "log_json": settings.log_json,
            "ready_json": self._setup.run_file(f"{name}.ready.json"),
        }
        return shared | ({"manifest": settings.manifest} if settings.manifest else {})

    def _worker_values(self, broker: str) -> dict[str, Any]:
        return {**self._shared_values(broker, "cloud"), "web_port": 0}

    def _edge_values(self, broker: str) -> dict[str, Any]:
        settings = self._setup.settings
        return {
            **self._shared_values(broker, "edge"),
            "source": self._setup.source,
            "policy": settings.policy,
            "deadline_ms": settings.deadline_ms,
            "edge_slowdown": settings.edge_slowdown,
            "pace": True,
            "loop": Path(self._setup.source).is_file(),
            "duration_s": settings.duration_s,
            "max_fps": settings.max_fps,
            "results": self._setup.results,
            "web_port": settings.web_port,
            "uplink_budget_bps": settings.uplink_budget_bps,
        }

    def _link_values(self, broker: str) -> dict[str, Any]:
        settings = self._setup.settings
        return {
            "listen": "127.0.0.1:0",
            "target": broker.removeprefix("nats://"),
            "link": settings.link,
            "outage": settings.outage,
            "duration_s": settings.duration_s,
            "seed": settings.seed,
            "start": "signal",
            "stats": self._setup.link_series,
            "ready_json": self._setup.run_file("link.ready.json"),
            "log_json": settings.log_json,
        }
