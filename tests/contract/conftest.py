"""Both buses, each fresh for its test, behind one way to connect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from splitmesh.bus.base import Bus
from splitmesh.bus.memory import MemoryBroker
from splitmesh.bus.nats import connect_nats
from splitmesh.bus.server import EmbeddedServer

Connect = Callable[[], Awaitable[Bus]]
LIMIT = 200_000


@pytest.fixture(params=["memory", "nats"])
async def connect(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Connect]:
    """Makes buses on one broker with a message limit of 200 000 bytes; all are drained at the end."""
    made: list[Bus] = []

    def remember(bus: Bus) -> Bus:
        made.append(bus)
        return bus

    if request.param == "memory":
        broker = MemoryBroker(max_payload_bytes=LIMIT)

        async def on_memory() -> Bus:
            return remember(broker.connect())

        yield on_memory
        await asyncio.gather(*(bus.drain() for bus in made))
    else:
        async with EmbeddedServer(store=tmp_path / "nats", max_payload_bytes=LIMIT) as server:

            async def on_nats() -> Bus:
                return remember(await connect_nats(server.url, name=f"bus-{len(made)}", give_up_s=10))

            yield on_nats
            await asyncio.gather(*(bus.drain() for bus in made))
