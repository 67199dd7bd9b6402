"""Owns load on a NATS broker: the mesh's own requests to its workers, and plain ones to any responder.

    nats://host[:port]/tenant/model[/cut]     a pool of workers, in the mesh's own protocol
    nats-raw://host[:port]/subject            whoever answers on the subject

Works on the socket itself (https://docs.nats.io/reference/reference-protocols/nats-protocol): one connection, one
subscription for all replies. Refuses to send into the mesh before a worker was heard that holds the model.
"""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from typing import ClassVar
from urllib.parse import SplitResult

from google.protobuf.message import DecodeError

from meshload.errors import TargetError
from meshload.payloads.envelope import Envelope, Work
from meshload.target import Done, Payload, Reply, Request, Status
from meshload.targets import TargetOptions
from meshload.targets.nats_wire import Connection, connect
from splitmesh.errors import MeshError, WireError
from splitmesh.v1 import infer_pb2 as pb
from splitmesh.wire import subjects
from splitmesh.wire.headers import MAX_BUDGET_US
from splitmesh.wire.messages import Heartbeat, NackCode

_HEARD_S = 3.0
"""Workers say five times a second that they are there."""
_RETRY_S = 0.25
_NO_DEADLINE_US = 60_000_000
_SUBJECT = re.compile(r"[^\s.*>]+(\.[^\s.*>]+)*")
_LABELS = {code.value: code.label for code in NackCode}


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
        try:
            subject, body = self.message(request)
        except WireError:
            self._refuse(request, done, "unsendable")
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
        """(`PUB <subject> <inbox>.`, body). Raises WireError for what can't be sent."""

    @abstractmethod
    def reply(self, body: bytes) -> Reply: ...

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


class MeshTarget(NatsTarget):
    """A pool of workers of the mesh. Requests carry fresh frame ids, budgets and traces around prepared payloads."""

    scheme = "nats"

    def __init__(self, url: str, parts: SplitResult, options: TargetOptions) -> None:
        super().__init__(url, parts, options)
        names = parts.path.strip("/").split("/")
        try:
            self._tenant, self._model, *cut = names
            self._cut = "" if cut in ([], [subjects.WHOLE]) else "/".join(cut)
            subjects.infer(self._tenant, self._model, self._cut)
        except (ValueError, MeshError) as exc:
            raise TargetError(
                f"is not tenant/model[/cut]: {exc}" if isinstance(exc, MeshError) else "is not tenant/model[/cut]",
                url=url,
                advice="write it as nats://host:4222/default/coco-ssdlite",
            ) from exc
        self._digest = ""
        self._heads: dict[tuple[str, str], bytes] = {}
        self._envelopes: dict[Payload, Envelope] = {}

    async def prepare(self, connection: Connection) -> None:
        """Hear which weights the workers hold: a request names them."""
        beats: asyncio.Queue[bytes] = asyncio.Queue()
        connection.listen(subjects.load(self._tenant), beats.put_nowait)
        heard: set[str] = set()
        try:
            async with asyncio.timeout(_HEARD_S):
                while not self._digest:
                    self._hear(await beats.get(), heard)
        except TimeoutError:
            known = f"workers heard hold {', '.join(sorted(heard))}" if heard else "no worker was heard"
            raise TargetError(
                f"nobody serves {self._model} at cut {self._cut or subjects.WHOLE}: {known}",
                url=self.url,
                advice="start one: splitmesh cloud --help",
            ) from None
        connection.unlisten()

    def _hear(self, raw: bytes, heard: set[str]) -> None:
        try:
            beat = Heartbeat.decode(raw)
        except WireError:
            return
        for hosted in beat.models:
            heard |= {f"{hosted.model}/{cut}" for cut in (subjects.WHOLE, *hosted.cuts)}
            if hosted.model == self._model and (not self._cut or self._cut in hosted.cuts):
                self._digest = hosted.model_sha256

    def connected_again(self) -> None:
        self._heads.clear()

    def message(self, request: Request) -> tuple[bytes, bytes]:
        payload = request.payload
        envelope = self._envelopes.get(payload)
        if envelope is None:
            work = Work(payload.model or self._model, payload.model_sha256 or self._digest, payload.cut or self._cut)
            envelope = self._envelopes[payload] = Envelope(work, payload.data)
        head = self._heads.get((request.tenant, payload.cut))
        if head is None:
            subject = subjects.infer(request.tenant or self._tenant, self._model, payload.cut or self._cut)
            head = b"PUB %s %s" % (subject.encode(), self.inbox)
            self._heads[request.tenant, payload.cut] = head
        left_us = _NO_DEADLINE_US
        if request.deadline_ns:
            left_us = min(request.budget_ns(request.sent_ns) // 1000, MAX_BUDGET_US)
        frame_id = f"{request.edge}.{request.run}.{request.seq}"
        return head, envelope.stamp(frame_id, budget_us=left_us, trace=request.trace)

    def reply(self, body: bytes) -> Reply:
        try:
            message = pb.InferReply.FromString(body)
        except DecodeError:
            return Reply(Status.ERROR, "unreadable reply", len(body))
        if message.HasField("answer"):
            times = message.times
            spent_us = times.queue_us + times.decode_us + times.service_us + times.postprocess_us
            return Reply(Status.OK, "", len(body), spent_us / 1000)
        return Reply(Status.REFUSED, _LABELS.get(message.nack.code, "unknown refusal"), len(body))

    def describe(self) -> str:
        work = f"{self._model} at cut {self._cut or subjects.WHOLE}, tenant {self._tenant}"
        return f"mesh on NATS {self._version} at {self.address}, {work}"


def mesh_target(url: str, parts: SplitResult, options: TargetOptions) -> MeshTarget:
    """Raises TargetError for a path that is not tenant/model[/cut]."""
    return MeshTarget(url, parts, options)


def raw_target(url: str, parts: SplitResult, options: TargetOptions) -> RawTarget:
    """Raises TargetError for a path that is no subject."""
    return RawTarget(url, parts, options)
