"""The mesh and NATS responders as targets, on a real broker: what each answer, refusal and loss becomes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import nats
import pytest
from cloud_rig import MODEL, payload_for, until, worker_on
from meshload_rig import server
from nats.aio.msg import Msg
from target_rig import PAYLOAD, opened, replies, request

from meshload.arrivals import Arrival, schedule
from meshload.engine import Engine, Limits
from meshload.errors import LoadError, TargetError
from meshload.stages import RateCurve, Stage
from meshload.target import Payload, Reply, Status
from meshload.targets import TargetOptions, open_target
from splitmesh.bus.server import EmbeddedServer
from splitmesh.cloud.hosted import Hosted
from splitmesh.plan.bundle.read import Bundle
from splitmesh.wire import subjects
from splitmesh.wire.requests import InferRequest

LOSSES = ("connection lost", "server shutdown")


async def ignore(message: Msg) -> None:
    """Take a request and leave it unanswered."""


async def test_a_nats_responder_answers_and_where_nobody_listens_that_is_said(broker: EmbeddedServer) -> None:
    url = broker.url.replace("nats://", "nats-raw://")
    with server("nats", broker.url, "echo"):
        async with opened(f"{url}/echo") as target, opened(f"{url}/nobody") as other:
            found = await replies(target, *(request(n) for n in range(300)))
            (nobody,) = await replies(other, request())
            (large,) = await replies(target, request(0, Payload(b"x" * 2_000_000)))
    assert {(reply.status, reply.bytes_received) for reply in found} == {(Status.OK, 128)}
    assert (nobody.status, nobody.label) == (Status.ERROR, "no responders")
    assert (large.status, large.label) == (Status.ERROR, "larger than the broker's limit")


async def test_large_replies_come_in_pieces_and_headers_are_no_body(broker: EmbeddedServer) -> None:
    bus = await nats.connect(broker.url)

    async def answer(message: Msg) -> None:
        await bus.publish(message.reply, b"y" * 900_000)

    async def answer_with_headers(message: Msg) -> None:
        await bus.publish(message.reply, b"z" * 7, headers={"a": "b"})

    await bus.subscribe("large", cb=answer)
    await bus.subscribe("headed", cb=answer_with_headers)
    await bus.flush()
    url = broker.url.replace("nats://", "nats-raw://")
    async with opened(f"{url}/large") as large, opened(f"{url}/headed") as headed:
        found = await replies(large, *(request(n) for n in range(5)))
        (small,) = await replies(headed, request())
    await bus.drain()
    assert {reply.bytes_received for reply in found} == {900_000} and small.bytes_received == 7
    assert small.status is Status.OK


async def test_a_broker_that_comes_back_is_found_again(tmp_path: Path) -> None:
    async with EmbeddedServer(store=tmp_path / "one") as broker:
        port = broker.url.rpartition(":")[2]
        target = open_target(f"nats-raw://127.0.0.1:{port}/echo", TargetOptions())
        await target.open()
        waiting: list[Reply] = []
        taken: list[Msg] = []
        bus = await nats.connect(broker.url, allow_reconnect=False)

        async def take(message: Msg) -> None:
            taken.append(message)

        await bus.subscribe("echo", cb=take)
        await bus.flush()
        target.send(request(), lambda _, reply: waiting.append(reply))
        await until(lambda: bool(taken))  # else the broker may say that nobody listens
        await bus.close()
        assert not waiting
    await until(lambda: bool(waiting))
    assert (waiting[0].status, waiting[0].label) in [(Status.ERROR, why) for why in LOSSES]
    (lost,) = await replies(target, request())
    assert (lost.status, lost.label) == (Status.ERROR, "not connected")
    async with EmbeddedServer(store=tmp_path / "two", port=int(port)) as again:
        with server("nats", again.url, "echo"):
            until_s = time.monotonic() + 20
            while (await replies(target, request()))[0].status is not Status.OK:
                assert time.monotonic() < until_s
            await target.close()


async def test_the_mesh_answers_whole_models_and_cuts(broker: EmbeddedServer, bundle: Bundle, hosted: Hosted) -> None:
    cut = bundle.cuts[0].name
    async with worker_on(broker, hosted):
        for path, name in ((MODEL, ""), (f"{MODEL}/{cut}", cut)):
            payload = Payload(payload_for(bundle, name))
            async with opened(f"{broker.url}/default/{path}") as target:
                fine, late, bad = await replies(
                    target,
                    request(0, payload),
                    request(1, payload, intended_ns=1, deadline_ns=1),
                    request(2, Payload(b"not a container")),
                )
                assert "tenant default" in target.describe() and MODEL in target.describe()
            assert fine.status is Status.OK and fine.server_ms is not None and fine.server_ms > 0
            assert late.status is Status.REFUSED and late.label in ("expired", "overloaded")
            assert (bad.status, bad.label) == (Status.REFUSED, "bad_request")


async def test_a_mesh_without_the_model_is_said_before_the_run(
    broker: EmbeddedServer, bundle: Bundle, hosted: Hosted
) -> None:
    with pytest.raises(TargetError, match="no worker was heard"):
        await opened(f"{broker.url}/default/{MODEL}").__aenter__()
    async with worker_on(broker, hosted):
        with pytest.raises(TargetError, match=f"workers heard hold .*{MODEL}/whole"):
            await opened(f"{broker.url}/default/other-model").__aenter__()


async def test_requests_to_the_mesh_say_who_asks_and_what_is_left(broker: EmbeddedServer, hosted: Hosted) -> None:
    seen: list[InferRequest] = []
    bus = await nats.connect(broker.url)

    async def note(message: Msg) -> None:
        seen.append(InferRequest.decode(message.data))

    await bus.subscribe(subjects.infer("acme", MODEL, ""), cb=note)
    await bus.flush()
    async with worker_on(broker, hosted), opened(f"{broker.url}/default/{MODEL}") as target:
        asked = request(
            7, tenant="acme", edge="cam-1", intended_ns=10**9, deadline_ns=10**8, trace=bytes(range(1, 26))
        )
        asked.sent_ns = 10**9 + 3 * 10**7
        target.send(asked, lambda *_: None)
        await until(lambda: bool(seen))
    await bus.drain()
    (found,) = seen
    assert (found.frame_id, found.edge_id, found.model, found.cut) == ("cam-1.r0.7", "cam-1", MODEL, "")
    assert found.budget_us == 70_000 and found.payload == PAYLOAD.data
    assert found.traceparent == f"00-{bytes(range(1, 17)).hex()}-{bytes(range(17, 25)).hex()}-19"


async def test_a_run_whose_schedule_breaks_says_so(broker: EmbeddedServer) -> None:
    """As that of a recording which is damaged while it is replayed."""

    def broken() -> Iterator[Arrival]:
        yield Arrival(0)
        raise LoadError("the file is damaged")

    async with opened(broker.url.replace("nats://", "nats-raw://") + "/nobody") as target:
        engine = Engine(target, [PAYLOAD], Limits(0.0, 30, 1000, 0.3))
        with pytest.raises(LoadError, match="damaged"):
            await engine.run_open(broken())
    assert engine.tally.labels["error"] == {"no responders": 1}


async def test_a_run_may_not_outlive_its_target(broker: EmbeddedServer) -> None:
    """An engine on a target whose replies never come settles everything all the same."""
    bus = await nats.connect(broker.url)
    await bus.subscribe("hole", cb=ignore)
    await bus.flush()
    async with opened(broker.url.replace("nats://", "nats-raw://") + "/hole") as target:
        engine = Engine(target, [PAYLOAD], Limits(0.0, 0.5, 1000, 0.3))
        await engine.run_open(schedule(RateCurve([Stage(0.5, 200, 200)]), "constant", seed=1))
    await bus.drain()
    assert engine.tally.count("timeout") == engine.tally.count("offered") == 100 and engine.in_flight == 0
