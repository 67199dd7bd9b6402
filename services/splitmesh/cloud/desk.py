"""Owns a worker's replies to a tenant: answers and refusals, each counted and traced. Decides nothing."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

from splitmesh.bus.base import Bus
from splitmesh.cloud.hosted import Executed
from splitmesh.cloud.job import Job
from splitmesh.errors import BusError, InferenceError, PayloadTooLarge, WireError
from splitmesh.frames.answer import Answer
from splitmesh.telemetry.metrics import CloudMetrics
from splitmesh.wire.messages import InferReply, Nack, NackCode, WorkerTimes
from splitmesh.wire.requests import InferRequest

_log = logging.getLogger(__name__)

_NOT_SERVED = WorkerTimes()
_UNTRACED = frozenset({NackCode.CANCELLED, NackCode.QUOTA})
"""Not kept beyond the sample: there may be as many as a tenant likes to send."""


class ReplyDesk:
    """One tenant's. `wait_us` tells its predicted wait, which goes along with every reply."""

    def __init__(self, worker: str, bus: Bus, metrics: CloudMetrics, wait_us: Callable[[], int]) -> None:
        self.served = 0
        self.nacked: Counter[str] = Counter()
        self._worker = worker
        self._bus = bus
        self._metrics = metrics
        self._wait_us = wait_us

    async def answer(self, job: Job, run: Executed) -> WorkerTimes:
        """Send it; `account` must follow. The times that it tells.

        Raises InferenceError if the answer breaks the wire's rules or is too long, PayloadTooLarge if the broker
        takes even less.
        """
        request, times = job.request, job.served(run)
        try:
            raw = self._reply(request, job.seq, run.answer, times).encode()
        except WireError as exc:
            raise InferenceError(f"{request.model} gave an answer that can't be sent: {exc}") from exc
        sent = await self.publish(job.reply_to, raw)
        self.served += sent  # other slots may have counted while this one waited
        return times

    def account(self, job: Job, run: Executed, times: WorkerTimes) -> None:
        """Count and trace an answered request. Only a trace that is exported becomes an exemplar."""
        self._metrics.answered(
            model=job.request.model,
            cut=job.request.cut,
            queue_s=times.queue_us / 1e6,
            decode_s=times.decode_us / 1e6,
            service_s=times.service_us / 1e6,
            trace_id=job.trace.trace_id if job.trace.head_sampled else None,
        )
        job.record(run)
        job.trace.finish(time.monotonic_ns(), attributes={"splitmesh.worker": self._worker})

    async def refuse(self, job: Job, nack: Nack) -> None:
        now_ns = time.monotonic_ns()
        if job.turn is not None:
            job.turn.drop()
        await self.refuse_message(job.reply_to, job.request, job.seq, nack, job.waited(now_ns))
        job.trace.finish(
            now_ns,
            keep=nack.code not in _UNTRACED,
            attributes={"splitmesh.worker": self._worker, "splitmesh.nack": nack.code.label},
            error=nack.code.label,
        )

    async def refuse_message(
        self,
        reply_to: str,
        request: InferRequest | None,
        seq: int | None,
        nack: Nack,
        times: WorkerTimes = _NOT_SERVED,
    ) -> None:
        """Refuse what did not become a job; `request` None: it can't even be read, or is of no stream known here."""
        self.nacked[nack.code.label] += 1
        model, cut = (request.model, request.cut) if request else ("", "")
        if nack.code is NackCode.CANCELLED:
            self._metrics.cancelled(model=model, cut=cut)
        else:
            self._metrics.nacked(model=model, cut=cut, code=nack.code.label)
        await self.publish(reply_to, self._reply(request, seq, nack, times).encode())

    def _reply(
        self, request: InferRequest | None, seq: int | None, outcome: Answer | Nack, times: WorkerTimes
    ) -> InferReply:
        """A slim request gets a slim reply."""
        frame_id = request.frame_id if request and seq is None else ""
        return InferReply(frame_id, self._worker, outcome, times, self._wait_us(), seq)

    async def publish(self, reply_to: str, reply: bytes) -> bool:
        """False, and logged, if the connection is gone: the sender is told so by its own bus."""
        try:
            await self._bus.publish(reply_to, reply)
        except PayloadTooLarge:
            raise
        except BusError as exc:
            _log.warning("a reply is lost: %s", exc)
            return False
        return True
