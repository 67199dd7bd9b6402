"""The relay with real sockets: rate, delay, backpressure, outages, cuts, ends of streams, and as a process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from splitmesh.errors import SettingsError
from splitmesh.lab.link.relay import Relay
from splitmesh.provision.link.trace import LinkTrace, Step
from splitmesh.settings.units import Outage

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
COMMAND = (sys.executable, "-m", "splitmesh.cli.main", "link", "--config", os.devnull)


def steady(
    mbps: float, delay_ms: float = 10, *, outages: tuple[Outage, ...] = (), down_mbps: float = 50
) -> LinkTrace:
    return LinkTrace("steady", (Step(0, mbps * 1e6, delay_ms),), 60, outages=outages, down_bps=down_mbps * 1e6)


class Target:
    """A real server; counts what arrives, with times, and echoes if asked to."""

    def __init__(self, *, echo: bool) -> None:
        self.echo = echo
        self.arrivals: list[tuple[float, int]] = []
        self.ended = asyncio.Event()
        self.writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    @property
    def received(self) -> int:
        return sum(count for _, count in self.arrivals)

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self.writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                self.arrivals.append((time.monotonic(), len(data)))
                if self.echo:
                    writer.write(data)
                    await writer.drain()
        writer.close()
        self.ended.set()


@asynccontextmanager
async def linked(trace: LinkTrace, *, echo: bool = False, **options: Any) -> AsyncIterator[tuple[Relay, Target]]:
    target = Target(echo=echo)
    await target.start()
    relay = Relay("127.0.0.1", 0, "127.0.0.1", target.port, trace, **options)
    await relay.start()
    try:
        yield relay, target
    finally:
        await relay.stop()
        await target.stop()


@asynccontextmanager
async def client(relay: Relay) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the relay's counters have no event to wait for
            await asyncio.sleep(0.005)


async def flood(writer: asyncio.StreamWriter, counted: list[int] | None = None) -> None:
    block = bytes(8192)
    with suppress(ConnectionError):
        while True:
            writer.write(block)
            await writer.drain()
            if counted is not None:
                counted.append(len(block))


async def test_a_round_trip_takes_both_delays_and_the_bytes_are_the_same() -> None:
    async with linked(steady(20, 30), echo=True, start="now") as (relay, _), client(relay) as (reader, writer):
        times = []
        for n in range(8):
            sent_s = time.monotonic()
            writer.write(bytes([n]) * 100)
            assert await reader.readexactly(100) == bytes([n]) * 100
            times.append(time.monotonic() - sent_s)
        assert min(times) >= 0.0595
        assert statistics.median(times) < 0.075


async def test_a_large_message_takes_its_size_over_the_rate() -> None:
    payload = bytes(range(256)) * 1000
    trace = steady(8, 20, down_mbps=200)
    async with linked(trace, echo=True, start="now") as (relay, _), client(relay) as (reader, writer):
        sent_s = time.monotonic()
        writer.write(payload)
        assert await reader.readexactly(len(payload)) == payload
        took_s = time.monotonic() - sent_s
    assert took_s == pytest.approx(len(payload) * 8 / 8e6 + 0.04, rel=0.15)


@pytest.mark.parametrize("mbps", [0.6, 10, 40])
async def test_a_saturated_link_delivers_what_the_trace_asks_each_second(mbps: float) -> None:
    async with linked(steady(mbps, 15)) as (relay, target), client(relay) as (_, writer):
        sending = asyncio.create_task(flood(writer))
        await until(lambda: target.received > 0)
        began_s = time.monotonic()
        relay.begin()
        await until(lambda: len(relay.stats()["seconds"]) >= 4)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        rows = relay.stats()["seconds"][1:4]
    for row in rows:
        assert row["up"]["delivered_bytes"] >= 0.98 * row["up"]["asked_bytes"]
        assert row["up"]["delivered_bytes"] <= 1.03 * row["up"]["asked_bytes"]
        assert row["up"]["busy"] > 0.98
    seen = sum(count for at, count in target.arrivals if began_s + 1 <= at < began_s + 4)
    assert seen == pytest.approx(mbps * 1e6 / 8 * 3, rel=0.03), "and the far end saw it with its own clock"


async def test_the_sender_can_not_be_ahead_of_the_link_by_more_than_the_buffers() -> None:
    async with (
        linked(steady(0.4, 10), queue_bytes=20_000, start="now") as (relay, target),
        client(relay) as (_, writer),
    ):
        writer.transport.set_write_buffer_limits(high=0)
        written: list[int] = []
        sending = asyncio.create_task(flood(writer, written))
        await until(lambda: target.received > 10_000)
        stats = relay.stats()["up"]
        assert stats["queue_bytes"] <= 20_000 + 1448
        assert stats["taken_bytes"] <= target.received + stats["in_transit_bytes"] + 1
        ahead = sum(written) - target.received
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    assert ahead < 20_000 + 4_000_000, "the sender's own kernel buffer is the sender's matter"
    assert stats["in_transit_bytes"] < 25_000


async def test_connections_share_the_link() -> None:
    async with linked(steady(8, 5), start="now") as (relay, target):
        async with client(relay) as (_, one), client(relay) as (_, two):
            tasks = [asyncio.create_task(flood(writer)) for writer in (one, two)]
            await until(lambda: len(relay.stats()["seconds"]) >= 2)
            row = relay.stats()["seconds"][1]
            assert row["connections"] == 2
            assert row["up"]["delivered_bytes"] == pytest.approx(1e6, rel=0.03)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert len(target.writers) == 2


async def test_an_outage_stops_both_directions_and_connections_survive_it() -> None:
    trace = steady(20, 5, outages=(Outage(0.3, 0.7),))
    async with linked(trace, echo=True, start="now") as (relay, _), client(relay) as (reader, writer):
        began_s = time.monotonic()
        writer.write(b"before")
        assert await reader.readexactly(6) == b"before"
        await until(lambda: relay.stats()["t_s"] > 0.35)
        writer.write(b"during")
        assert await reader.readexactly(6) == b"during"
        assert time.monotonic() - began_s == pytest.approx(1.01, abs=0.05)
        assert relay.reset == 0


async def test_a_cut_resets_connections_and_refuses_new_ones_until_it_is_over() -> None:
    trace = steady(20, 5, outages=(Outage(0.2, 0.5, cut=True),))
    async with linked(trace, echo=True, start="now") as (relay, _):
        async with client(relay) as (reader, writer):
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            with pytest.raises(ConnectionError):
                await asyncio.wait_for(reader.read(1), 2)
        assert relay.reset == 1
        with suppress(ConnectionError):  # refused while it connects or as soon as it reads
            async with client(relay) as (reader, _):
                assert await reader.read(1) == b""
        await until(lambda: relay.stats()["t_s"] > 0.7)
        assert relay.refused == 1
        async with client(relay) as (reader, writer):
            writer.write(b"again")
            assert await reader.readexactly(5) == b"again"


async def test_a_bend_slows_what_is_queued_and_ends_by_itself_without_losing_a_byte() -> None:
    size = 150_000
    async with linked(steady(8), start="now", queue_bytes=2 * size) as (relay, target), client(relay) as (_, writer):
        writer.write(b"x" * size)
        await until(lambda: target.received > 10_000)
        relay.bend(0.02, 1.0)
        bent_at, before = time.monotonic(), target.received
        await until(lambda: target.received == size)
        during = sum(count for at, count in target.arrivals if bent_at + 0.1 < at < bent_at + 0.9)
        assert 0.8 * 8e6 / 8 * 0.02 * 0.5 < during < 0.8 * 8e6 / 8 * 0.02 * 2
        assert target.arrivals[-1][0] - bent_at > 1.0 and before < size / 2
        relay.bend(0.5, 60.0)
        assert relay.trace.mean_bps(100.0, 101.0) == 8e6, "bends are not part of the trace's lap"


async def test_a_half_close_travels_behind_the_data() -> None:
    payload = bytes(50_000)
    async with linked(steady(4, 10), echo=True, start="now") as (relay, target), client(relay) as (reader, writer):
        writer.write(payload)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(-1), 5) == payload
        await asyncio.wait_for(target.ended.wait(), 1)
        await until(lambda: relay.stats()["connections"] == 0)


@pytest.mark.parametrize("who", ["client", "target"])
async def test_when_one_side_goes_the_other_is_closed(who: str) -> None:
    async with linked(steady(20, 5), echo=True, start="now") as (relay, target), client(relay) as (reader, writer):
        writer.write(b"x")
        await reader.readexactly(1)
        gone = writer if who == "client" else target.writers[0]
        gone.transport.abort()
        if who == "client":
            await asyncio.wait_for(target.ended.wait(), 2)
        else:
            with suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 2) == b""
            writer.close()
        await until(lambda: relay.stats()["connections"] == 0)


async def test_a_target_that_is_not_there_ends_the_connection() -> None:
    async with linked(steady(20)) as (_, target):
        free = target.port
    relay = Relay("127.0.0.1", 0, "127.0.0.1", free, steady(20), start="first-byte")
    await relay.start()
    try:
        with suppress(ConnectionError):
            async with client(relay) as (reader, _):
                assert await asyncio.wait_for(reader.read(1), 2) == b""
        assert relay.refused == 1 and relay.began
    finally:
        await relay.stop()


async def test_a_port_that_is_taken_is_named() -> None:
    async with linked(steady(20)) as (relay, target):
        with pytest.raises(SettingsError, match=f"127.0.0.1:{target.port}"):
            await Relay("127.0.0.1", target.port, "127.0.0.1", relay.port, steady(1)).start()


async def test_stopping_in_full_flow_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()
    async with linked(steady(0.2), start="now") as (relay, target), client(relay) as (_, writer):
        sending = asyncio.create_task(flood(writer))
        await until(lambda: target.received > 0 and relay.up.full)
        await relay.stop()
        await relay.stop()
        await asyncio.wait_for(asyncio.gather(sending, return_exceptions=True), 2)
        await asyncio.wait_for(target.ended.wait(), 2)
    assert asyncio.all_tasks() == before


@asynccontextmanager
async def process(ready: Path, *arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        *COMMAND, "--ready-json", str(ready), *arguments, stdin=pipe, stdout=pipe, stderr=pipe
    )
    try:
        await until(ready.exists, timeout_s=20)
        yield child, json.loads(ready.read_bytes())  # noqa: ASYNC240 - a line
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        await child.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_as_a_process_it_says_ready_accounts_each_second_and_exits_clean(
    tmp_path: Path, number: signal.Signals
) -> None:
    target = Target(echo=True)
    await target.start()
    stats = tmp_path / "deep" / "link.jsonl"
    arguments = ["--to", f"127.0.0.1:{target.port}", "--link", "lte", "--down", "5Mbit", "--stats", str(stats)]
    try:
        async with process(tmp_path / "ready.json", *arguments) as (child, ready):
            assert ready["ready"] is True and ready["pid"] == child.pid
            reader, writer = await asyncio.open_connection("127.0.0.1", ready["port"])
            writer.write(b"hello")
            assert await asyncio.wait_for(reader.readexactly(5), 2) == b"hello"
            await until(lambda: stats.exists() and stats.read_text().count("\n") >= 1)
            child.send_signal(number)
            assert await asyncio.wait_for(child.wait(), 5) == 0
            writer.transport.abort()
    finally:
        await target.stop()
    row = json.loads(stats.read_text().splitlines()[0])
    assert row["up"]["taken_bytes"] == row["up"]["delivered_bytes"] == 5
    assert row["down"]["asked_bytes"] == pytest.approx(5e6 / 8, rel=0.06)


async def test_as_a_process_it_is_bent_by_a_line_and_told_what_it_did_not_understand(tmp_path: Path) -> None:
    target, stats = Target(echo=False), tmp_path / "link.jsonl"
    await target.start()
    arguments = ["--to", f"127.0.0.1:{target.port}", "--link", "wifi", "--start", "now", "--stats", str(stats)]

    def asked_bytes() -> list[int]:
        return [json.loads(line)["up"]["asked_bytes"] for line in stats.read_text().splitlines()]

    try:
        async with process(tmp_path / "ready.json", *arguments, "--commands") as (child, _):
            assert child.stdin is not None and child.stderr is not None
            await until(lambda: stats.exists() and asked_bytes() != [])
            child.stdin.write(b"straighten\nbend 0.01 600\n")
            await until(lambda: asked_bytes()[-1] < 0.03 * asked_bytes()[0])
            child.stdin.write_eof()
            child.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(child.wait(), 5) == 0, "the end of its commands is not its end"
            said = (await child.stderr.read()).decode()
    finally:
        await target.stop()
    assert "does not understand 'straighten'" in said and "0.01 times the rate for 600 s" in said


async def test_the_trace_clock_waits_for_the_signal_when_told_to(tmp_path: Path) -> None:
    target = Target(echo=True)
    await target.start()
    arguments = ["--to", f"127.0.0.1:{target.port}", "--link", "lan", "--outage", "10s@0s", "--start", "signal"]
    try:
        async with process(tmp_path / "ready.json", *arguments) as (child, ready):
            reader, writer = await asyncio.open_connection("127.0.0.1", ready["port"])
            writer.write(b"early")
            assert await asyncio.wait_for(reader.readexactly(5), 2) == b"early"
            child.send_signal(signal.SIGUSR1)
            lost = 0
            async with asyncio.timeout(5):
                while not lost:  # the signal is on its way for a moment
                    writer.write(b"?")
                    try:
                        await asyncio.wait_for(reader.readexactly(1), 0.3)
                    except TimeoutError:
                        lost += 1
            writer.transport.abort()
    finally:
        await target.stop()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--to", "nowhere"], "must be HOST:PORT"),
        (["--to", "h:1", "--link", "wify"], "no link is called"),
        (["--to", "h:1", "--outage", "soon"], "5s@20s"),
        (["--to", "h:1", "--down", "fast"], "link.down_bps"),
        (["--to", "h:1", "--queue", "12"], "4096"),
        (["--to", "h:1", "--start", "later"], "'first-byte'"),
    ],
)
async def test_mistakes_on_the_command_line_are_explained(arguments: list[str], complaint: str) -> None:
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*COMMAND, *arguments, stdout=pipe, stderr=pipe)
    _, errors = await asyncio.wait_for(child.communicate(), 20)
    assert child.returncode not in (0, None) and complaint in errors.decode()
    assert "Traceback" not in errors.decode()
