"""Owns load on an HTTP/2 server: many requests at once on few connections.

    http://host[:port]/path --http2      plain TCP, HTTP/2 from the first byte (RFC 9113, 3.3)
    https://host[:port]/path --http2     TLS, the protocol agreed by ALPN

A connection carries as many requests at once as the server allows; another is made when all are full. Refuses to fall
back to HTTP/1.1, to follow redirects, and to ask again what a server refused.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import Final
from urllib.parse import SplitResult

from meshload.errors import TargetError
from meshload.target import Done, Payload, Reply, Request, Status
from meshload.targets import TargetOptions
from meshload.targets.http2_connection import Ask, Connection, Headers
from meshload.targets.http_request import read_request
from meshload.targets.kept import Kept
from meshload.targets.network import advice_for, label_for, tls_context, words_for
from splitmesh.wire.headers import trace_text

_ALPN: Final = "h2"
_HOP_BY_HOP: Final = {"connection", "keep-alive", "proxy-connection", "upgrade"}


class Http2Target:
    """See the module. Raises TargetError for a header field that HTTP/2 does not have."""

    def __init__(self, url: str, parts: SplitResult, options: TargetOptions) -> None:
        self._url, self._options = url, options
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._secure else 80)
        self._context: ssl.SSLContext | None = None
        self._asks = asks = read_request(url, parts, options)
        for name, _ in asks.headers:
            if name.lower() in _HOP_BY_HOP:
                raise TargetError(f"HTTP/2 has no header {name}", url=url, advice="leave it out")
        self._pseudo: Headers = [
            (b":method", asks.method.encode()),
            (b":scheme", parts.scheme.encode()),
            (b":authority", asks.authority.encode("latin-1")),
            (b":path", asks.path.encode()),
        ]
        self._messages = Kept(self._message, lambda _: 0)  # a body is the payload's own
        self._connections: list[Connection] = []
        self._queue: deque[Ask] = deque()
        """Have no connection with room yet."""
        self._connecting: asyncio.Task[None] | None = None
        self._closed = False

    async def open(self) -> None:
        if self._secure:
            self._context = tls_context(self._options.tls_ca, insecure=self._options.tls_insecure)
            self._context.set_alpn_protocols([_ALPN])
        try:
            made = await self._connect()
        except (OSError, TimeoutError, ValueError) as exc:
            foreign = isinstance(exc, ValueError) and not isinstance(exc, OSError)  # errors of certificates are both
            advice = "leave --http2 out" if foreign else advice_for(exc, "the server")
            raise TargetError(f"{words_for(exc)}{' than HTTP/2' * foreign}", url=self._url, advice=advice) from exc
        self._connections.append(made)
        if not made.takes(self._message(Payload(b""))[0]):
            raise TargetError(
                "its header fields are larger than the server takes", url=self._url, advice="send fewer"
            )

    def describe(self) -> str:
        where = f"{self._host}:{self._port} ({'TLS' if self._secure else 'plain'})"
        most = self._connections[0].most_streams if self._connections else 0
        room = f"up to {most} requests on a connection" if 0 < most < 2**31 else "all requests on one connection"
        return f"HTTP/2 {self._asks.method} at {where}, {room}"

    def send(self, request: Request, done: Done) -> int:
        """As the protocol says; the size is that of body and header text, before it is compressed."""
        headers, body = self._messages.of(request.payload)
        if traceparent := trace_text(request.trace):
            headers = [*headers, (b"traceparent", traceparent.encode())]
        self._queue.append(Ask(request, done, headers, body))
        self._pump()
        return len(body) + sum(len(name) + len(value) for name, value in headers)

    def abandon(self, request: Request) -> None:
        if any(connection.cancel(request) for connection in self._connections):
            self._pump()
            return
        self._queue = deque(ask for ask in self._queue if ask.request is not request)

    async def close(self) -> None:
        self._closed = True
        self._queue.clear()
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        for connection in list(self._connections):
            connection.close()
        self._connections = []
        await asyncio.sleep(0)  # transports close their sockets in the next pass of the loop

    def _pump(self) -> None:
        """Put what waits on connections with room; make another one if there is none."""
        while self._queue:
            free = next((each for each in self._connections if each.has_room), None)
            if free is None:
                if self._connecting is None and not self._closed:
                    loop = asyncio.get_running_loop()
                    self._connecting = loop.create_task(self._connect_more(), name="HTTP/2 connect")
                return
            free.ask(self._queue.popleft())

    async def _connect(self) -> Connection:
        """Made and greeted. Raises OSError, TimeoutError, ValueError for a server that speaks no HTTP/2."""
        async with asyncio.timeout(self._options.connect_timeout_s):
            _, made = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self._pump, self._lost), self._host, self._port, ssl=self._context
            )
            try:
                if self._secure and made.alpn != _ALPN:
                    raise ValueError("no HTTP/2 was agreed")
                await made.greeted()
            except BaseException:
                made.close()
                raise
        return made

    async def _connect_more(self) -> None:
        failure: Reply | None = None
        try:
            connection = await self._connect()
        except (OSError, TimeoutError) as exc:
            failure = Reply(Status.ERROR, label_for(exc))
        except ValueError:
            failure = Reply(Status.ERROR, "protocol error")
        else:
            self._connections.append(connection)
            if not connection.has_room:
                failure = Reply(Status.REFUSED, "no streams allowed")
        self._connecting = None
        if failure is None:
            self._pump()
            return
        failed, self._queue = self._queue, deque()
        for ask in failed:
            ask.done(ask.request, failure)

    def _lost(self, connection: Connection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)

    def _message(self, payload: Payload) -> tuple[Headers, bytes]:
        fields = [(name.lower().encode(), value.encode("latin-1")) for name, value in self._asks.fields(payload)]
        return [*self._pseudo, *fields], self._asks.body(payload)
