"""Owns a worker's heartbeats: what it holds and how loaded it is, at a steady pace for as long as it lives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from splitmesh.bus.base import Bus
from splitmesh.errors import BusError
from splitmesh.telemetry.metrics import CloudMetrics
from splitmesh.wire import subjects
from splitmesh.wire.messages import Heartbeat, HostedModel

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Load:
    """What a heartbeat says of the moment."""

    wait_us: int
    depth: int
    draining: bool


class Pulse:
    def __init__(
        self, worker: str, tenant: str, announced: tuple[HostedModel, ...], bus: Bus, metrics: CloudMetrics
    ) -> None:
        self._worker = worker
        self._subject = subjects.load(tenant)
        self._announced = announced
        self._bus = bus
        self._metrics = metrics
        self._beats = 0
        self._task: asyncio.Task[None] | None = None

    def start(self, every_s: float, load: Callable[[], Load], attend: Callable[[], Awaitable[None]]) -> None:
        """Send the first heartbeat, and more; after each `attend` is called."""
        self._task = asyncio.create_task(self._go_on(every_s, load, attend), name="heartbeats")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def beat(self, load: Load) -> None:
        self._metrics.load(queue_depth=load.depth, predicted_wait_s=load.wait_us / 1e6)
        self._beats += 1
        beat = Heartbeat(self._worker, self._beats, self._announced, load.wait_us, load.depth, load.draining)
        if not self._bus.connected:
            return
        try:
            await self._bus.publish(self._subject, beat.encode())
        except BusError as exc:
            _log.debug("heartbeat not sent: %s", exc)
        else:
            self._metrics.heartbeats_total.inc()

    async def _go_on(self, every_s: float, load: Callable[[], Load], attend: Callable[[], Awaitable[None]]) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            await self.beat(load())
            await attend()
            due = max(due + every_s, loop.time())
            await asyncio.sleep(due - loop.time())
