"""A worker's heartbeats on a bus in memory: they go on whatever goes wrong beside them."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from splitmesh.bus.base import Message
from splitmesh.bus.memory import MemoryBroker
from splitmesh.cloud.pulse import Load, Pulse
from splitmesh.telemetry.metrics import Metrics
from splitmesh.wire import subjects
from splitmesh.wire.messages import Heartbeat


async def test_a_fault_in_one_round_ends_no_heartbeats(caplog: pytest.LogCaptureFixture) -> None:
    """A worker that serves and tells nobody would get no more requests, and look healthy."""
    broker = MemoryBroker()
    worker_bus, edge_bus = broker.connect(), broker.connect()
    beats: asyncio.Queue[Heartbeat] = asyncio.Queue()

    async def hear(message: Message) -> None:
        beats.put_nowait(Heartbeat.decode(message.payload))

    async def attend() -> None:
        raise ValueError("made up")

    await edge_bus.subscribe(subjects.load("red"), hear)
    pulse = Pulse(
        "w-1",
        ("red",),
        (),
        worker_bus,
        Metrics(CollectorRegistry()).cloud,
        load=lambda _: Load(wait_us=5, depth=1, draining=False),
        attend=attend,
    )
    pulse.start(0.001)
    async with asyncio.timeout(20):
        seqs = [(await beats.get()).seq for _ in range(3)]
    await pulse.stop()
    assert seqs == [1, 2, 3]
    assert "a heartbeat failed" in caplog.text and "made up" in caplog.text
    await worker_bus.drain()
    await edge_bus.drain()
