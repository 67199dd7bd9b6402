"""Owns the TCP side of a NATS connection: a socket that shows its backlog and can't outlive a dead link.

nats-py waits, without limit, for a lost connection's last bytes before it connects again, and stops reading for good
when an answer to an abandoned ping arrives. Both are put right here and nowhere else. It also hands every message
from task to task: here one goes to its taker as soon as it was read, and to the socket as soon as it was made.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import ParseResult

from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport

from splitmesh.bus.base import Message
from splitmesh.bus.security import NO_SECURITY, Security, SecurityError

Take = Callable[[Message], None]
"""Called on the event loop, in order of arrival; must neither wait nor raise."""

_UNSENT_BYTES = 64 * 1024
"""The kernel takes no more unsent bytes than this, so that the rest shows in `backlog_bytes`."""
_UNACKED_MS = 15_000
_CLOSE_S = 1.0


class LinkTransport(TcpTransport):
    """A TCP (or TLS) connection that is dropped, not flushed, when it is closed with bytes still waiting."""

    def __bool__(self) -> bool:
        return True  # else the client would put a transport of its own in our place

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        if self._io_writer is not None:
            _abort(self._io_writer)  # an attempt that failed after the TCP connection stood leaves it open
        async with asyncio.timeout(connect_timeout):
            reader, writer = await asyncio.open_connection(uri.hostname, uri.port, limit=buffer_size)
        self._bare_io_reader = self._io_reader = reader
        self._bare_io_writer = self._io_writer = writer
        raw = writer.get_extra_info("socket")
        for option, value in (("TCP_NOTSENT_LOWAT", _UNSENT_BYTES), ("TCP_USER_TIMEOUT", _UNACKED_MS)):
            if hasattr(socket, option):  # not every platform knows them
                raw.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    async def connect_tls(
        self, uri: str | ParseResult, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: int
    ) -> None:
        if self._io_writer is None:
            raise ConnectionError("TLS before TCP")
        await super().connect_tls(uri, ssl_context, buffer_size, connect_timeout)

    @property
    def encrypted(self) -> bool:
        return self._io_writer is not None and self._io_writer.get_extra_info("ssl_object") is not None

    @property
    def backlog_bytes(self) -> int:
        """Bytes that the client wrote and the kernel has not taken; 0 once the connection ends: nobody sends them."""
        if self._io_writer is None or self._io_writer.transport.is_closing():
            return 0
        return self._io_writer.transport.get_write_buffer_size()

    def send(self, parts: list[bytes]) -> None:
        """To the socket, and what it does not take to the backlog."""
        if self._io_writer is not None:
            self._io_writer.writelines(parts)

    def close(self) -> None:
        if self._io_writer is None:
            return
        if self.backlog_bytes:
            _abort(self._io_writer)
        else:
            self._io_writer.close()

    async def wait_closed(self) -> None:
        if self._io_writer is None:
            return
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self._io_writer.wait_closed()
                return
        _abort(self._io_writer)


def _abort(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(
        AttributeError
    ):  # Python 3.11.2: what an encrypted transport says once it was closed twice
        writer.transport.abort()


class LinkClient(Client):
    """A NATS client on a `LinkTransport`.

    security: what each connection is made with. tls: send nothing, no password above all, to a broker without TLS.
    """

    def __init__(self, security: Security = NO_SECURITY, *, tls: bool = False) -> None:
        super().__init__()
        self._security = security
        self._tls_required = tls
        self.link = LinkTransport()  # type: ignore[no-untyped-call]
        self._transport = self.link
        self._takers: dict[int, Take] = {}

    @property
    def ssl_context(self) -> ssl.SSLContext:
        try:
            return self._security.context()
        except SecurityError as exc:  # a file that is just being replaced fails this attempt, not the client
            raise ConnectionError(str(exc)) from exc

    def _connect_command(self) -> bytes:
        if self._tls_required and not self.link.encrypted:
            raise ConnectionError("the broker offers no TLS, and we were told to use it")
        return super()._connect_command()

    async def listen(self, subject: str, queue: str, take: Take) -> Subscription:
        """Give each message on `subject` to `take`. Renewed after a reconnect, as every subscription is."""

        async def never(_msg: Any) -> None:
            """What nats-py asks for; our messages don't come by it."""

        number = self._sid + 1
        self._takers[number] = take
        try:
            return await self.subscribe(subject, queue, never)
        except BaseException:
            del self._takers[number]
            raise

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        take = self._takers.get(sid)
        if take is not None:
            named = await self._process_headers(headers) if headers else None
            take(Message(subject.decode(errors="replace"), data, named or {}, reply.decode(errors="replace")))

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        if force_flush or not self.is_connected or not self._pending:
            return await super()._flush_pending(force_flush)
        parts, self._pending, self._pending_data_size = self._pending, [], 0
        self.link.send(parts)
        return None

    @property
    def pending_bytes(self) -> int:
        return self.pending_data_size + self.link.backlog_bytes

    def forget_pending(self) -> None:
        """Drop what was not handed to the socket: after an outage nobody waits for it."""
        self._pending = []
        self._pending_data_size = 0

    def forget_subscription(self, interest: Subscription) -> None:
        """End it on our side, and don't renew it after a reconnect."""
        interest._stop_processing()
        self._remove_sub(interest._id)
        self._takers.pop(interest._id, None)

    async def _process_pong(self) -> None:
        if self._pongs:
            waiter = self._pongs.pop(0)
            if not waiter.done():
                waiter.set_result(True)
        self._pongs_received += 1
        self._pings_outstanding = 0
