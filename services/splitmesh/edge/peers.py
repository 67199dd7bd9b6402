"""Owns what the edge knows of single workers: which serve this plan, how loaded they are, and which are gone."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Container

from splitmesh.bus.base import Message
from splitmesh.errors import WireError
from splitmesh.policy.point import OperatingPoint
from splitmesh.policy.world import World
from splitmesh.schedule.choice import SILENT_NS as QUIET_NS
from splitmesh.schedule.choice import Choice, WorkerChoice
from splitmesh.schedule.ejection import Ejection
from splitmesh.telemetry.metrics import PoolEvent
from splitmesh.wire.messages import Heartbeat, InferReply, Nack, NackCode

_log = logging.getLogger(__name__)

SILENT_NS = 1_200_000_000
"""Six heartbeats; the breaker waits as long."""
_BEATS_NS = 400_000_000
"""Two heartbeats."""
_FORGET_NS = 60_000_000_000
_FAULTS = frozenset({NackCode.UNKNOWN_MODEL, NackCode.INFERENCE_FAILED})
"""Of the worker, and not of the request."""


class Peers:
    """Hears heartbeats and replies. `ours`: (model, sha256); `draw`: random numbers in [0, 1)."""

    def __init__(self, world: World, ours: tuple[str, str], *, draw: Callable[[], float] = random.random) -> None:
        self._world = world
        self._ours = ours
        self._draw = draw
        self.gone: Callable[[str], None] = lambda _: None
        """Told each worker that says that it goes."""
        self._seen_ns: dict[str, int] = {}
        self._ejection: Ejection[str] = Ejection()
        self.choice: WorkerChoice[str] = WorkerChoice(ejection=self._ejection)
        self.counts: Counter[PoolEvent] = Counter()
        self.malformed = 0

    # -- what workers say -----------------------------------------------------------------------------------------

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
            self._goes(beat.worker_id)
            return
        now_ns = time.monotonic_ns()
        if beat.worker_id not in self._seen_ns:
            self._forget(now_ns)
        self._seen_ns[beat.worker_id] = now_ns
        self._tell(beat.worker_id, beat.predicted_wait_us, now_ns)
        self._world.on_heartbeat(now_ns, beat.predicted_wait_us / 1e3)

    def replied(self, key: str, reply: InferReply, slowness: float, budget_ms: float, now_ns: int) -> None:
        """`key`: of the request. slowness: its whole time over what was expected of it. budget_ms: what it was given
        from its arrival."""
        worker, outcome = reply.worker_id, reply.outcome
        if worker in self._seen_ns:
            self._tell(worker, reply.predicted_wait_us, now_ns)
        if not isinstance(outcome, Nack):
            t = reply.times
            measured_ms = (t.decode_us + t.service_us + t.postprocess_us) / 1e3
            before = self._ejection.ejections
            self.choice.answered(worker, key, measured_ms=measured_ms, slowness=slowness, now_ns=now_ns)
            self._count_ejections(worker, before, "is far slower than the others")
        elif outcome.code in _FAULTS:
            self.failed(worker, key, now_ns)
        elif outcome.code is NackCode.OVERLOADED:
            self.choice.refused(worker, key, budget_ms=budget_ms, now_ns=now_ns)
        else:
            self.choice.ended(worker, key)
            if outcome.code is NackCode.DRAINING:
                self._goes(worker)

    # -- what its silence says ------------------------------------------------------------------------------------

    def failed(self, worker: str, key: str, now_ns: int) -> None:
        """It could not do what was asked, or its reply can't be true."""
        if worker:
            before = self._ejection.ejections
            self.choice.failed(worker, key, now_ns)
            self._count_ejections(worker, before, "fails")

    def overdue(self, worker: str, key: str, now_ns: int) -> None:
        """No reply by the deadline."""
        before = self._ejection.ejections
        self.choice.overdue(worker, key, now_ns)
        self._count_ejections(worker, before, "does not answer")

    def silent(self, worker: str, now_ns: int) -> bool:
        """It was heard once, and has missed its heartbeats since: fewer need to be missed while others are heard."""
        seen_ns = self._seen_ns.get(worker)
        if seen_ns is None:
            return False
        others = any(now_ns - at_ns < _BEATS_NS for name, at_ns in self._seen_ns.items() if name != worker)
        return now_ns - seen_ns > (QUIET_NS if others else SILENT_NS)

    # -- who is next ----------------------------------------------------------------------------------------------

    def choose(
        self, point: OperatingPoint, now_ns: int, *, without: Container[str] = (), trial: bool = True
    ) -> Choice[str] | None:
        """The worker for a request at `point`; None if none is known to live. See `WorkerChoice.pick`."""
        profiled_ms = point.decode_ms + point.cloud_ms
        return self.choice.pick(profiled_ms, now_ns=now_ns, draw=self._draw(), without=without, trial=trial)

    # -- within ---------------------------------------------------------------------------------------------------

    def _tell(self, worker: str, wait_us: int, now_ns: int) -> None:
        self.choice.told(worker, wait_us / 1e3, now_ns, path_ms=self._world.link.base_ms)

    def _goes(self, worker: str) -> None:
        self._seen_ns.pop(worker, None)
        self.choice.gone(worker)
        self.gone(worker)

    def _count_ejections(self, worker: str, before: int, why: str) -> None:
        if self._ejection.ejections > before:
            self.counts[PoolEvent.EJECTED] += 1
            _log.warning("%s %s: nothing goes there for a while", worker, why)

    def _forget(self, now_ns: int) -> None:
        old = [worker for worker, seen_ns in self._seen_ns.items() if now_ns - seen_ns > _FORGET_NS]
        for worker in old:
            del self._seen_ns[worker]
