"""A real target behind a real `splitmesh link`: its delay and rate are there, and nothing is left behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from meshload.errors import LoadError
from meshload.links import Linked, through_link

TRACE = "start_s,rate_bps,delay_ms\n0,2000000,40\n"


@pytest.fixture
async def echo() -> AsyncIterator[str]:
    """The URL of a server that sends back what it gets."""
    talks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(talk(reader, writer))
        talks.add(task)

    server = await asyncio.start_server(welcome, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x"
    server.close()
    await server.wait_closed()
    await asyncio.gather(*talks)


async def round_trip_s(linked: Linked, size: int) -> float:
    parts = urlsplit(linked.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(b"x")  # the connection through the relay is made by then
        await reader.readexactly(1)
        begin_ns = time.monotonic_ns()
        writer.write(bytes(size))
        await reader.readexactly(size)
        return (time.monotonic_ns() - begin_ns) / 1e9
    finally:
        writer.close()
        await writer.wait_closed()


def running_relays() -> list[psutil.Process]:
    """Children of ours that are `splitmesh link`: servers of other tests may run beside them."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "splitmesh.cli.main" in child.cmdline() and "link" in child.cmdline()]


async def test_requests_pass_through_the_links_rate_and_delay(echo: str, tmp_path: Path) -> None:
    trace = tmp_path / "slow.csv"
    trace.write_text(TRACE)
    async with through_link(echo, str(trace), duration_s=60) as linked:
        assert "2 Mbit/s up" in linked.description
        linked.begin()
        assert 0.08 <= await round_trip_s(linked, 1) < 5
        # 50 kB at 2 Mbit/s take 0.2 s, and 40 ms each way
        assert 0.28 <= await round_trip_s(linked, 50_000) < 5
        async with asyncio.timeout(10):
            while not linked.seconds():  # noqa: ASYNC110 - a file of another process has no event
                await asyncio.sleep(0.05)
        assert linked.seconds()[0]["up"]["taken_bytes"] >= 1
        relays = running_relays()
        assert len(relays) == 1
    assert not relays[0].is_running()


async def test_a_link_that_there_is_not_names_those_that_there_are(echo: str) -> None:
    with pytest.raises(LoadError, match="lte"):
        async with through_link(echo, "carrier-pigeon", duration_s=60):
            pass


async def test_the_link_ends_with_an_error_in_the_run(echo: str) -> None:
    with pytest.raises(ZeroDivisionError):
        async with through_link(echo, "lan", duration_s=60):
            relays = running_relays()
            raise ZeroDivisionError
    assert len(relays) == 1 and not relays[0].is_running()
