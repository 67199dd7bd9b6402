"""Owns what the engine and a target say to each other: requests, replies, and the calls that carry them.

A target sends and tells what came back. It refuses to keep time, to count and to retry: the engine does the first
two, nobody the third. Calls come from one event loop. There is no task per request: `send` returns at once, and the
target calls `done` from the loop when it knows what became of the request.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Protocol, TypeAlias


@dataclass(frozen=True, slots=True, eq=False)
class Payload:
    """What is sent again and again, prepared once. Targets may keep things by its identity.

    The fields behind `data` are for the mesh's own protocol. Where they are empty, those of the target's URL hold.
    """

    data: bytes
    """What the mesh gets: a codec container. For other targets the body as it goes out, unless `raw` is there."""
    raw: bytes = b""
    """What a server outside the mesh gets where that differs: a picture's file without the container around it."""
    name: str = ""
    """Where it comes from, for people: "synthetic", a file's name."""
    model: str = ""
    model_sha256: str = ""
    """64 hex digits, of the full model file."""
    cut: str = ""
    """Name of the cut whose tensors `data` holds; "": as the URL says."""
    content_type: str = "application/octet-stream"
    stream: int = 0
    """Of payloads that build on each other and so go to one worker in order; 0: none. Each run has ids of its own."""
    follows: bool = False
    """Builds on earlier payloads of `stream`: sent in the short form, to the worker that has those."""

    @property
    def body(self) -> bytes:
        """What goes to a server outside the mesh."""
        return self.raw or self.data


@dataclass(slots=True, eq=False)
class Request:
    """One request on its way. Times are `time.monotonic_ns`."""

    payload: Payload
    seq: int
    """Counts the requests of a run in this process, from 0. With `run` unique for ever."""
    run: str
    """Random, of this run and process: letters and digits."""
    intended_ns: int
    """When the schedule wanted it sent. Latency counts from here."""
    deadline_ns: int = 0
    """How long after `intended_ns` the answer is worthless; 0: never."""
    tenant: str = ""
    """"": the one of the target's URL."""
    edge: str = "meshload"
    """The virtual edge that asks: a token of the mesh, 1 to 64 letters, digits, `_`, `-`."""
    trace: bytes = b""
    """W3C trace context in 25 bytes (`splitmesh.wire.headers.trace_bytes`); b"": none."""
    sent_ns: int = field(default=0, init=False)
    """When the engine handed it to the target."""
    ticket: int = field(default=0, init=False)
    """The target's own, to find the request again. The engine leaves it alone."""

    def budget_ns(self, now_ns: int) -> int:
        """What is left of the deadline, at least 0. Meaningless without a deadline."""
        return max(0, self.intended_ns + self.deadline_ns - now_ns)


class Status(Enum):
    """What became of a request."""

    OK = "ok"
    """Answered as it should be."""
    REFUSED = "refused"
    """The server said no on purpose: a NACK, HTTP 429 or 503, gRPC RESOURCE_EXHAUSTED or UNAVAILABLE."""
    ERROR = "error"
    """A broken connection, a reply that can't be read, any other error status."""
    TIMEOUT = "timeout"
    """The server, or the library in between, gave up waiting. The engine's own patience makes these too."""


class Reply(NamedTuple):
    """What came back for one request."""

    status: Status
    label: str = ""
    """Class of the refusal or error, a word of a small set: "overloaded", "http 503", "connection lost". OK: ""."""
    bytes_received: int = 0
    server_ms: float | None = None
    """What the server says it spent on the request, waiting included; None: it doesn't say."""


Done: TypeAlias = Callable[[Request, Reply], None]
"""Takes the request that was sent, and its reply. Called once for each request, from the event loop."""


class Target(Protocol):
    """Something that load can be put on. One per process, used from one event loop."""

    async def open(self) -> None:
        """Connect and check what can be checked before the run. Raises TargetError that says what to do."""

    def send(self, request: Request, done: Done) -> int:
        """Send it and return how many bytes go out for it; `done` is called later, never from within `send`.

        Raises nothing: a request that can't be sent is `done` with an error like any other. What is sent within
        one pass of the loop should leave in one write.
        """

    def abandon(self, request: Request) -> None:
        """Nobody waits for this one any more: forget it, and don't call its `done`."""

    async def close(self) -> None:
        """Let go of connections. Requests still on their way are forgotten. May be called without `open`."""

    def describe(self) -> str:
        """For the head of the report, one line: "NATS 2.12 at 127.0.0.1:4222, sm.v1.default.infer.m.whole"."""


class CallTarget(ABC):
    """A base for targets whose library awaits each call: one task per request, so slower than callbacks.

    `open`, `close`, `describe` and `call` are left to write; `close` must call `cancel_calls` first.
    """

    def __init__(self) -> None:
        self._calls: dict[Request, asyncio.Task[None]] = {}

    @abstractmethod
    async def open(self) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    def describe(self) -> str: ...

    @abstractmethod
    def call(self, request: Request) -> tuple[int, Awaitable[Reply]]:
        """(bytes that go out, what is awaited for the reply). An exception that it raises becomes an error reply."""

    def send(self, request: Request, done: Done) -> int:
        size, awaited = self.call(request)
        self._calls[request] = asyncio.get_running_loop().create_task(self._follow(request, awaited, done))
        return size

    def abandon(self, request: Request) -> None:
        if task := self._calls.pop(request, None):
            task.cancel()

    async def cancel_calls(self) -> None:
        """End every call that is on its way."""
        tasks = list(self._calls.values())
        self._calls.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, request: Request, awaited: Awaitable[Reply], done: Done) -> None:
        try:
            reply = await awaited
        except Exception as exc:  # noqa: BLE001 (whatever the library raises is this request's error)
            reply = Reply(Status.ERROR, type(exc).__name__)
        if self._calls.pop(request, None) is not None:
            done(request, reply)
