"""Owns load on an HTTP/1.1 server: as many kept-alive connections as requests are on their way, none pipelined.

    http[s]://host[:port]/path

Parsing is httptools' (https://github.com/MagicStack/httptools). Refuses to follow redirects and to keep cookies.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import cast
from urllib.parse import SplitResult

import httptools

from meshload.errors import TargetError
from meshload.target import Done, Payload, Reply, Request, Status
from meshload.targets import TargetOptions
from meshload.targets.network import advice_for, tls_context, words_for
from splitmesh.wire.headers import trace_text

_FIRST_CONNECTIONS = 16
_REFUSALS = {429, 503}
_BODILESS = {"GET"}


class _Connection(asyncio.Protocol):
    """One connection and at most one request on it."""

    def __init__(self, pool: HttpTarget) -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self.transport: asyncio.Transport | None = None
        self.request: Request | None = None
        self._done: Done | None = None
        self._received = 0
        self._complete = self._keep = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def ask(self, request: Request, done: Done, message: bytes) -> None:
        self.request, self._done = request, done
        self._received = 0
        if self.transport:
            self.transport.write(message)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._end(Reply(Status.ERROR, "not HTTP", self._received), keep=False)
            return
        if self._complete:
            self._complete = False
            self._answered()

    def on_message_complete(self) -> None:
        self._complete, self._keep = True, self._parser.should_keep_alive()

    def _answered(self) -> None:
        status = self._parser.get_status_code()
        if status < 400:
            reply = Reply(Status.OK, "", self._received)
        elif status in _REFUSALS:
            reply = Reply(Status.REFUSED, f"http {status}", self._received)
        else:
            reply = Reply(Status.ERROR, f"http {status}", self._received)
        self._end(reply, keep=self._keep)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._pool.lost(self)
        if self.request is not None:
            self._end(Reply(Status.ERROR, "connection lost", self._received), keep=False)

    def _end(self, reply: Reply, *, keep: bool) -> None:
        request, done, self.request = self.request, self._done, None
        if self.transport is not None:
            if keep:
                self._pool.idle.append(self)
            else:
                self._pool.lost(self)
                self.transport.close()
                self.transport = None
        if request is not None and done is not None:
            self._pool.asked.pop(request, None)
            done(request, reply)


class HttpTarget:
    """See the module. `idle` holds connections without a request, the last used one first."""

    def __init__(self, url: str, parts: SplitResult, options: TargetOptions) -> None:
        self.url, self.options = url, options
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._secure = parts.scheme == "https"
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._method = options.method.upper()
        self._netloc = parts.netloc.rpartition("@")[2]
        self._context: ssl.SSLContext | None = None
        self._messages: dict[Payload, bytes] = {}
        self._all: set[_Connection] = set()
        self.idle: list[_Connection] = []
        self.asked: dict[Request, _Connection | None] = {}
        """On their way; None: its connection is still being made."""
        self._connecting: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        if self._secure:
            self._context = tls_context(self.options.tls_ca, insecure=self.options.tls_insecure)
        try:
            for _ in range(min(_FIRST_CONNECTIONS, self.options.in_flight)):
                self.idle.append(await self._connect())
        except (OSError, TimeoutError) as exc:
            await self.close()
            raise TargetError(words_for(exc), url=self.url, advice=advice_for(exc, "the server")) from exc

    def send(self, request: Request, done: Done) -> int:
        message = self._messages.get(request.payload)
        if message is None:
            message = self._messages[request.payload] = self._message(request.payload)
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
        return f"HTTP/1.1 {self._method} at {self._host}:{self._port}, up to {self.options.in_flight} connections"

    def lost(self, connection: _Connection) -> None:
        """This connection takes no more requests."""
        self._all.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)

    def _message(self, payload: Payload) -> bytes:
        """What goes out for each request with this payload, but for its trace."""
        lines = [f"{self._method} {self._path} HTTP/1.1", f"Host: {self._netloc}"]
        lines += [f"{name}: {value}" for name, value in self.options.headers]
        body = b"" if self._method in _BODILESS else payload.body
        if body or self._method not in _BODILESS:
            lines += [f"Content-Length: {len(body)}", f"Content-Type: {payload.content_type}"]
        return "\r\n".join((*lines, "", "")).encode("latin-1") + body

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
                done(request, Reply(Status.ERROR, _connect_label(exc)))
            return
        if request not in self.asked:
            self.idle.append(connection)
            return
        self.asked[request] = connection
        connection.ask(request, done, message)


def _connect_label(exc: Exception) -> str:
    if isinstance(exc, ConnectionRefusedError):
        return "connection refused"
    if isinstance(exc, TimeoutError):
        return "connect timed out"
    if isinstance(exc, ssl.SSLError):
        return "TLS failed"
    return "too many open files" if isinstance(exc, OSError) and exc.errno == 24 else "can't connect"


def http_target(url: str, parts: SplitResult, options: TargetOptions) -> HttpTarget:
    """Raises TargetError for HEAD, whose answers announce a body that never comes."""
    if options.method.upper() == "HEAD":
        raise TargetError("--method HEAD can't be read by this client", url=url, advice="use GET")
    return HttpTarget(url, parts, options)
