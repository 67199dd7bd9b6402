"""A worker with more work than it can do, on a real nats-server: overload, expiry, cancellation, draining."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from cloud_rig import SlowHosted, ask, payload_for, refused, until, worker_on

from splitmesh.bus.base import Bus
from splitmesh.bus.server import EmbeddedServer
from splitmesh.cloud.hosted import Hosted
from splitmesh.cloud.service import Worker
from splitmesh.errors import NoResponders
from splitmesh.frames.answer import Answer
from splitmesh.plan.bundle.read import Bundle
from splitmesh.wire import subjects
from splitmesh.wire.messages import Cancel, InferReply, Nack, NackCode


@asynccontextmanager
async def one_runs_one_waits(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle
) -> AsyncIterator[tuple[Worker, SlowHosted, asyncio.Task[InferReply], asyncio.Task[InferReply]]]:
    """A worker whose gate is shut: request e.r.0 is in service, e.r.1 in the queue."""
    slow = SlowHosted(bundle)
    async with worker_on(broker, slow) as worker:
        slow.gate.clear()
        warm = slow.entered
        running = asyncio.create_task(ask(edge, bundle, "e.r.0"))
        await until(lambda: slow.entered == warm + 1)
        waiting = asyncio.create_task(ask(edge, bundle, "e.r.1"))
        await until(lambda: worker.status().queue_depth == 1)
        yield worker, slow, running, waiting


async def test_overload_is_refused_with_a_hint_and_the_rest_served(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle
) -> None:
    slow = SlowHosted(bundle)
    async with worker_on(broker, slow, queue_limit=2) as worker:
        warm = slow.entered
        slow.gate.clear()
        asked = [asyncio.create_task(ask(edge, bundle, "e.r.0"))]
        await until(lambda: slow.entered == warm + 1)
        asked += [asyncio.create_task(ask(edge, bundle, f"e.r.{i}")) for i in (1, 2)]
        await until(lambda: worker.status().queue_depth == 2)
        full = refused(await ask(edge, bundle, "e.r.3"))
        assert full.code is NackCode.OVERLOADED and full.retry_after_us > 0
        double = refused(await ask(edge, bundle, "e.r.1"))
        assert double.code is NackCode.BAD_REQUEST and "in work already" in double.detail
        slow.gate.set()
        replies = await asyncio.gather(*asked)
        assert all(isinstance(r.outcome, Answer) for r in replies)
        assert replies[1].times.queue_us > 0


async def test_a_request_that_expires_in_the_queue_is_told_so(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle
) -> None:
    slow = SlowHosted(bundle)
    async with worker_on(broker, slow, heartbeat_s=0.02) as worker:
        warm = slow.entered
        slow.gate.clear()
        first = asyncio.create_task(ask(edge, bundle, "e.r.0"))
        await until(lambda: slow.entered == warm + 1)
        reply = await ask(edge, bundle, "e.r.1", budget_us=300_000)
        assert refused(reply).code is NackCode.EXPIRED
        assert reply.times.queue_us > 200_000
        assert not first.done()  # told while the other still ran
        slow.gate.set()
        assert isinstance((await first).outcome, Answer)
        assert worker.status().nacked == {"expired": 1}


async def test_cancellation_of_waiting_and_of_running_requests(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle
) -> None:
    async with one_runs_one_waits(broker, edge, bundle) as (worker, slow, running, waiting):
        begun = slow.entered
        for frame in ("e.r.1", "e.r.0", "e.r.unknown"):
            await edge.publish(subjects.cancel("default"), Cancel(frame).encode())
        await edge.publish(subjects.cancel("default"), b"\xff")
        assert refused(await waiting).code is NackCode.CANCELLED
        await until(lambda: worker._tenancies["default"].running["e.r.0"].abandoned)
        slow.gate.set()
        assert refused(await running).code is NackCode.CANCELLED
        assert slow.entered == begun  # the waiting one was never begun
        assert isinstance((await ask(edge, bundle, "e.r.2")).outcome, Answer)


async def test_draining_finishes_what_was_taken_and_refuses_the_rest(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle
) -> None:
    slow = SlowHosted(bundle)
    async with worker_on(broker, slow) as worker:
        warm = slow.entered
        slow.gate.clear()
        asked = [asyncio.create_task(ask(edge, bundle, f"e.r.{i}")) for i in range(3)]
        await until(lambda: slow.entered == warm + 1 and worker.status().queue_depth == 2)
        draining = asyncio.create_task(worker.drain(10))
        await until(lambda: worker.draining)
        assert worker.readiness() == (False, "draining")
        with contextlib.suppress(NoResponders):  # it may have left the group already
            assert refused(await ask(edge, bundle, "e.r.late")).code is NackCode.DRAINING
        slow.gate.set()
        assert all(isinstance(r.outcome, Answer) for r in await asyncio.gather(*asked))
        await draining
        with pytest.raises(NoResponders):
            await ask(edge, bundle, "e.r.after")


async def test_a_drain_that_takes_too_long_refuses_what_waits(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle
) -> None:
    async with one_runs_one_waits(broker, edge, bundle) as (worker, slow, running, waiting):
        draining = asyncio.create_task(worker.drain(0.05))
        assert refused(await waiting).code is NackCode.DRAINING
        slow.gate.set()
        assert isinstance((await running).outcome, Answer)
        await draining


async def test_many_edges_at_once_are_all_answered(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle, hosted: Hosted
) -> None:
    """Under a flood every request gets an answer or a refusal: none is lost, none waits for its timeout."""
    payload = payload_for(bundle, "")
    async with worker_on(broker, hosted, slots=2) as worker:
        replies = await asyncio.gather(
            *(ask(edge, bundle, f"e.r.{i}", payload=payload, budget_us=20_000 + 500 * i) for i in range(300))
        )
        assert [r.frame_id for r in replies] == [f"e.r.{i}" for i in range(300)]
        answered = sum(isinstance(r.outcome, Answer) for r in replies)
        codes = {r.outcome.code for r in replies if isinstance(r.outcome, Nack)}
        assert answered > 0 and codes <= {NackCode.OVERLOADED, NackCode.EXPIRED}
        status = worker.status()
        assert status.served == answered and sum(status.nacked.values()) == 300 - answered
        assert worker._dispatch.idle


class StarvedHosted(Hosted):
    """Its warm-up ran on cores that others held."""

    def warm_up(self, max_batch: int = 1) -> dict[str, dict[int, int]]:
        warm = super().warm_up(max_batch)
        return {cut: {size: max(200_000_000, 10 * ns) for size, ns in times.items()} for cut, times in warm.items()}


async def test_a_worker_that_warmed_up_on_starved_cores_learns_what_it_can_do(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle
) -> None:
    """The first request shows that the warm-up was wrong; without it all of them would be refused for ever."""
    async with worker_on(broker, StarvedHosted(bundle, threads=1)):
        first = await ask(edge, bundle, "e.r.0", budget_us=150_000)
        assert isinstance(first.outcome, Answer), first.outcome
        for n in range(1, 4):
            later = await ask(edge, bundle, f"e.r.{n}", budget_us=150_000)
            assert isinstance(later.outcome, Answer), later.outcome
