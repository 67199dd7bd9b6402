"""Owns load on an HTTP/1.1 server: as many kept-alive connections as requests are on their way, none pipelined.

    http[s]://host[:port]/path

Parsing is httptools' (https://github.com/MagicStack/httptools). Refuses to follow redirects and to keep cookies.
HTTP/2 is in `http2`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import Final, cast
from urllib.parse import SplitResult

import httptools

from meshload.errors import TargetError
from meshload.target import Done, Payload, Reply, Request, Status, Target
from meshload.targets import TargetOptions
from meshload.targets.http_request import HttpRequest, answered, read_request
from meshload.targets.kept import Kept
from meshload.targets.network import advice_for, allow_files, label_for, tls_context, words_for
from splitmesh.wire.headers import trace_text

_FIRST_CONNECTIONS: Final = 16
_OTHER_FILES: Final = 64
"""Open at once beside connections."""
_FRAMED: Final = (b"\r\ncontent-length:", b"\r\ntransfer-encoding:")


class _Connection(asyncio.Protocol):
    """One connection and at most one request on it."""

    def __init__(self, pool: HttpTarget) -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self.transport: asyncio.Transport | None = None
        self.request: Request | None = None
        self._done: Done | None = None
        self._received = 0
        self._first = b""
        """What came first of an answer, if not all of it."""
        self._complete = self._keep = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def ask(self, request: Request, done: Done, message: bytes) -> None:
        self.request, self._done = request, done
        self._received = 0
        if self.transport:
            self.transport.write(message)

    def data_received(self, data: bytes) -> None:
        if self.request is None:
            self._drop()  # nobody asked: a server that says why it is about to close
            return
        if not self._received:
            self._first = b""
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._end(Reply(Status.ERROR, "protocol switched", self._received), keep=False)
            return
        except httptools.HttpParserError:
            self._end(Reply(Status.ERROR, "not HTTP", self._received), keep=False)
            return
        if self._complete:
            self._complete = False
            self._end(answered(self._parser.get_status_code(), self._received), keep=self._keep)
        elif not self._first:
            self._first = data

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() >= 200:  # below: the answer is still to come
            self._complete, self._keep = True, self._parser.should_keep_alive()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._pool.lost(self)
        if self.request is None:
            return
        if exc is None and self._ends_with_connection():
            self._end(answered(self._parser.get_status_code(), self._received), keep=False)
        else:
            self._end(Reply(Status.ERROR, "connection lost", self._received), keep=False)

    def _ends_with_connection(self) -> bool:
        """The answer names no length, so that it is whole when the server closes (RFC 9112, 6.3)."""
        head, end, _ = self._first.lower().partition(b"\r\n\r\n")
        return bool(end) and not any(field in head for field in _FRAMED)

    def _end(self, reply: Reply, *, keep: bool) -> None:
        request, done, self.request = self.request, self._done, None
        if keep and self.transport is not None:
            self._pool.idle.append(self)
        else:
            self._drop()
        if request is not None and done is not None:
            self._pool.asked.pop(request, None)
            done(request, reply)

    def _drop(self) -> None:
        if self.transport is not None:
            self._pool.lost(self)
            self.transport.close()
            self.transport = None


class HttpTarget:
    """See the module. `idle` holds connections without a request, the last used one first."""

    def __init__(self, url: str, parts: SplitResult, options: TargetOptions) -> None:
        self.url, self.options = url, options
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._secure = parts.scheme == "https"
        self.asks = read_request(url, parts, options)
        self._context: ssl.SSLContext | None = None
        self._messages = Kept(self._message, lambda message: len(message or b""))
        self._all: set[_Connection] = set()
        self.idle: list[_Connection] = []
        self.asked: dict[Request, _Connection | None] = {}
        """On their way; None: its connection is still being made."""
        self._connecting: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        allow_files(self.options.in_flight + _OTHER_FILES)
        if self._secure:
            self._context = tls_context(self.options.tls_ca, insecure=self.options.tls_insecure)
        try:
            for _ in range(min(_FIRST_CONNECTIONS, self.options.in_flight)):
                self.idle.append(await self._connect())
        except (OSError, TimeoutError) as exc:
            await self.close()
            raise TargetError(words_for(exc), url=self.url, advice=advice_for(exc, "the server")) from exc

    def send(self, request: Request, done: Done) -> int:
        message = self._messages.of(request.payload)
        if message is None:
            reply = Reply(Status.ERROR, "payload does not fit the model")
            asyncio.get_running_loop().call_soon(done, request, reply)
            return 0
        if request.trace:
            line_ends = message.index(b"\r\n") + 2
            trace = b"traceparent: %s\r\n" % (trace_text(request.trace) or "").encode()
            message = message[:line_ends] + trace + message[line_ends:]
        if self.idle:
            connection = self.idle.pop()
            self.asked[request] = connection
            connection.ask(request, done, message)
        else:
            self.asked[request] = None
            task = asyncio.get_running_loop().create_task(self._connect_and_ask(request, done, message))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
        return len(message)

    def abandon(self, request: Request) -> None:
        connection = self.asked.pop(request, None)
        if connection is not None:
            connection.request = None
            self.lost(connection)
            if connection.transport:
                connection.transport.abort()
                connection.transport = None

    async def close(self) -> None:
        self.asked.clear()
        for task in list(self._connecting):
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for connection in self._all:
            connection.request = None
            if connection.transport:
                connection.transport.abort()
        self.idle.clear()
        self._all.clear()
        await asyncio.sleep(0)  # aborted transports close their sockets in the next pass of the loop

    def describe(self) -> str:
        return f"HTTP/1.1 {self.asks.method} at {self._host}:{self._port}, up to {self.options.in_flight} connections"

    def lost(self, connection: _Connection) -> None:
        """This connection takes no more requests."""
        self._all.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)

    def _message(self, payload: Payload) -> bytes | None:
        """What goes out for each request with this payload, but for its trace; None: no request can bring it."""
        return head_of(self.asks, self.asks.fields(payload)) + self.asks.body(payload)

    async def _connect(self) -> _Connection:
        async with asyncio.timeout(self.options.connect_timeout_s):
            _, made = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self), self._host, self._port, ssl=self._context
            )
        self._all.add(made)
        return made

    async def _connect_and_ask(self, request: Request, done: Done, message: bytes) -> None:
        try:
            connection = await self._connect()
        except (OSError, TimeoutError) as exc:
            if request in self.asked:
                del self.asked[request]
                done(request, Reply(Status.ERROR, label_for(exc)))
            return
        if request not in self.asked:
            self.idle.append(connection)
            return
        self.asked[request] = connection
        connection.ask(request, done, message)


def head_of(asks: HttpRequest, fields: Sequence[tuple[str, str]]) -> bytes:
    """The request line and the header fields, to the empty line."""
    lines = [f"{asks.method} {asks.path} HTTP/1.1", f"Host: {asks.authority}"]
    lines += [f"{name}: {value}" for name, value in fields]
    return "\r\n".join((*lines, "", "")).encode("latin-1")


def http_target(url: str, parts: SplitResult, options: TargetOptions) -> Target:
    """Of either version of HTTP. Raises TargetError for what can't be sent, and for HEAD in HTTP/1.1, whose answers
    announce a body that never comes."""
    if options.http2:
        from meshload.targets.http2 import Http2Target

        return Http2Target(url, parts, options)
    if options.method.upper() == "HEAD":
        raise TargetError("--method HEAD can't be read by this client", url=url, advice="use GET, or --http2")
    return HttpTarget(url, parts, options)
