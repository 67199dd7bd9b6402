"""What a worker counts where two slots reply at the same time and the bus makes both of them wait."""

from __future__ import annotations

import asyncio
from typing import Any

from cloud_rig import MODEL, ask
from prometheus_client import CollectorRegistry

from splitmesh.bus.memory import MemoryBroker, MemoryBus
from splitmesh.cloud.hosted import Hosted
from splitmesh.cloud.service import Worker, WorkerOptions
from splitmesh.frames.answer import Answer
from splitmesh.plan.bundle.read import Bundle
from splitmesh.telemetry.metrics import Metrics
from splitmesh.telemetry.tracing import Tracing
from splitmesh.wire import subjects


class PairedBus(MemoryBus):
    """Lets replies go two at a time, as a bus may that waits for its socket."""

    pair = asyncio.Barrier(2)

    async def publish(self, subject: str, payload: bytes, **more: Any) -> None:
        if subject.startswith("_INBOX."):
            await self.pair.wait()
        await super().publish(subject, payload, **more)


async def test_replies_that_wait_side_by_side_are_both_counted(bundle: Bundle, hosted: Hosted) -> None:
    broker = MemoryBroker()
    edge, bus = broker.connect(), PairedBus(broker, "_INBOX.worker", None)
    tracing = Tracing("cloud", instance="w-1")
    metrics = Metrics(CollectorRegistry()).cloud
    worker = Worker(WorkerOptions("w-1", slots=2), [hosted], tracing=tracing, metrics=metrics)
    await worker.warm_up()
    await worker.start(bus)
    subject = subjects.infer("default", MODEL, "")
    try:
        async with asyncio.timeout(20):
            replies = await asyncio.gather(*(ask(edge, bundle, f"e.r.{i}", subject=subject) for i in range(2)))
        assert all(isinstance(reply.outcome, Answer) for reply in replies)
    finally:
        await worker.drain(5)
        for each in (edge, bus):
            await each.drain()
        tracing.close()
    assert worker.status().served == 2
