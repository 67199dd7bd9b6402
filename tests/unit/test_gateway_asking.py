"""Asking workers, on a bus in memory: who is chosen, a second try, what is refused at once, and who is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from splitmesh.bus.base import Message
from splitmesh.bus.memory import MemoryBroker, MemoryBus
from splitmesh.errors import NoResponders, Overloaded, RequestTimeout, WireError
from splitmesh.frames.answer import Answer
from splitmesh.gateway.asking import Asker
from splitmesh.gateway.offered import OfferedModel
from splitmesh.plan.manifest import load_manifest
from splitmesh.wire import subjects
from splitmesh.wire.messages import Cancel, Heartbeat, HostedModel, InferReply, Nack, NackCode
from splitmesh.wire.requests import InferRequest

SHA256 = "ab" * 32
Outcome = Answer | Nack
ANSWER = Answer(np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1, np.uint16))


@pytest.fixture
def model(project: Path) -> OfferedModel:
    return OfferedModel(load_manifest(project / "services/splitmesh/models/data/coco-ssdlite.toml"), SHA256)


class Workers:
    """Some that answer as they are told, and what they and the cancel subject got."""

    def __init__(self, model: OfferedModel) -> None:
        self.broker = MemoryBroker()
        self.bus = self.broker.connect()
        self.asker = Asker(self.bus, "acme", model, gateway="gw", draw=lambda: 0.0)
        self.model = model
        self.got: list[tuple[str, InferRequest]] = []
        self.cancelled: list[str] = []
        self._buses: list[MemoryBus] = []

    async def start(self) -> None:
        async def take(message: Message) -> None:
            self.cancelled.append(Cancel.decode(message.payload).frame_id)

        await self.bus.subscribe(subjects.cancel("acme"), take)

    async def add(
        self, name: str, says: Callable[[InferRequest], Outcome | None], *, wait_ms: float = 0.0, heard: bool = True
    ) -> None:
        """`says` None: it keeps silent."""
        bus = self.broker.connect()
        self._buses.append(bus)

        async def take(message: Message) -> None:
            request = InferRequest.decode(message.payload)
            self.got.append((name, request))
            outcome = says(request)
            if outcome is not None:
                await bus.publish(message.reply, InferReply(request.frame_id, name, outcome).encode())

        await bus.subscribe(subjects.worker("acme", name), take)
        await bus.subscribe(subjects.infer("acme", self.model.name, ""), take, queue=subjects.POOL)
        if heard:
            self.hear(name, wait_ms)

    def hear(self, name: str, wait_ms: float = 0.0, *, sha256: str = SHA256, draining: bool = False) -> None:
        hosted = (HostedModel(self.model.name, sha256),)
        beat = Heartbeat(name, 1, hosted, round(wait_ms * 1e3), draining=draining)
        self.asker.hear(beat, time.monotonic_ns())

    async def ask(self, frame_id: str = "gw.run.1", budget_s: float = 5.0) -> InferReply:
        deadline_ns = time.monotonic_ns() + round(budget_s * 1e9)
        return await self.asker.ask(frame_id, b"payload", deadline_ns=deadline_ns, traceparent=None)

    async def close(self) -> None:
        for bus in (*self._buses, self.bus):
            await bus.drain()


@pytest.fixture
async def workers(model: OfferedModel):
    made = Workers(model)
    await made.start()
    yield made
    await made.close()


def refuses(code: NackCode) -> Callable[[InferRequest], Outcome]:
    return lambda _: Nack(code, "no")


async def test_the_worker_that_would_answer_sooner_is_asked(workers: Workers) -> None:
    await workers.add("busy", lambda _: ANSWER, wait_ms=400)
    await workers.add("idle", lambda _: ANSWER)
    reply = await workers.ask()
    ((name, request),) = workers.got
    assert name == reply.worker_id == "idle"
    assert request.edge_id == "gw" and request.cut == "" and request.model_sha256 == SHA256
    assert 4_000_000 < request.budget_us <= 5_000_000


async def test_unheard_workers_are_reached_by_the_pool(workers: Workers) -> None:
    with pytest.raises(NoResponders):
        await workers.ask()
    await workers.add("w", lambda _: ANSWER, heard=False)
    assert (await workers.ask()).worker_id == "w"


async def test_a_worker_of_other_weights_or_that_drains_is_not_chosen(workers: Workers) -> None:
    for name, changes in (("other", {"sha256": "cd" * 32}), ("going", {"draining": True})):
        await workers.add(name, lambda _: ANSWER, heard=False)
        workers.hear(name, **changes)
    assert workers.asker.workers(time.monotonic_ns()) == {}
    workers.hear("going")
    assert set(workers.asker.workers(time.monotonic_ns())) == {"going"}


@pytest.mark.parametrize("code", [NackCode.OVERLOADED, NackCode.DRAINING])
async def test_who_refuses_for_now_is_not_the_last_word(workers: Workers, code: NackCode) -> None:
    await workers.add("first", refuses(code))
    await workers.add("second", lambda _: ANSWER, wait_ms=100)
    assert (await workers.ask()).worker_id == "second"
    assert [name for name, _ in workers.got] == ["first", "second"]


@pytest.mark.parametrize("code", [NackCode.BAD_REQUEST, NackCode.INFERENCE_FAILED, NackCode.EXPIRED])
async def test_other_refusals_are(workers: Workers, code: NackCode) -> None:
    await workers.add("first", refuses(code))
    await workers.add("second", lambda _: ANSWER, wait_ms=100)
    reply = await workers.ask()
    assert isinstance(reply.outcome, Nack) and reply.outcome.code is code and len(workers.got) == 1


async def test_two_refusals_are_enough(workers: Workers) -> None:
    for number in range(3):
        await workers.add(f"w{number}", refuses(NackCode.OVERLOADED), wait_ms=10 * number)
    reply = await workers.ask()
    assert isinstance(reply.outcome, Nack) and len(workers.got) == 2


async def test_what_none_would_make_is_refused_before_it_is_sent(workers: Workers) -> None:
    await workers.add("slow", lambda _: None, wait_ms=2000)
    waiting = asyncio.ensure_future(workers.ask("gw.run.1", 5.0))
    await asyncio.wait({waiting}, timeout=0.05)
    with pytest.raises(Overloaded, match="beyond the budget"):
        await workers.ask("gw.run.2", 0.5)
    assert [request.frame_id for _, request in workers.got] == ["gw.run.1"]
    waiting.cancel()
    await asyncio.wait({waiting})
    with pytest.raises(RequestTimeout):  # with nothing of ours under way it is tried all the same
        await workers.ask("gw.run.3", 0.1)
    assert [request.frame_id for _, request in workers.got] == ["gw.run.1", "gw.run.3"]


@pytest.mark.parametrize("how", ["cancelled", "late"])
async def test_workers_are_told_that_nobody_waits(workers: Workers, how: str) -> None:
    await workers.add("silent", lambda _: None)
    asking = asyncio.ensure_future(workers.ask("gw.run.7", 0.1 if how == "late" else 30.0))
    if how == "cancelled":
        await asyncio.wait({asking}, timeout=0.05)
        asking.cancel()
    await asyncio.wait({asking})
    assert asking.cancelled() or isinstance(asking.exception(), RequestTimeout)
    await workers.bus.echo(timeout_s=1)
    assert workers.cancelled == ["gw.run.7"]


async def test_a_worker_that_went_is_forgotten_and_the_pool_asked(workers: Workers) -> None:
    workers.hear("ghost")
    await workers.add("w", lambda _: ANSWER, heard=False)
    assert (await workers.ask()).worker_id == "w"
    assert workers.asker.workers(time.monotonic_ns()) == {}


async def test_a_reply_that_can_t_be_true_is_refused(workers: Workers, model: OfferedModel) -> None:
    bus = workers.broker.connect()

    async def lie(message: Message) -> None:
        await bus.publish(message.reply, InferReply("gw.run.99", "liar", ANSWER).encode())

    await bus.subscribe(subjects.worker("acme", "liar"), lie)
    workers.hear("liar")
    with pytest.raises(WireError, match=r"gw\.run\.99"):
        await workers.ask()
    await bus.drain()
