"""Owns one watch of one edge: its lease, what arrives of it, and what a slow reader loses. Remembers nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Generic, TypeVar

from google.protobuf.message import Message as ProtoMessage

from splitmesh.bus.base import Bus, Message, Subscription
from splitmesh.errors import MeshError, WireError
from splitmesh.v1 import control_pb2 as pb
from splitmesh.wire import subjects
from splitmesh.wire.control import frames_from, preview_from

_log = logging.getLogger(__name__)

M = TypeVar("M", bound=ProtoMessage)

LEASE_S = 10.0
_RENEW_S = 4.0
_INBOX = 64
"""Messages that wait for a reader: more than ten seconds of one edge."""
_INBOX_BYTES = 8_000_000
"""Of them: pictures are larger than what is said of frames."""

Ask = Callable[[pb.EdgeCommand], Awaitable[pb.EdgeReply]]
Watched = pb.FrameReports | pb.Preview


class Inbox(Generic[M]):
    """What waits for one reader, in number and in bytes; full means that the oldest go, and are counted. The newest
    is kept whatever its size. One task calls `get`."""

    def __init__(self, limit: int = _INBOX, limit_bytes: int = _INBOX_BYTES) -> None:
        self._waiting: deque[tuple[M, int]] = deque()
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._there = asyncio.Event()
        self.bytes = 0
        """Of all that wait, as they go over the wire."""
        self.missed = 0
        """Since the last `take_missed`."""

    def put(self, message: M) -> None:
        size = message.ByteSize()
        self._waiting.append((message, size))
        self.bytes += size
        while len(self._waiting) > self._limit or (self.bytes > self._limit_bytes and len(self._waiting) > 1):
            self._take_oldest()
            self.missed += 1
        self._there.set()

    async def get(self) -> M:
        while not self._waiting:
            self._there.clear()
            await self._there.wait()
        return self._take_oldest()

    def _take_oldest(self) -> M:
        message, size = self._waiting.popleft()
        self.bytes -= size
        return message

    def take_missed(self) -> int:
        missed, self.missed = self.missed, 0
        return missed


async def watch_edge(
    bus: Bus, ask: Ask, tenant: str, edge: str, request: pb.WatchRequest, *, actor: str
) -> AsyncGenerator[Watched]:
    """What `edge` says while this is iterated; close it to end the lease early.

    request: its `lease_s` is of no account. Raises MeshError if the edge does not grant the first lease; later ones
    are asked for until it does again, as after its restart.
    """
    inbox: Inbox[Watched] = Inbox()
    lease = pb.WatchRequest()
    lease.CopyFrom(request)
    lease.lease_s = LEASE_S
    command = pb.EdgeCommand(actor=actor, watch=lease)
    async with contextlib.AsyncExitStack() as closing:
        for subject, read in (
            (subjects.result(tenant, edge), frames_from),
            (subjects.preview(tenant, edge), preview_from),
        ):
            interest = await bus.subscribe(subject, _sink(read, edge, inbox))
            closing.push_async_callback(_end, interest)
        await lease_granted(ask, command)
        renewing = asyncio.create_task(_renew(ask, command, edge), name=f"lease of {edge}")
        closing.push_async_callback(_cancelled, renewing)
        while True:
            yield await inbox.get()


async def lease_granted(ask: Ask, command: pb.EdgeCommand) -> None:
    """Raises WireError with the edge's words if it refuses, and what `ask` raises."""
    reply = await ask(command)
    if reply.WhichOneof("outcome") == "refused":
        raise WireError(f"{reply.edge_id} refuses the watch: {reply.refused.field} {reply.refused.detail}".strip())


async def _renew(ask: Ask, command: pb.EdgeCommand, edge: str) -> None:
    told = False
    while True:
        await asyncio.sleep(_RENEW_S)
        try:
            await lease_granted(ask, command)
            told = False
        except MeshError as exc:
            if not told:
                _log.info("the watch of %s is not renewed for now: %s", edge, exc)
            told = True


def _sink(read: Callable[..., Watched], edge: str, inbox: Inbox[Watched]) -> Callable[[Message], Awaitable[None]]:
    async def take(message: Message) -> None:
        try:
            said = read(message.payload, edge=edge)
        except WireError as exc:
            _log.debug("malformed message of %s: %s", edge, exc)
            return
        inbox.put(said)

    return take


async def _end(interest: Subscription) -> None:
    with contextlib.suppress(MeshError):
        await interest.unsubscribe()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
