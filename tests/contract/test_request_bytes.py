"""What a request takes on the edge's TCP socket beside its payload, through a relay that keeps every byte."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from splitmesh.bus.base import Message
from splitmesh.bus.nats import connect_nats
from splitmesh.bus.server import EmbeddedServer
from splitmesh.frames.answer import Answer
from splitmesh.wire import subjects
from splitmesh.wire.messages import InferReply
from splitmesh.wire.requests import InferRequest, StreamRequest

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CUT, MODEL, SHA = "n37-64x19x19", "coco-ssdlite", "0123456789abcdef" * 4
PAYLOAD = bytes(300)


class Relay:
    """One TCP hop to the broker. `up` and `down` hold what went through since they were last cleared."""

    def __init__(self) -> None:
        self.up = bytearray()
        self.down = bytearray()
        self._pumps: set[asyncio.Task[None]] = set()

    async def take(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        pumps = (self._pump(reader, far_writer, self.up), self._pump(far_reader, writer, self.down))
        self._pumps |= {asyncio.create_task(pump) for pump in pumps}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, log: bytearray) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                log += data
                writer.write(data)
                await writer.drain()
        writer.close()

    async def done(self) -> None:
        await asyncio.gather(*self._pumps)


@contextlib.asynccontextmanager
async def relayed(url: str) -> AsyncIterator[tuple[Relay, str]]:
    relay, port = Relay(), urlsplit(url).port
    assert port is not None
    server = await asyncio.start_server(lambda r, w: relay.take(port, r, w), "127.0.0.1", 0)
    try:
        yield relay, f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await relay.done()


def request(number: int, *, slim: bool) -> tuple[str, bytes]:
    if slim:
        return subjects.worker("default", "w-1"), StreamRequest(2**32 - 1, number, PAYLOAD, 400_000, TRACE).encode()
    full = InferRequest(
        f"cam-1.a1b2c3d4.{number}", "cam-1", MODEL, SHA, CUT, PAYLOAD, budget_us=400_000, traceparent=TRACE
    )
    return subjects.infer("default", MODEL, CUT), full.encode()


LIMITS = {True: (120, 60), False: (220, 85)}
"""Slim or not → bytes beside payload and boxes that a request, and a reply, may take."""


@pytest.mark.parametrize("slim", [True, False])
async def test_what_a_request_and_its_reply_take_beside_payload_and_boxes(tmp_path: Path, slim: bool) -> None:
    async with EmbeddedServer(store=tmp_path / "nats") as server, relayed(server.url) as (relay, url):
        edge = await connect_nats(url, name="edge", give_up_s=10)
        worker = await connect_nats(server.url, name="worker", give_up_s=10)

        async def answer(message: Message) -> None:
            frame = ("", 864_000) if slim else ("cam-1.a1b2c3d4.864000", None)
            reply = InferReply(frame[0], "w-1", Answer.empty(), predicted_wait_us=9000, seq=frame[1])
            await worker.publish(message.reply, reply.encode())

        subject, raw = request(864_000, slim=slim)  # a day at ten a second
        await worker.subscribe(subject, answer)
        edge._replies._count = iter(range(864_000, 864_100))  # type: ignore[assignment]
        await edge.request(subject, raw, timeout_s=10)
        relay.up.clear()
        relay.down.clear()
        await edge.request(subject, raw, timeout_s=10)
        up, down = bytes(relay.up), bytes(relay.down)
        await edge.drain()
        await worker.drain()
    line = rb"PUB %s _INBOX\.[A-Za-z0-9_-]{12}\.d2f01 %d\r\n" % (re.escape(subject.encode()), len(raw))
    assert re.fullmatch(line + re.escape(raw) + rb"\r\n", up)
    most_up, most_down = LIMITS[slim]
    assert len(up) - len(PAYLOAD) <= most_up
    assert len(down) <= most_down
    print(f"request {len(up) - len(PAYLOAD)} bytes, reply {len(down)}")
