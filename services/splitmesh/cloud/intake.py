"""Owns the way from a message to a job: which model, cut and stream it is of, and which tables it may need.

Raises for what can't become a job; answers nobody and queues nothing. Lives on the worker's event loop.
"""

from __future__ import annotations

from collections.abc import Mapping

from splitmesh.bus.base import Message
from splitmesh.cloud.hosted import Hosted
from splitmesh.cloud.job import Job
from splitmesh.cloud.streams import MAX_BYTES, MAX_PER_EDGE, MAX_STREAMS, Streams
from splitmesh.cloud.tables import MAX_SENT, MAX_SENT_BYTES, Tables
from splitmesh.errors import ModelError
from splitmesh.schedule.service_time import ServiceTime
from splitmesh.telemetry.tracing import Tracing
from splitmesh.wire.requests import InferRequest, StreamRequest, TableOffer


class Intake:
    """One tenant's. taken: service times by model and cut, filled while the worker warms up. of: tenants that share
    the worker's room for streams and tables."""

    def __init__(
        self,
        tenant: str,
        hosted: Mapping[str, Hosted],
        taken: Mapping[tuple[str, str], ServiceTime],
        tracing: Tracing,
        *,
        of: int = 1,
    ) -> None:
        self._tenant = tenant
        self._hosted = hosted
        self._taken = taken
        self._tracing = tracing
        self.streams = Streams(most=max(MAX_PER_EDGE, MAX_STREAMS // of), most_bytes=MAX_BYTES // of)
        self.tables = Tables(
            {name: table for each in hosted.values() for name, table in each.tables().items()},
            most=max(1, MAX_SENT // of),
            most_bytes=MAX_SENT_BYTES // of,
        )

    def in_full(self, asked: InferRequest | StreamRequest, now_ns: int) -> InferRequest:
        """Raises NeedKeyframe for a stream that is not open here."""
        if isinstance(asked, InferRequest):
            return asked
        return asked.full(self.streams.find(asked.stream, now_ns).opened_by)

    def job(self, request: InferRequest, message: Message, now_ns: int, *, seq: int | None) -> Job:
        """`seq`: of a request that came in its slim form. Raises ModelError, NeedKeyframe, Overloaded."""
        hosted = self._held(request.model, request.model_sha256, request.cut)
        turn = self.streams.open(request, now_ns).arrive(request.payload) if request.stream else None
        return Job(
            tenant=self._tenant,
            request=request,
            reply_to=message.reply,
            hosted=hosted,
            taken=self._taken[hosted.model, request.cut],
            trace=self._tracing.continue_trace(
                request.traceparent, now_ns, frame_id=request.frame_id, owner=self._tenant
            ),
            arrived_ns=now_ns,
            deadline_ns=now_ns + request.budget_us * 1000,
            tables=self.tables.lookup(request.edge_id, request.model, request.cut),
            seq=seq,
            turn=turn,
        )

    def keep_table(self, offer: TableOffer) -> None:
        """May run on any thread. Raises ModelError for another model or cut, CodecError for what is no such table."""
        hosted = self._held(offer.model, offer.model_sha256, offer.cut)
        self.tables.keep(offer, hosted.expected(offer.cut).shapes)

    def _held(self, model: str, sha256: str, cut: str) -> Hosted:
        hosted = self._hosted.get(model)
        if hosted is None:
            raise ModelError(f"{model} is not served here, only {', '.join(self._hosted)}")
        hosted.check(cut, sha256)
        return hosted
