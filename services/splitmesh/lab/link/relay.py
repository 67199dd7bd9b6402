"""Owns the relay: accepts, connects on, begins the trace clock, resets when the link is cut, and accounts for it.

Every connection shares one link: two lanes, up (client → target) shaped by the trace, down by its own rate. Nothing
is dropped; a full queue stops the reading, and small socket buffers keep the kernel from hiding that from the sender.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, cast

from splitmesh.errors import SettingsError
from splitmesh.lab.link.bend import Bend, bent
from splitmesh.lab.link.lane import Lane
from splitmesh.lab.link.series import Seconds
from splitmesh.lab.link.shaper import Shaper
from splitmesh.lab.link.sockets import End, connected, listening
from splitmesh.provision.link.trace import LinkTrace
from splitmesh.settings.model import LINK_QUEUE_BYTES, LinkStart

SOCKET_BYTES: Final = 16 * 1024
_CONNECT_TIMEOUT_S: Final = 10.0


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
        queue_bytes: int = LINK_QUEUE_BYTES,
        socket_bytes: int = SOCKET_BYTES,
        seed: int = 0,
        start: LinkStart = "signal",
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
        self._ends: set[End] = set()
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
            listener = await listening(self._listen, self._socket_bytes)
        except OSError as exc:
            where = f"{self._listen[0]}:{self._listen[1]}"
            raise SettingsError(f"the link can't listen on {where}: {exc.strerror or exc}", key="listen") from exc
        self._server = await loop.create_server(lambda: End(self.up, self._ends, self._welcome), sock=listener)
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

    def bend(self, factor: float, length_s: float) -> None:
        """The uplink carries `factor` times its trace for `length_s` from now on, or from when the trace begins.

        The other direction stays as it is.
        """
        self.trace = bent(self.trace, Bend(self._shapers[0].trace_s(time.monotonic_ns()), length_s, factor))
        self.up.follow(self.trace)

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

    def _welcome(self, end: End) -> None:
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

    async def _connect(self, end: End) -> None:
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                sock = await connected(self._target, self._socket_bytes)
        except OSError:  # TimeoutError included
            self.refused += 1
            end.abort()
            return
        far = End(self.down, self._ends)
        far.pair(end)
        try:
            await asyncio.get_running_loop().create_connection(lambda: far, sock=sock)
        except BaseException:
            sock.close()
            raise
