"""Owns the relay's sockets: accepts, connects on, reads no faster than the link takes, resets when the link is cut.

Every connection shares one link: two lanes, up (client → target) shaped by the trace, down by its own rate. Nothing
is dropped; a full queue stops the reading, and small socket buffers keep the kernel from hiding that from the sender.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable
from typing import Any, Final, Literal, cast

from splitmesh.errors import SettingsError
from splitmesh.lab.link.lane import Lane
from splitmesh.lab.link.series import Seconds
from splitmesh.lab.link.shaper import Shaper
from splitmesh.lab.link.trace import LinkTrace

Start = Literal["first-byte", "now", "signal"]
QUEUE_BYTES: Final = 128 * 1024
SOCKET_BYTES: Final = 16 * 1024
_SEGMENT_BYTES: Final = 1448
_WRITE_BUFFER_BYTES: Final = 256 * 1024
_CONNECT_TIMEOUT_S: Final = 10.0
_RESET: Final = struct.pack("ii", 1, 0)


class Relay:
    """A TCP relay from `listen` to `target` that behaves like `trace`.

    queue_bytes: what may wait for the rate, per direction. down_bps: rate of the other direction (default: the
    trace's own). socket_bytes: SO_RCVBUF of what is read from. start: when the trace clock begins: with the first
    byte or connection ("first-byte"), with start() ("now") or with begin() ("signal"). on_second: told each row of
    the series.
    """

    def __init__(
        self,
        listen_host: str,
        listen_port: int,
        target_host: str,
        target_port: int,
        trace: LinkTrace,
        *,
        down_bps: float | None = None,
        queue_bytes: int = QUEUE_BYTES,
        socket_bytes: int = SOCKET_BYTES,
        seed: int = 0,
        start: Start = "signal",
        on_second: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.trace = trace
        self._listen = (listen_host, listen_port)
        self._target = (target_host, target_port)
        self._socket_bytes = socket_bytes
        self._start_on = start
        self._shapers = (
            Shaper(trace, queue_bytes=queue_bytes, seed=seed),
            Shaper(trace.downlink(down_bps), queue_bytes=queue_bytes, seed=seed + 1),
        )
        self._on_second = on_second
        self._server: asyncio.Server | None = None
        self._connecting: set[asyncio.Task[None]] = set()
        self._ends: set[_End] = set()
        self._timers: list[asyncio.TimerHandle] = []
        self.accepted = self.refused = self.reset = 0

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if self._server is None:
            return self._listen[1]
        return cast(int, self._server.sockets[0].getsockname()[1])

    @property
    def began(self) -> bool:
        return self._shapers[0].began_ns is not None

    async def start(self) -> None:
        """Listen. Raises SettingsError (key "listen") when the address can't be had."""
        loop = asyncio.get_running_loop()
        self.up, self.down = (Lane(shaper) for shaper in self._shapers)
        self.seconds = Seconds(self.up, self.down, lambda: len(self._ends) // 2, self._on_second)
        try:
            listener = await _listening(self._listen, self._socket_bytes)
        except OSError as exc:
            where = f"{self._listen[0]}:{self._listen[1]}"
            raise SettingsError(f"the link can't listen on {where}: {exc.strerror or exc}", key="listen") from exc
        self._server = await loop.create_server(lambda: _End(self, self.up), sock=listener)
        if self._start_on == "now":
            self.begin()

    def begin(self, at_ns: int | None = None) -> None:
        """Second 0 of the trace is at `at_ns` (time.monotonic_ns, now by default). Only the first call counts."""
        if self.began:
            return
        at_ns = time.monotonic_ns() if at_ns is None else at_ns
        self.up.begin(at_ns)
        self.down.begin(at_ns)
        self.seconds.begin(at_ns)
        loop = asyncio.get_running_loop()
        self._timers = [
            loop.call_at(at_ns / 1e9 + outage.start_s, self._cut) for outage in self.trace.outages if outage.cut
        ]

    async def stop(self) -> None:
        """Close everything at once; what is on its way is lost. Idempotent."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        for timer in self._timers:
            timer.cancel()
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for end in list(self._ends):
            end.abort()
        self.seconds.close()
        self.up.close()
        self.down.close()
        await asyncio.sleep(0)  # lets the transports call connection_lost
        await server.wait_closed()

    def stats(self) -> dict[str, Any]:
        """{"link", "began", "t_s", "connections", "accepted", "refused", "reset", "up", "down", "seconds"}.

        up and down: {"taken_bytes", "delivered_bytes", "queue_bytes", "in_transit_bytes"}; seconds: see `Seconds`.
        """
        now_ns = time.monotonic_ns()
        return {
            "link": self.trace.describe(),
            "began": self.began,
            "t_s": self._shapers[0].trace_s(now_ns),
            "connections": len(self._ends) // 2,
            "accepted": self.accepted,
            "refused": self.refused,
            "reset": self.reset,
            **{
                name: {
                    "taken_bytes": lane.taken_bytes,
                    "delivered_bytes": lane.delivered_bytes,
                    "queue_bytes": lane.shaper.queued_bytes(now_ns),
                    "in_transit_bytes": lane.in_transit_bytes,
                }
                for name, lane in (("up", self.up), ("down", self.down))
            },
            "seconds": list(self.seconds.rows),
        }

    def _cut(self) -> None:
        self.up.clear()
        self.down.clear()
        self.reset += len(self._ends) // 2
        for end in list(self._ends):
            end.abort()

    def _welcome(self, end: _End) -> None:
        """A client connected: connect on, unless the link is cut."""
        self.accepted += 1
        if self._start_on == "first-byte":
            self.begin()
        if self.began and self.trace.cut_at(self._shapers[0].trace_s(time.monotonic_ns())):
            self.refused += 1
            end.abort()
            return
        task = asyncio.get_running_loop().create_task(self._connect(end), name="link: connect to target")
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, end: _End) -> None:
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                sock = await _connected(self._target, self._socket_bytes)
        except OSError:  # TimeoutError included
            self.refused += 1
            end.abort()
            return
        far = _End(self, self.down)
        far.pair(end)
        try:
            await asyncio.get_running_loop().create_connection(lambda: far, sock=sock)
        except BaseException:
            sock.close()
            raise


class _End(asyncio.BufferedProtocol):
    """One socket. What it receives travels along `lane` to its `peer`."""

    def __init__(self, relay: Relay, lane: Lane) -> None:
        self._relay = relay
        self._lane = lane
        self._peer: _End | None = None
        self._transport: asyncio.Transport | None = None
        self._scratch = memoryview(bytearray(64 * 1024))
        self._held = self._choked = False
        self._ended = self._lost = False  # no more bytes come from it; it is gone
        self._told = False  # it knows that no more bytes come to it

    def pair(self, client: _End) -> None:
        self._peer, client._peer = client, self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.pause_reading()
        self._transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        self._relay._ends.add(self)
        if self._peer is None:
            self._relay._welcome(self)
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
        self._relay._ends.discard(self)
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


async def _listening(address: tuple[str, int], socket_bytes: int) -> socket.socket:
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


async def _connected(address: tuple[str, int], socket_bytes: int) -> socket.socket:
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
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT_BYTES)
