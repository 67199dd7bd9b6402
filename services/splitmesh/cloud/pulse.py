"""Owns a worker's heartbeats: what it holds and how loaded it is, told to each tenant, at a steady pace for as long
as it lives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from splitmesh.bus.base import Bus
from splitmesh.errors import BusError
from splitmesh.telemetry.metrics import CloudMetrics
from splitmesh.wire import subjects
from splitmesh.wire.messages import Heartbeat, HostedModel

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Load:
    """What a heartbeat says of the moment to one tenant."""

    wait_us: int
    depth: int
    draining: bool


class Pulse:
    """`load`: what a tenant is told. `attend` is called after each round."""

    def __init__(
        self,
        worker: str,
        tenants: Sequence[str],
        announced: tuple[HostedModel, ...],
        bus: Bus,
        metrics: CloudMetrics,
        *,
        load: Callable[[str], Load],
        attend: Callable[[], Awaitable[None]],
    ) -> None:
        self._worker = worker
        self._subjects = {tenant: subjects.load(tenant) for tenant in tenants}
        self._announced = announced
        self._bus = bus
        self._metrics = metrics
        self._load = load
        self._attend = attend
        self._beats = 0
        self._task: asyncio.Task[None] | None = None

    def start(self, every_s: float) -> None:
        """Send the first heartbeat, and more."""
        self._task = asyncio.create_task(self._go_on(every_s), name="heartbeats")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def beat(self) -> None:
        """One to each tenant."""
        self._beats += 1
        for tenant, subject in self._subjects.items():
            load = self._load(tenant)
            beat = Heartbeat(self._worker, self._beats, self._announced, load.wait_us, load.depth, load.draining)
            if not self._bus.connected:
                return
            try:
                await self._bus.publish(subject, beat.encode())
            except BusError as exc:
                _log.debug("heartbeat not sent: %s", exc)
            else:
                self._metrics.heartbeats_total.inc()

    async def _go_on(self, every_s: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            try:
                await self.beat()
                await self._attend()
            except Exception:  # noqa: BLE001 - logged; without heartbeats no edge would use a worker that serves
                _log.exception("a heartbeat failed")
            due = max(due + every_s, loop.time())
            await asyncio.sleep(due - loop.time())
