"""Owns how `bench.serving` reaches each kind of server: one request out, one reply back, as cheaply as Python can.

The load shares its cores with what it measures, so NATS and HTTP are spoken by hand, over asyncio protocols.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import socket
from collections import deque
from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

from splitmesh.v1 import infer_pb2 as pb

Reply = str
"""How a request ended: "ok", or the name of a refusal."""
WHOLE_BUDGET_US = 600_000_000


class Caller(Protocol):
    """One system's client. `call` may run many times at once, on one event loop."""

    def call(self, index: int, budget_us: int = WHOLE_BUDGET_US) -> Awaitable[Reply]:
        """Send payload `index` (any number: payloads repeat), return once its reply is there. `budget_us` goes along
        where the protocol has a place for it.
        """

    def close(self) -> None: ...


class NatsWire(asyncio.Protocol):
    """A NATS connection that publishes with a reply subject and hands each reply to the future that waits for it."""

    def __init__(self) -> None:
        self._rest = b""
        self._numbers = itertools.count()
        self._waiting: dict[bytes, asyncio.Future[bytes]] = {}
        self._inbox = b"_B.%x" % id(self)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.write(b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB %b.* 1\r\n' % self._inbox)

    def request(self, subject: bytes, *parts: bytes) -> asyncio.Future[bytes]:
        token = b"%x" % next(self._numbers)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[token] = future
        head = b"PUB %b %b.%b %d\r\n" % (subject, self._inbox, token, sum(map(len, parts)))
        self.transport.writelines((head, *parts, b"\r\n"))
        return future

    def data_received(self, data: bytes) -> None:
        data, at = self._rest + data if self._rest else data, 0
        while (end := data.find(b"\r\n", at)) >= 0:
            words = data[at:end].split()
            if words and words[0] == b"MSG":
                last = end + 2 + int(words[-1])
                if len(data) < last + 2:
                    break
                future = self._waiting.pop(words[1].rpartition(b".")[2], None)
                if future is not None and not future.done():
                    future.set_result(data[end + 2 : last])
                at = last + 2
                continue
            if words and words[0] == b"PING":
                self.transport.write(b"PONG\r\n")
            elif words and words[0] == b"-ERR":
                raise RuntimeError(f"the broker says {data[at:end]!r}")
            at = end + 2
        self._rest = data[at:]


class MeshCaller:
    """Full requests of the mesh's own protocol, to the worker that has the fewest of ours in flight."""

    def __init__(self, wire: NatsWire, subjects: Sequence[str], request: pb.InferRequest, bodies: Sequence[bytes]):
        self._wire = wire
        self._subjects = [subject.encode() for subject in subjects]
        self._in_flight = [0] * len(subjects)
        self._bodies = []
        for body in bodies:
            request.payload = body
            self._bodies.append(request.SerializeToString())

    async def call(self, index: int, budget_us: int = WHOLE_BUDGET_US) -> Reply:
        own = pb.InferRequest(frame_id=f"load.{id(self):x}.{index}", budget_us=budget_us).SerializeToString()
        place = min(range(len(self._in_flight)), key=self._in_flight.__getitem__)
        self._in_flight[place] += 1
        try:
            raw = await self._wire.request(self._subjects[place], self._bodies[index % len(self._bodies)], own)
        finally:
            self._in_flight[place] -= 1
        reply = pb.InferReply.FromString(raw)
        return "ok" if reply.HasField("answer") else pb.NackCode.Name(reply.nack.code)

    def close(self) -> None:
        self._wire.transport.close()


class NatsCaller:
    """Bare bodies to one subject."""

    def __init__(self, wire: NatsWire, subject: str, bodies: Sequence[bytes]) -> None:
        self._wire, self._subject, self._bodies = wire, subject.encode(), bodies

    async def call(self, index: int, budget_us: int = WHOLE_BUDGET_US) -> Reply:
        await self._wire.request(self._subject, self._bodies[index % len(self._bodies)])
        return "ok"

    def close(self) -> None:
        self._wire.transport.close()


class _HttpWire(asyncio.Protocol):
    """One keep-alive connection, one request at a time. Understands bodies with a length and chunked ones."""

    def __init__(self) -> None:
        self._data = b""
        self._waiting: asyncio.Future[int] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionError("the server closed the connection"))

    def request(self, head: bytes, body: bytes) -> asyncio.Future[int]:
        self._waiting = asyncio.get_running_loop().create_future()
        self.transport.writelines((head, body))
        return self._waiting

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, separator, body = self._data.partition(b"\r\n\r\n")
        if not separator or self._waiting is None:
            return
        fields = head.lower()
        if b"transfer-encoding: chunked" in fields:
            whole = body.endswith(b"0\r\n\r\n")
        else:
            whole = len(body) >= int(fields.partition(b"content-length:")[2].split(None, 1)[0])
        if whole:
            self._data = b""
            self._waiting.set_result(int(head.split(None, 2)[1]))


class HttpCaller:
    """POSTs a body; opens as many connections as there are requests at once, and keeps them."""

    def __init__(self, port: int, path: str, content: str, bodies: Sequence[bytes]) -> None:
        self._port = port
        self._bodies = bodies
        start = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content}\r\n"
        start += "Inference-Header-Content-Length: 0\r\n"  # Triton: the body is the input, without JSON before it
        self._heads = [f"{start}Content-Length: {len(body)}\r\n\r\n".encode() for body in bodies]
        self._idle: deque[_HttpWire] = deque()
        self._all: list[_HttpWire] = []

    async def call(self, index: int, budget_us: int = WHOLE_BUDGET_US) -> Reply:
        wire = self._idle.pop() if self._idle else await self._connect()
        place = index % len(self._bodies)
        status = await wire.request(self._heads[place], self._bodies[place])
        self._idle.append(wire)
        return "ok" if status == 200 else f"HTTP {status}"

    async def _connect(self) -> _HttpWire:
        _, wire = await asyncio.get_running_loop().create_connection(_HttpWire, "127.0.0.1", self._port)
        self._all.append(wire)
        return wire

    def close(self) -> None:
        for wire in self._all:
            wire.transport.close()


class GrpcCaller:
    """Unary calls of bare bytes, to the server process that has the fewest of ours in flight."""

    def __init__(self, ports: Sequence[int], method: str, bodies: Sequence[bytes]) -> None:
        import grpc.aio

        self._channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}") for port in ports]
        self._calls = [channel.unary_unary(method) for channel in self._channels]
        self._in_flight = [0] * len(ports)
        self._bodies = bodies

    async def call(self, index: int, budget_us: int = WHOLE_BUDGET_US) -> Reply:
        place = min(range(len(self._in_flight)), key=self._in_flight.__getitem__)
        self._in_flight[place] += 1
        try:
            await self._calls[place](self._bodies[index % len(self._bodies)])
        finally:
            self._in_flight[place] -= 1
        return "ok"

    def close(self) -> None:
        pass  # the process ends


async def open_caller(spec: dict[str, Any], bodies: Sequence[bytes]) -> Caller:
    """`spec` as `bench.serving_systems` writes it: "kind", and what that kind needs."""
    if spec["kind"] == "http":
        if spec["json"]:
            bodies = [json.dumps({"body": base64.b64encode(body).decode()}).encode() for body in bodies]
        content = "application/json" if spec["json"] else "application/octet-stream"
        return HttpCaller(spec["ports"][0], spec["path"], content, bodies)
    if spec["kind"] == "grpc":
        return GrpcCaller(spec["ports"], spec["path"], bodies)
    _, wire = await asyncio.get_running_loop().create_connection(NatsWire, "127.0.0.1", spec["ports"][0])
    if spec["kind"] == "nats":
        return NatsCaller(wire, spec["path"], bodies)
    digest = bytes.fromhex(spec["sha256"])
    request = pb.InferRequest(edge_id="load", model=spec["model"], model_digest=digest, cut=spec["cut"])
    return MeshCaller(wire, spec["subjects"], request, bodies)
