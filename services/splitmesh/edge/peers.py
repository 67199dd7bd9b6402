"""Owns what the edge knows of single workers: which serve this plan, and which are gone."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from splitmesh.bus.base import Message
from splitmesh.errors import WireError
from splitmesh.policy.world import World
from splitmesh.wire.messages import Heartbeat

_log = logging.getLogger(__name__)

SILENT_NS = 1_200_000_000
"""Six heartbeats; the breaker waits as long."""
_FORGET_NS = 60_000_000_000


class Peers:
    """Hears heartbeats. `ours`: (model, sha256)."""

    def __init__(self, world: World, ours: tuple[str, str]) -> None:
        self._world = world
        self._ours = ours
        self.gone: Callable[[str], None] = lambda _: None
        """Told each worker that says that it goes."""
        self._seen_ns: dict[str, int] = {}
        self.malformed = 0

    async def hear(self, message: Message) -> None:
        try:
            beat = Heartbeat.decode(message.payload)
        except WireError as exc:
            self.malformed += 1
            if self.malformed & (self.malformed - 1) == 0:  # at 1, 2, 4, 8, …
                _log.warning("malformed heartbeat (%d so far): %s", self.malformed, exc)
            return
        if self._ours not in {(m.model, m.model_sha256) for m in beat.models}:
            return
        if beat.draining:
            self._seen_ns.pop(beat.worker_id, None)
            self.gone(beat.worker_id)
            return
        now_ns = time.monotonic_ns()
        if beat.worker_id not in self._seen_ns:
            self._forget(now_ns)
        self._seen_ns[beat.worker_id] = now_ns
        self._world.on_heartbeat(now_ns, beat.predicted_wait_us / 1e3)

    def silent(self, worker: str, now_ns: int) -> bool:
        """It was heard once, and has missed its heartbeats since."""
        seen_ns = self._seen_ns.get(worker)
        return seen_ns is not None and now_ns - seen_ns > SILENT_NS

    def _forget(self, now_ns: int) -> None:
        old = [worker for worker, seen_ns in self._seen_ns.items() if now_ns - seen_ns > _FORGET_NS]
        for worker in old:
            del self._seen_ns[worker]
