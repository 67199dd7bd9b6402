"""Owns what travels between the simulated edge and its workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from splitmesh.policy.point import OperatingPoint
from splitmesh.policy.world import RemoteTimes
from splitmesh.sim.draws import Draws
from splitmesh.sim.engine import Signal


class Said(Enum):
    """How a request ended."""

    ANSWER = "answer"
    OVERLOADED = "overloaded"
    EXPIRED = "the budget ran out in the queue"
    CANCELLED = "cancelled"
    NEED_KEYFRAME = "the stream is not known here"
    NO_RESPONDERS = "nobody serves this"
    TIMEOUT = "no reply"

    @property
    def by_worker(self) -> bool:
        return self not in (Said.NO_RESPONDERS, Said.TIMEOUT)


@dataclass(frozen=True, slots=True)
class Reply:
    """`worker`: number of the one that replied, -1 for none."""

    said: Said
    worker: int
    times: RemoteTimes
    wait_ms: float = 0.0
    """Of a request that arrives as this reply leaves, as the worker predicts."""
    received_ns: int = 0


@dataclass(frozen=True, slots=True)
class StreamPart:
    """A frame's place in its stream, as the worker needs it."""

    stream: int
    number: int
    base: int | None
    """The frame that it builds on; None: a key."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends requests to a pool. `number`: no other sender of that pool has it."""

    number: int
    draws: Draws
    """Its luck, by frame."""
    replied: Callable[[Request, Reply], None]
    """Called when a reply leaves the workers' side for the edge."""


@dataclass(eq=False, slots=True)
class Request:
    """Times in virtual ns. `id`: one of a kind in its pool. `frame`: index of the frame whose luck it shares."""

    id: str
    sender: Sender
    frame: int
    point: OperatingPoint
    payload_bytes: int
    message_bytes: int
    sent_ns: int
    budget_ns: int
    """From when it was sent."""
    home: int = -1
    """The worker that it must go to; -1: any of the pool."""
    part: StreamPart | None = None
    chosen: int = -1
    """Where it goes while that worker lives; -1: wherever the queue group sends it."""
    arrived_ns: int = 0
    worker: int = -1
    """That took it."""
    reply: Signal[Reply] = field(default_factory=Signal)
