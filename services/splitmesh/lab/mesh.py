"""Owns the processes of one lab run: broker, workers, link, edge and gateway; their order of start and stop.

Leaves none behind.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from splitmesh.bus.server import EmbeddedServer
from splitmesh.lab.child import Child
from splitmesh.lab.commands import clean_environment, command_line
from splitmesh.lab.setup import GATEWAY, MeshSetup

_READY_S = 60.0
_WORKER_DRAIN_S = 3.0
_EDGE_DRAIN_S = 8.0
_GATEWAY_DRAIN_S = 1.0
_GATEWAY_NICENESS = 5
"""Whoever looks on must not be what slows down what they look at."""


class Mesh:
    """Broker, workers, link, edge and, if there shall be a page, a gateway, as processes of this machine."""

    def __init__(self, setup: MeshSetup) -> None:
        self._setup = setup
        self._server = EmbeddedServer(store=setup.run_file("broker"))
        self._environment = clean_environment(os.environ)
        self.link_began_s = 0.0
        """When the link's trace clock was started, `time.monotonic()`."""
        self.workers = {name: self._child(name, setup.cores.rest) for name in setup.worker_names}
        """By the name that each has on the bus."""
        self.link = self._child("link", setup.cores.rest, commanded=True)
        self.edge = self._child("edge", setup.cores.edge)
        self.gateway = (
            None
            if setup.settings.web_port is None
            else self._child(GATEWAY, setup.cores.rest, niceness=_GATEWAY_NICENESS)
        )

    def _child(self, name: str, cores: tuple[int, ...], *, niceness: int = 0, commanded: bool = False) -> Child:
        return Child(
            name,
            [],
            log_path=self._setup.run_file(f"{name}.log"),
            cores=cores,
            niceness=niceness,
            commanded=commanded,
            ready_file=self._setup.ready_file(name),
        )

    @property
    def broker_url(self) -> str:
        return self._server.url

    @property
    def broker_state(self) -> str:
        return "running" if self._server.running else "died"

    @property
    def broker_log_tail(self) -> str:
        return self._server.log_tail()

    @property
    def page_url(self) -> str | None:
        """Where the page is, as soon as it is there."""
        if self.gateway is None or not self.gateway.poll_ready():
            return None
        return f"http://127.0.0.1:{(self.gateway.ready_facts or {})['web_port']}/"

    @property
    def children(self) -> tuple[Child, ...]:
        gateway = () if self.gateway is None else (self.gateway,)
        return (self.edge, *gateway, self.link, *self.workers.values())

    async def start(self, report: Callable[[str, float], None]) -> None:
        """Start all, each ready before the next needs it; nobody waits for the gateway, which nothing needs.

        Raises ChildError, or what the broker raises.
        """
        report("broker", 0.0)
        await self._server.start()
        report("worker and link", 0.2)
        for name in self.workers:
            await self._start_worker(name)
        self.link.command = command_line("link", self._setup.link_values(self.broker_url))
        await self.link.start(environment=self._environment)
        link = await self.link.wait_ready(_READY_S)
        for worker in self.workers.values():
            await worker.wait_ready(_READY_S)
        report("edge", 0.6)
        self.edge.command = command_line("edge", self._setup.edge_values(f"nats://127.0.0.1:{link['port']}"))
        await self.edge.start(environment=self._environment)
        if self.gateway is not None:
            self.gateway.command = command_line("gateway", self._setup.gateway_values(self.broker_url))
            await self.gateway.start(environment=self._environment)
        await self.edge.wait_ready(_READY_S)
        self.link.send(signal.SIGUSR1)
        self.link_began_s = time.monotonic()
        report("", 1.0)

    async def _start_worker(self, name: str) -> None:
        worker = self.workers[name]
        worker.command = command_line("cloud", self._setup.worker_values(self.broker_url, name))
        await worker.start(environment=self._environment)

    async def restart_worker(self, name: str) -> None:
        """Start the worker again; it is ready when it says so, nobody waits for it."""
        await self.workers[name].stop(grace_s=0.0)
        self.workers[name] = self._child(name, self._setup.cores.rest)
        await self._start_worker(name)

    async def stop(self) -> None:
        """Edge, gateway, link, workers, broker, in this order, whatever state they are in. Idempotent."""
        try:
            await self.edge.stop(grace_s=_EDGE_DRAIN_S, first=signal.SIGINT)
            if self.gateway is not None:
                await self.gateway.stop(grace_s=_GATEWAY_DRAIN_S)
            await self.link.stop()
            for worker in self.workers.values():
                await worker.stop(grace_s=_WORKER_DRAIN_S)
        finally:
            for child in self.children:
                child.kill_group()
            await self._server.stop()
