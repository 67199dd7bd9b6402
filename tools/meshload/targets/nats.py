"""Owns load on a NATS broker: what all of it shares, and plain requests to any responder.

    nats-raw://host[:port]/subject            whoever answers on the subject

Works on the socket itself (https://docs.nats.io/reference/reference-protocols/nats-protocol): one connection, one
subscription for all replies. The mesh's own requests are in `mesh`.
"""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from typing import ClassVar
from urllib.parse import SplitResult

from meshload.errors import TargetError
from meshload.target import Done, Reply, Request, Status
from meshload.targets import TargetOptions
from meshload.targets.nats_wire import Connection, connect
from splitmesh.errors import WireError

_RETRY_S = 0.25
MAX_UNWRITTEN_BYTES = 256 * 1024 * 1024
"""Of requests that the broker has not taken yet, those among them that nobody waits for any more."""
_SUBJECT = re.compile(r"[^\s.*>]+(\.[^\s.*>]+)*")


class Unsendable(WireError):
    """A request that can't be sent; `label`: why, as a class of errors."""

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.label = label


class NatsTarget(ABC):
    """What both kinds share: a connection, replies by number, and its loss."""

    scheme: ClassVar[str]

    def __init__(self, url: str, parts: SplitResult, options: TargetOptions) -> None:
        self.url, self.options = url, options
        self._parts = parts
        self._connection: Connection | None = None
        self._waiting: dict[int, tuple[Request, Done]] = {}
        self._ticket = 0
        self._out: list[bytes] = []
        self._reconnecting: asyncio.Task[None] | None = None
        self._closed = False
        self._version = ""

    async def open(self) -> None:
        self._connection = await self._connect()
        self._version = self._connection.server_version
        await self.prepare(self._connection)

    async def close(self) -> None:
        self._closed = True
        self._waiting.clear()
        if self._reconnecting:
            self._reconnecting.cancel()
            await asyncio.gather(self._reconnecting, return_exceptions=True)
        if self._connection:
            await self._connection.close()

    def send(self, request: Request, done: Done) -> int:
        self._ticket = ticket = self._ticket + 1
        connection = self._connection
        if connection is None:
            self._refuse(request, done, "not connected")
            return 0
        if connection.unwritten_bytes > MAX_UNWRITTEN_BYTES:
            self._refuse(request, done, "the broker takes no more")
            return 0
        try:
            subject, body = self.message(request)
        except WireError as exc:
            self._refuse(request, done, exc.label if isinstance(exc, Unsendable) else "unsendable")
            return 0
        if len(body) > connection.max_payload_bytes:
            self._refuse(request, done, "larger than the broker's limit")
            return 0
        self._waiting[ticket] = (request, done)
        request.ticket = ticket
        out = self._out
        if not out:
            asyncio.get_running_loop().call_soon(self._flush)
        out += (subject, b"%x %d\r\n" % (ticket, len(body)), body, b"\r\n")
        return len(body)

    def abandon(self, request: Request) -> None:
        self._waiting.pop(request.ticket, None)

    @abstractmethod
    async def prepare(self, connection: Connection) -> None:
        """What is to be found out before requests can be sent. Raises TargetError."""

    @abstractmethod
    def message(self, request: Request) -> tuple[bytes, bytes]:
        """(`PUB <subject> <inbox>.`, body). Raises WireError for what can't be sent, Unsendable with the reason."""

    @abstractmethod
    def reply(self, body: bytes) -> Reply: ...

    def nobody(self, request: Request) -> None:  # noqa: B027 - most have nothing to do
        """Nobody listens on the subject that `request` went to."""

    @abstractmethod
    def describe(self) -> str: ...

    @property
    def address(self) -> str:
        return f"{self._parts.hostname}:{self._parts.port or 4222}"

    @property
    def inbox(self) -> bytes:
        return self._connection.inbox if self._connection else b""

    async def _connect(self) -> Connection:
        return await connect(self.url, self._parts, self.options, self._on_reply, self._on_lost)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._connection:
            self._connection.write(b"".join(out))

    def _on_reply(self, ticket: int, body: bytes | None) -> None:
        """`body` None: nobody listens on the subject."""
        found = self._waiting.pop(ticket, None)
        if found is None:
            return
        request, done = found
        if body is None:
            self.nobody(request)
            done(request, Reply(Status.ERROR, "no responders"))
            return
        done(request, self.reply(body))

    def _on_lost(self, why: str) -> None:
        self._connection = None
        self._out.clear()
        lost, self._waiting = self._waiting, {}
        for request, done in lost.values():
            done(request, Reply(Status.ERROR, why))
        if not self._closed:
            self._reconnecting = asyncio.get_running_loop().create_task(self._reconnect())

    async def _reconnect(self) -> None:
        while not self._closed:
            await asyncio.sleep(_RETRY_S)
            try:
                self._connection = await self._connect()
            except TargetError:
                continue
            self.connected_again()
            return

    @abstractmethod
    def connected_again(self) -> None:
        """The inbox is another one now."""

    def _refuse(self, request: Request, done: Done, label: str) -> None:
        asyncio.get_running_loop().call_soon(done, request, Reply(Status.ERROR, label))


class RawTarget(NatsTarget):
    """Any responder on a subject. Payloads go out as they are; any reply counts as an answer."""

    scheme = "nats-raw"

    def __init__(self, url: str, parts: SplitResult, options: TargetOptions) -> None:
        super().__init__(url, parts, options)
        self._subject = parts.path.strip("/")
        if not _SUBJECT.fullmatch(self._subject):
            raise TargetError("names no subject", url=url, advice="write it as nats-raw://host:port/my.subject")
        self._head = b""

    async def prepare(self, connection: Connection) -> None:
        self.connected_again()

    def connected_again(self) -> None:
        self._head = b"PUB %s %s" % (self._subject.encode(), self.inbox)

    def message(self, request: Request) -> tuple[bytes, bytes]:
        return self._head, request.payload.body

    def reply(self, body: bytes) -> Reply:
        return Reply(Status.OK, "", len(body))

    def describe(self) -> str:
        return f"NATS {self._version} at {self.address}, subject {self._subject}"


def raw_target(url: str, parts: SplitResult, options: TargetOptions) -> RawTarget:
    """Raises TargetError for a path that is no subject."""
    return RawTarget(url, parts, options)
