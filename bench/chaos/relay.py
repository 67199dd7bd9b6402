"""Owns the way between edge and broker: a TCP relay that can stop carrying anything, both ways, and go on later.

Nobody is told of the cut: connections stay open and silent, new ones are accepted and stay silent too, and what was
sent meanwhile arrives afterwards, as it does when a router comes back before TCP gives up.
"""

from __future__ import annotations

import asyncio
import contextlib

_READ_BYTES = 64 * 1024


class Relay:
    """`port`: where clients connect; known once started."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._carries = asyncio.Event()
        self._carries.set()
        self._server: asyncio.Server | None = None
        self._ways: set[asyncio.Task[None]] = set()
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        self._carries.clear()

    def mend(self) -> None:
        self._carries.set()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for way in self._ways:
            way.cancel()
        await asyncio.gather(*self._ways, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        way = asyncio.current_task()
        assert way is not None  # noqa: S101 - asyncio starts a task per connection
        self._ways.add(way)
        try:
            await self._carries.wait()
            there, back = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:  # the broker is away: so is this connection
            writer.close()
        else:
            pumps = {asyncio.create_task(self._pump(reader, back)), asyncio.create_task(self._pump(there, writer))}
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
                back.close()
                writer.close()
        finally:
            self._ways.discard(way)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(_READ_BYTES):
                await self._carries.wait()
                writer.write(chunk)
                await writer.drain()
            await self._carries.wait()
