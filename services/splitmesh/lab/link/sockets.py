"""Owns the relay's sockets: one end of a connection each, read no faster than its lane takes, and their opening.

Small receive buffers keep the kernel from hiding a full link from the sender.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any, Final, cast

from splitmesh.lab.link.lane import Lane
from splitmesh.lab.link.shaper import SEGMENT_BYTES

_WRITE_BUFFER_BYTES: Final = 256 * 1024
_RESET: Final = struct.pack("ii", 1, 0)


class End(asyncio.BufferedProtocol):
    """One socket. What it receives travels along `lane` to its `peer`."""

    def __init__(self, lane: Lane, ends: set[End], welcome: Callable[[End], None] | None = None) -> None:
        """Registers in `ends` while it lives; `welcome` is told of a client's end once it is connected."""
        self._lane = lane
        self._ends = ends
        self._welcome = welcome
        self._peer: End | None = None
        self._transport: asyncio.Transport | None = None
        self._scratch = memoryview(bytearray(64 * 1024))
        self._held = self._choked = False
        self._ended = self._lost = False  # no more bytes come from it; it is gone
        self._told = False  # it knows that no more bytes come to it

    def pair(self, client: End) -> None:
        self._peer, client._peer = client, self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.pause_reading()
        self._transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        self._ends.add(self)
        if self._peer is None:
            if self._welcome is not None:
                self._welcome(self)
        elif self._peer._lost:
            self.abort()
        else:
            self._lane.attach(self)
            self._peer._lane.attach(self._peer)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._scratch[: self._lane.read_limit()]

    def buffer_updated(self, nbytes: int) -> None:
        if self._peer is not None:
            self._lane.take(bytes(self._scratch[:nbytes]), self._peer)

    def eof_received(self) -> bool:
        self._ended = True
        self._leave()
        return not self._told  # the other direction goes on until it ends too

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._ends.discard(self)
        self._leave()

    def pause_writing(self) -> None:
        if self._peer is not None:
            self._peer.choke(True)

    def resume_writing(self) -> None:
        if self._peer is not None:
            self._peer.choke(False)

    def hold(self, held: bool) -> None:
        """Inlet: the lane is full, or no longer."""
        self._held = held
        self._read_or_not()

    def choke(self, choked: bool) -> None:
        """The far socket takes nothing, or does again."""
        self._choked = choked
        self._read_or_not()

    def put(self, data: memoryview) -> None:
        """Outlet: bytes that came through the link."""
        if self._transport is not None and not self._lost and not self._transport.is_closing():
            self._transport.write(data)

    def end(self) -> None:
        """Outlet: the peer's stream ended."""
        if self._transport is None or self._lost or self._transport.is_closing():
            return
        if self._peer is None or self._peer._lost or self._ended:
            self._transport.close()
        elif not self._told:
            self._transport.write_eof()
            self._told = True

    def abort(self) -> None:
        """Reset the connection now."""
        if self._transport is None:
            return
        sock = self._transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    def _leave(self) -> None:
        """The socket gives no more bytes: pass that on, behind those that it gave."""
        self._lane.detach(self)
        if self._peer is not None and not self._peer._lost:
            self._lane.end(self._peer)

    def _read_or_not(self) -> None:
        if self._transport is None or self._lost or self._ended:
            return
        if self._held or self._choked:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()


async def listening(address: tuple[str, int], socket_bytes: int) -> socket.socket:
    family, kind, proto, _, place = (await _resolve(address))[0]
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _shrink(sock, socket_bytes)
        sock.bind(place)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


async def connected(address: tuple[str, int], socket_bytes: int) -> socket.socket:
    family, kind, proto, _, place = (await _resolve(address))[0]
    sock = socket.socket(family, kind, proto)
    try:
        _shrink(sock, socket_bytes)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, place)
    except BaseException:
        sock.close()
        raise
    return sock


async def _resolve(address: tuple[str, int]) -> list[tuple[Any, ...]]:
    return list(await asyncio.get_running_loop().getaddrinfo(*address, type=socket.SOCK_STREAM))


def _shrink(sock: socket.socket, socket_bytes: int) -> None:
    """Small receive buffer, and ordinary segments: loopback's 64 KB ones would not fit into it."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, socket_bytes)
    if hasattr(socket, "TCP_MAXSEG"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
