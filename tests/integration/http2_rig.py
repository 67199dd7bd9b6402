"""An HTTP/2 server on h2's own server side."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame

from meshload.target import Payload, Reply, Request, Target
from meshload.targets import TargetOptions, open_target


class Http2Server:
    """Echoes bodies; the path says what else it shall do."""

    def __init__(self, **settings: int) -> None:
        self.settings = {"max_concurrent_streams": 100} | settings
        self.connections: list[Talk] = []
        self.most_at_once = 0
        self.held: list[Callable[[], None]] = []
        """Answers that "/hold" keeps back."""
        self.listening: asyncio.Server | None = None

    async def die(self) -> None:
        """As a killed process does."""
        if self.listening is not None:
            self.listening.close()
        for talk in self.connections:
            talk.transport.abort()
        await asyncio.sleep(0)


class Talk(asyncio.Protocol):
    def __init__(self, server: Http2Server) -> None:
        self.server = server
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.headers: dict[int, dict[str, str]] = {}
        self.bodies: defaultdict[int, bytes] = defaultdict(bytes)
        self.left: dict[int, bytes] = {}
        self.transport: Any = None
        self.cancelled: list[int] = []
        self.early: set[int] = set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.server.connections.append(self)
        self.h2.initiate_connection()
        self.allow(**self.server.settings)

    def data_received(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            if isinstance(event, events.RequestReceived):
                self.headers[event.stream_id] = dict(event.headers)
                self.server.most_at_once = max(self.server.most_at_once, self.h2.open_inbound_streams)
            elif isinstance(event, events.DataReceived):
                self.bodies[event.stream_id] += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if self.headers[event.stream_id][":path"] == "/early" and event.stream_id not in self.early:
                    self.early.add(event.stream_id)
                    self.answer(event.stream_id, 413, b"too large")
            elif isinstance(event, events.StreamReset):
                self.cancelled.append(event.stream_id)
            elif isinstance(event, events.StreamEnded):
                self.asked(event.stream_id)
        self.push()
        self.flush()

    def asked(self, stream: int) -> None:
        path = self.headers[stream][":path"]
        if path == "/hold":
            self.server.held.append(lambda: self.answer(stream, 200, self.bodies[stream]))
        elif path == "/refuse":
            self.h2.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
        elif path == "/break":
            self.h2.reset_stream(stream, ErrorCodes.INTERNAL_ERROR)
        elif path == "/go":
            self.goaway(max(0, stream - 2))
        elif path == "/calm":
            self.goaway(max(0, stream - 2), ErrorCodes.ENHANCE_YOUR_CALM)
        elif path == "/die":
            self.transport.abort()
        elif path.startswith("/status/"):
            self.answer(stream, int(path.rpartition("/")[2]), b"")
        elif path.startswith("/bytes/"):
            self.answer(stream, 200, bytes(int(path.rpartition("/")[2])))
        else:
            self.answer(stream, 200, self.bodies[stream])

    def goaway(self, last: int, code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        """Say so past h2, which would not send anything after it."""
        self.flush()
        frame = GoAwayFrame(0)
        frame.last_stream_id, frame.error_code, frame.additional_data = last, code, b"because"
        self.transport.write(frame.serialize())

    def allow(self, **settings: int) -> None:
        """Change what the client may do: `max_concurrent_streams`, `initial_window_size`, …"""
        self.h2.update_settings({SettingCodes[name.upper()]: value for name, value in settings.items()})
        self.flush()

    def answer(self, stream: int, status: int, body: bytes) -> None:
        self.h2.send_headers(stream, [(":status", str(status))])
        self.left[stream] = body
        self.push()
        self.flush()

    def push(self) -> None:
        for stream, body in list(self.left.items()):
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            while body and room > 0:
                self.h2.send_data(stream, body[:room])
                body = body[room:]
                room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            self.left[stream] = body
            if not body:
                self.h2.end_stream(stream)
                del self.left[stream]

    def flush(self) -> None:
        self.transport.write(self.h2.data_to_send())


@asynccontextmanager
async def serving(context: ssl.SSLContext | None = None, **options: int) -> AsyncIterator[tuple[Http2Server, str]]:
    server = Http2Server(**options)
    listening = await asyncio.get_running_loop().create_server(lambda: Talk(server), "127.0.0.1", 0, ssl=context)
    server.listening = listening
    port = listening.sockets[0].getsockname()[1]
    try:
        yield server, f"{'https' if context else 'http'}://127.0.0.1:{port}"
    finally:
        await server.die()
        await listening.wait_closed()


@asynccontextmanager
async def target_on(url: str, **options: Any) -> AsyncIterator[Target]:
    target = open_target(url, TargetOptions(http2=True, **options))
    try:
        await target.open()
        yield target
    finally:
        await target.close()


class Sent:
    """Requests on their way, and what became of them."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.requests: list[Request] = []
        self.replies: dict[int, Reply] = {}
        self.changed = asyncio.Event()

    def send(self, body: bytes = b"", **more: Any) -> Request:
        request = Request(
            Payload(body, **more.pop("payload", {})), len(self.requests), "r", time.monotonic_ns(), **more
        )
        self.requests.append(request)
        self.target.send(request, self._done)
        return request

    def _done(self, request: Request, reply: Reply) -> None:
        assert request.seq not in self.replies
        self.replies[request.seq] = reply
        self.changed.set()

    async def all(self, count: int | None = None) -> list[Reply]:
        async with asyncio.timeout(20):
            while len(self.replies) < (len(self.requests) if count is None else count):
                self.changed.clear()
                await self.changed.wait()
        return [self.replies[seq] for seq in sorted(self.replies)]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.005)
