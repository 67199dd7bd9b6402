"""Owns sending calibration tables to workers that said that they lack them: one at a time, and not over and over."""

from __future__ import annotations

import asyncio
import logging
import time

from splitmesh.bus.base import Bus
from splitmesh.errors import BusError, WireError
from splitmesh.plan.bundle.read import Bundle
from splitmesh.policy.world import World
from splitmesh.wire import subjects
from splitmesh.wire.messages import TableReply
from splitmesh.wire.requests import TableOffer

_log = logging.getLogger(__name__)

_AGAIN_NS = 5_000_000_000
_TIMEOUT_S = 30.0
"""A large table over a thin link takes that long."""
_MOST_REMEMBERED = 1000


class TableSender:
    """Sends tables of `bundle` in the background. Lives on the event loop."""

    def __init__(self, world: World, bundle: Bundle, *, edge: str, tenant: str) -> None:
        self._world = world
        self._bundle = bundle
        self._edge = edge
        self._tenant = tenant
        self._sent_ns: dict[tuple[str, str], int] = {}
        self._task: asyncio.Task[None] | None = None
        self.sent_bytes = 0

    def lacking(self, bus: Bus, worker: str, cut: str) -> None:
        """`worker` lacks the table of `cut`: send it, unless it was sent lately or another is under way."""
        now_ns = time.monotonic_ns()
        if self._task is not None and not self._task.done():
            return
        if now_ns - self._sent_ns.get((worker, cut), -_AGAIN_NS) < _AGAIN_NS:
            return
        if len(self._sent_ns) >= _MOST_REMEMBERED:
            self._sent_ns.clear()
        self._sent_ns[worker, cut] = now_ns
        self._task = asyncio.create_task(self._send(bus, worker, cut), name=f"table {cut} to {worker}")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _send(self, bus: Bus, worker: str, cut: str) -> None:
        key = f"table.{worker}.{cut}"
        try:
            table = await asyncio.to_thread(self._bundle.table, cut)
            if table is None:
                return
            raw = TableOffer(
                self._edge, self._bundle.manifest.name, self._bundle.sha256, cut, table.to_bytes()
            ).encode()
            self._world.link.on_sent(key, len(raw), time.monotonic_ns(), remote_ms=0.0)
            self.sent_bytes += len(raw)
            message = await bus.request(subjects.table(self._tenant, worker), raw, timeout_s=_TIMEOUT_S)
            self._world.link.on_delivered(key, time.monotonic_ns(), remote_ms=0.0)
            reply = TableReply.decode(message.payload)
        except (BusError, WireError) as exc:
            _log.warning("the table of %s did not reach %s: %s", cut, worker, exc)
            return
        finally:
            self._world.link.on_lost(key)
        if reply.nack is None:
            _log.info("%s has the table of %s now", worker, cut)
        else:
            _log.warning("%s refuses the table of %s (%s): %s", worker, cut, reply.nack.code.label, reply.nack.detail)
