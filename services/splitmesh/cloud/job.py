"""Owns what a worker knows of one request between its arrival and its reply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from splitmesh.cloud.decoders import Content, decode_alone, open_decoder
from splitmesh.cloud.hosted import Executed, Hosted
from splitmesh.cloud.streams import Turn
from splitmesh.codec.compact.intra import Tables
from splitmesh.schedule.service_time import ServiceTime
from splitmesh.schedule.tenants import Ticket
from splitmesh.telemetry.frametrace import FrameTrace
from splitmesh.wire.messages import WorkerTimes
from splitmesh.wire.requests import InferRequest


def job_id(tenant: str, frame_id: str) -> str:
    """Of the job that a tenant's frame is at a worker: neither name can hold a slash."""
    return f"{tenant}/{frame_id}"


@dataclass(slots=True, eq=False)
class Job:
    """All times monotonic nanoseconds of the worker."""

    tenant: str
    """Of the subject that it came on; nothing in a message says it."""
    request: InferRequest
    reply_to: str
    hosted: Hosted
    taken: ServiceTime
    trace: FrameTrace
    arrived_ns: int
    deadline_ns: int
    """Arrival plus the budget that the edge gave: clocks of two machines are never compared."""
    tables: Tables
    """Calibration tables that its payload may name."""
    seq: int | None = None
    """Of a request in its slim form, which the reply then has too."""
    turn: Turn | None = None
    """Its place in its stream, if it belongs to one."""
    ticket: Ticket | None = None
    """What its tenant's quotas were charged for it."""
    trial: bool = False
    """Let in against the prediction; see `Dispatch.admit`."""
    abandoned: bool = False
    """The edge cancelled it while it ran."""

    @property
    def id(self) -> str:
        """One of a kind at this worker: two tenants may give their frames the same ids."""
        return job_id(self.tenant, self.request.frame_id)

    @property
    def frame_id(self) -> str:
        return self.request.frame_id

    def decode(self) -> Content:
        """What its payload holds; on an executor's thread. Raises CodecError."""
        expected = self.hosted.expected(self.request.cut)
        if self.turn is None:
            return decode_alone(self.request.payload, expected, self.tables)
        return self.turn.take(lambda payload: open_decoder(payload, expected, self.tables))

    def waited(self, now_ns: int) -> WorkerTimes:
        """The times of a request that was never served."""
        return WorkerTimes(queue_us=max(0, now_ns - self.arrived_ns) // 1000)

    def served(self, run: Executed) -> WorkerTimes:
        return WorkerTimes(
            queue_us=(run.start_ns - self.arrived_ns) // 1000,
            decode_us=(run.decoded_ns - run.start_ns) // 1000,
            service_us=(run.ran_ns - run.decoded_ns) // 1000,
            postprocess_us=(run.end_ns - run.ran_ns) // 1000,
        )

    def record(self, run: Executed) -> None:
        """Add the spans of a served request to its trace."""
        self.trace.span("queue", self.arrived_ns, run.start_ns)
        self.trace.span("decode", run.start_ns, run.decoded_ns)
        self.trace.span("tail", run.decoded_ns, run.ran_ns, {"splitmesh.cut": self.request.cut or "whole"})
        self.trace.span("postprocess", run.ran_ns, run.end_ns)


def execute(jobs: Sequence[Job]) -> list[Executed | Exception]:
    """Serve jobs of one model and cut together; on an executor's thread. How each ended, in their order."""
    first = jobs[0]
    cut = first.request.cut
    try:
        if len(jobs) == 1:
            return [first.hosted.execute(cut, first.decode, lambda: first.abandoned)]
        given_up = [lambda job=job: job.abandoned for job in jobs]
        return first.hosted.execute_together(cut, [job.decode for job in jobs], given_up)
    except Exception as exc:  # noqa: BLE001 - told to the senders
        return [exc for _ in jobs]
