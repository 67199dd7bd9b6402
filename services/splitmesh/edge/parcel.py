"""Owns what goes into a request to the cloud and what comes out of one. Refuses a reply that can't be true."""

from __future__ import annotations

from dataclasses import dataclass

from splitmesh.errors import MeshError, WireError
from splitmesh.frames.answer import Answer
from splitmesh.policy.point import OperatingPoint
from splitmesh.policy.world import RemoteTimes
from splitmesh.wire.messages import InferReply, Nack, NackCode
from splitmesh.wire.requests import split_frame_id

_CLOCK_SLACK = 1.05
"""Two machines' monotonic clocks may run at rates that differ by so much, generously."""


class Refused(MeshError):
    """The worker said no; `code` says why."""

    def __init__(self, code: NackCode, detail: str, *, worker: str) -> None:
        super().__init__(f"refused ({code.label}): {detail}")
        self.code = code
        self.worker = worker


@dataclass(frozen=True, slots=True)
class Parcel:
    """What one request brings: the payload of a frame at an operating point."""

    point: OperatingPoint
    payload: bytes
    stream: int = 0
    """Id of the stream that it belongs to; 0: none."""
    worker: str = ""
    """Which has opened that stream; "": any of the pool."""
    key: bool = False
    """Of a stream: it builds on nothing."""
    coarser: bool = False
    """Of a stream: `point` is what the link left of the one that was decided on."""


@dataclass(frozen=True, slots=True)
class Terms:
    """When the frame was decided and is due, monotonic ns; what was predicted of it; whether anybody waits."""

    decided_ns: int
    deadline_ns: int
    predicted_ms: float
    traceparent: str | None
    probe: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """A worker's answer in [0, 1] of the model's input, and what it took."""

    answer: Answer
    worker: str
    times: RemoteTimes
    network_ms: float
    received_ns: int
    note: str = ""
    """Of what was unusual on the way, for people."""
    again_bytes: int = 0
    """Payload of a second request."""


def honest(reply: InferReply, frame_id: str, *, streamed: bool, worker: str, elapsed_ms: float) -> InferReply:
    """`reply`, unless it can't be true. Raises WireError: one lie would teach the policy for seconds.

    streamed: to a request in its slim form. worker: that was asked, "" for any of the pool.
    """
    nameless = isinstance(reply.outcome, Nack) and not reply.frame_id and reply.seq is None
    by_seq = streamed and reply.seq is not None
    meant = f"{split_frame_id(frame_id)[0]}.{reply.seq}" if by_seq else reply.frame_id
    if meant != frame_id and not nameless:
        raise WireError(f"{reply.worker_id} answered {frame_id} with a reply for {meant}")
    if worker and reply.worker_id != worker:
        raise WireError(f"{reply.worker_id} answered what was sent to {worker}")
    spent_ms = remote_times(reply).total_ms
    if spent_ms > _CLOCK_SLACK * elapsed_ms + 1:
        raise WireError(f"{reply.worker_id} says that it spent {spent_ms:.0f} ms of {elapsed_ms:.0f} ms")
    return reply


def remote_times(reply: InferReply) -> RemoteTimes:
    t = reply.times
    return RemoteTimes(t.queue_us / 1e3, t.decode_us / 1e3, t.service_us / 1e3, t.postprocess_us / 1e3)
