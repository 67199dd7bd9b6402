"""Which of several workers gets a request: real broker, real workers, an edge without its camera."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from cloud_rig import SlowHosted, until, worker_on
from stream_rig import Edge, edge_on, point

from splitmesh.bus.base import Bus
from splitmesh.bus.server import EmbeddedServer
from splitmesh.cloud.hosted import Hosted
from splitmesh.cloud.service import Worker
from splitmesh.frames.outcome import Outcome
from splitmesh.plan.bundle.read import Bundle
from splitmesh.telemetry.metrics import PoolEvent
from splitmesh.wire import subjects
from splitmesh.wire.messages import Heartbeat, HostedModel

MODEL = "tiny-classifier"


@asynccontextmanager
async def mesh(
    broker: EmbeddedServer, bundle: Bundle, folder: Path, *hosted: Hosted
) -> AsyncIterator[tuple[Edge, list[Worker]]]:
    """An edge that sends pictures to workers w-1, w-2, …, all of which it has heard."""
    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(worker_on(broker, each, name=f"w-{number}"))
            for number, each in enumerate(hosted, start=1)
        ]
        edge = await stack.enter_async_context(edge_on(broker, bundle, point(bundle, "", "jpeg", 85), folder))
        await until(lambda: len(edge.offloader.peers._seen_ns) == len(workers))
        yield edge, workers


async def frames(edge: Edge, count: int, at_once: int = 1) -> None:
    """`count` frames, so many of them under way at a time."""
    room = asyncio.Semaphore(at_once)

    async def one() -> None:
        async with room:
            await edge.pipeline.run(edge.frame())

    await asyncio.gather(*(one() for _ in range(count)))


async def test_requests_go_to_a_worker_that_was_heard_and_straight_to_it(
    broker: EmbeddedServer, bundle: Bundle, hosted: Hosted, tmp_path: Path
) -> None:
    async with mesh(broker, bundle, tmp_path, hosted, hosted) as (edge, _):
        await frames(edge, 20, at_once=4)
        asked = [sent.subject for sent in edge.tap.sent]
        assert set(asked) <= {subjects.worker("default", name) for name in ("w-1", "w-2")}
        assert edge.offloader.peers.counts[PoolEvent.CHOSEN] >= 20
        assert PoolEvent.QUEUE_GROUP not in edge.offloader.peers.counts
    assert all(record.outcome is Outcome.FRAME for record in edge.records())


async def test_a_chosen_worker_that_has_gone_costs_no_frame(
    broker: EmbeddedServer, bundle: Bundle, hosted: Hosted, edge: Bus, tmp_path: Path
) -> None:
    """It is heard, and nobody listens there: the queue group has the request at once."""
    async with mesh(broker, bundle, tmp_path, hosted) as (camera, _):
        peers = camera.offloader.peers
        await until(lambda: "w-1" in peers._seen_ns)
        peers.choice.gone("w-1")
        gone = Heartbeat("w-gone", 1, (HostedModel(MODEL, bundle.sha256),))
        await edge.publish(subjects.load("default"), gone.encode())
        await until(lambda: "w-gone" in peers._seen_ns)
        while subjects.worker("default", "w-gone") not in {sent.subject for sent in camera.tap.sent}:
            await frames(camera, 1)
        assert peers.counts[PoolEvent.QUEUE_GROUP] >= 1
    assert {(record.outcome, record.worker) for record in camera.records()} == {(Outcome.FRAME, "w-1")}


class Slower(Hosted):
    """The real model, and 30 ms more."""

    def execute(self, cut, decode, abandoned=lambda: False):  # type: ignore[no-untyped-def]
        threading.Event().wait(0.03)
        return super().execute(cut, decode, abandoned)


async def test_the_slower_of_two_gets_less(
    broker: EmbeddedServer, bundle: Bundle, hosted: Hosted, tmp_path: Path
) -> None:
    slower = Slower(bundle, threads=1, providers=("cpu",))
    async with mesh(broker, bundle, tmp_path, hosted, slower) as (edge, (quick, slow)):
        await frames(edge, 100, at_once=3)
        served = Counter({worker.options.name: worker.status().served for worker in (quick, slow)})
        assert served["w-1"] > 3 * served["w-2"], served
    assert all(record.outcome is Outcome.FRAME for record in edge.records())


class HoldsOne(SlowHosted):
    """Of all requests to workers that share `armed`, the first after it is set is held until nobody wants it."""

    def __init__(self, bundle: Bundle, armed: threading.Event, gate: threading.Event) -> None:
        super().__init__(bundle)
        self.armed, self.gate = armed, gate
        self.gave_up = 0

    def execute(self, cut, decode, abandoned=lambda: False):  # type: ignore[no-untyped-def]
        if not self.armed.is_set():
            return Hosted.execute(self, cut, decode, abandoned)
        self.armed.clear()
        while not abandoned() and not self.gate.wait(0.005):
            pass
        self.gave_up += abandoned()
        return Hosted.execute(self, cut, decode, abandoned)


async def test_a_request_that_hangs_is_sent_again_within_the_budget_and_the_loser_is_cancelled(
    broker: EmbeddedServer, bundle: Bundle, tmp_path: Path
) -> None:
    armed, gate = threading.Event(), threading.Event()
    both = [HoldsOne(bundle, armed, gate) for _ in range(2)]
    try:
        async with mesh(broker, bundle, tmp_path, *both) as (edge, workers):
            counts = edge.offloader.peers.counts
            await frames(edge, 60)
            assert counts[PoolEvent.HEDGED] <= 0.02 * 60
            while not edge.offloader._hedging.budget.left:
                await frames(edge, 1)
            before = counts[PoolEvent.HEDGE_WON]
            armed.set()
            (record,) = await edge.run(1)
            assert record.outcome is Outcome.FRAME and "which answered first" in record.note
            assert counts[PoolEvent.HEDGE_WON] == before + 1
            assert record.uplink_bytes == 2 * len(edge.tap.sent[-1].request.payload)
            assert counts[PoolEvent.HEDGED] <= 0.02 * len(edge.records())
            await until(lambda: sum(each.gave_up for each in both) == 1)
            held = next(worker for worker in workers if worker.options.name != record.worker)
            await until(lambda: held.status().queue_depth == 0)
            assert edge.offloader.peers.choice.under_way(held.options.name) == 0
    finally:
        gate.set()


async def test_a_draining_worker_gets_nothing_more(
    broker: EmbeddedServer, bundle: Bundle, hosted: Hosted, tmp_path: Path
) -> None:
    async with mesh(broker, bundle, tmp_path, hosted, hosted) as (edge, (first, second)):
        await frames(edge, 10, at_once=4)
        await first.drain(5)
        await until(lambda: "w-1" not in edge.offloader.peers._seen_ns)
        done = len(edge.records())
        await frames(edge, 20, at_once=4)
        assert {record.worker for record in edge.records()[done:]} == {"w-2"}
        assert second.status().served >= 20
    assert all(record.outcome is Outcome.FRAME for record in edge.records())
