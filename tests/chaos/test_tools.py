"""What the faults are made of does what it says: the relay holds bytes back, the disk is full, every lie is one."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bench.chaos.disk import small_disk
from bench.chaos.liar import LIES, NAME, lie
from bench.chaos.relay import Relay

from splitmesh.errors import WireError
from splitmesh.wire.messages import InferReply
from splitmesh.wire.requests import InferRequest

PATIENCE_S = 0.3


async def test_a_cut_relay_holds_bytes_back_and_delivers_them_later() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    relay = Relay(server.sockets[0].getsockname()[1])
    await relay.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    writer.write(b"before\n")
    assert await asyncio.wait_for(reader.readline(), 10) == b"before\n"
    relay.cut()
    writer.write(b"meanwhile\n")
    later, later_writer = await asyncio.open_connection("127.0.0.1", relay.port)
    later_writer.write(b"a new connection\n")
    for silent in (reader, later):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(silent.readline(), PATIENCE_S)
    relay.mend()
    assert await asyncio.wait_for(reader.readline(), 10) == b"meanwhile\n"
    assert await asyncio.wait_for(later.readline(), 10) == b"a new connection\n"
    for each in (writer, later_writer):
        each.close()
        await each.wait_closed()
    await relay.close()
    server.close()
    await server.wait_closed()


def test_a_full_disk_takes_no_byte_until_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        if disk is None:
            pytest.skip("this user may not mount")
        line = disk.folder / "line"
        disk.fill()
        assert disk.free_bytes == 0
        with pytest.raises(OSError) as full:
            line.write_bytes(b"x" * 5000)
        assert full.value.errno == errno.ENOSPC
        disk.free()
        line.write_bytes(b"x" * 5000)
    assert list((tmp_path / "disk").iterdir()) == []


@pytest.mark.parametrize("told", LIES, ids=lambda told: str(told.__name__))
@pytest.mark.parametrize("seed", range(20))
def test_no_lie_is_the_truth(told: Callable[[str, random.Random], bytes], seed: int) -> None:
    """It can't be read, names another frame, or claims more time than there was."""
    try:
        reply = InferReply.decode(told("edge.run.7", random.Random(seed)))
    except WireError:
        return
    assert reply.frame_id != "edge.run.7" or reply.times.queue_us > 10**8


def test_all_kinds_of_lies_are_told() -> None:
    payload = np.zeros(10, np.uint8).tobytes()
    asked = InferRequest("edge.run.7", "edge", "m", "0" * 64, "", payload, budget_us=1_000_000).encode()
    rng = random.Random(0)
    told = [lie(asked, rng) for _ in range(60)]
    assert len({len(raw) for raw in told}) > 10
    assert any(NAME.encode() in raw for raw in told)
