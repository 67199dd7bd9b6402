"""What load keeps in memory is bounded, however long a replay is and however little the server takes."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import pytest
from cloud_rig import MODEL, until, worker_on
from grpc_rig import CameraServer
from http2_rig import serving as http2_serving
from kserve_rig import serving as kserve_serving
from meshload_rig import server
from nats.aio.msg import Msg
from target_rig import opened, replies, request

from meshload.target import Payload, Reply, Request, Status
from meshload.targets import TargetOptions
from splitmesh.bus.server import EmbeddedServer
from splitmesh.cloud.hosted import Hosted

BODY_BYTES = 50_000
LIMIT_BYTES = 1_000_000
MANY = 60


def alive(kind: type) -> int:
    gc.collect()
    return sum(type(each) is kind for each in gc.get_objects())


@asynccontextmanager
async def http_url() -> AsyncIterator[str]:
    with server("http") as (port, _):
        yield f"http://127.0.0.1:{port}/"


@asynccontextmanager
async def http2_url() -> AsyncIterator[str]:
    async with http2_serving() as (_, url):
        yield f"{url}/echo"


@asynccontextmanager
async def kserve_url() -> AsyncIterator[str]:
    async with kserve_serving(binary=True) as (_, url):
        yield f"{url}/jpeg"


@asynccontextmanager
async def grpc_url(method: str = "Look") -> AsyncIterator[str]:
    camera = CameraServer()
    await camera.start()
    try:
        yield f"grpc://127.0.0.1:{camera.port}/test.Camera/{method}"
    finally:
        await camera.server.stop(0)


def of_bytes(number: int) -> Payload:
    return Payload(number.to_bytes(4, "big") * (BODY_BYTES // 4))


def of_json(number: int) -> Payload:
    return Payload(json.dumps({"name": f"{number}" * 25_000}).encode(), content_type="application/json")


async def check_bounded(url: str, payload: Callable[[int], Payload], status: Status, **options: Any) -> None:
    """A replay brings each payload once: few of many are alive at its end, and the next is sent like the first."""
    before = alive(Payload)
    async with opened(url, TargetOptions(in_flight=4, **options)) as target:
        for number in range(10, 10 + MANY):
            assert (await replies(target, request(number, payload(number))))[0].status is status
        kept = alive(Payload) - before
    assert 0 < kept <= LIMIT_BYTES // BODY_BYTES + 1


@pytest.mark.parametrize(
    ("serving", "payload", "options"),
    [
        (http_url, of_bytes, {}),
        (http2_url, of_bytes, {"http2": True}),
        (kserve_url, of_bytes, {}),
        (grpc_url, of_json, {}),
    ],
)
async def test_what_servers_were_sent_is_not_kept_for_ever(
    serving: Any, payload: Callable[[int], Payload], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshload.targets.kept.MAX_KEPT_BYTES", LIMIT_BYTES)
    async with serving() as url:
        await check_bounded(url, payload, Status.OK, **options)


async def test_what_the_mesh_was_sent_is_not_kept_for_ever(
    broker: EmbeddedServer, hosted: Hosted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshload.targets.kept.MAX_KEPT_BYTES", LIMIT_BYTES)
    async with worker_on(broker, hosted):
        await check_bounded(f"{broker.url}/default/{MODEL}", of_bytes, Status.REFUSED)


async def test_a_stream_that_the_server_does_not_read_holds_only_what_is_waited_for() -> None:
    before = alive(Request)
    async with grpc_url("Hang") as url, opened(f"{url}?streams=1", TargetOptions(in_flight=4)) as target:
        for number in range(MANY):
            asked = request(number, of_bytes(number))
            target.send(asked, lambda *_: None)
            await asyncio.sleep(0)
            target.abandon(asked)
        del asked
        assert alive(Request) - before < MANY / 2


async def test_a_broker_that_takes_nothing_is_given_no_more_than_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshload.targets.nats.MAX_UNWRITTEN_BYTES", LIMIT_BYTES)
    payload = Payload(bytes(900_000))
    found: list[Reply] = []
    async with EmbeddedServer(store=tmp_path / "nats") as broker:
        bus = await nats.connect(broker.url)

        async def answer(message: Msg) -> None:
            await message.respond(b"ok")

        await bus.subscribe("echo", cb=answer)
        await bus.flush()
        async with opened(f"{broker.url.replace('nats', 'nats-raw', 1)}/echo") as target:
            assert broker.pid is not None
            os.kill(broker.pid, signal.SIGSTOP)
            try:
                for number in range(MANY):
                    asked = request(number, payload)
                    target.send(asked, lambda _, reply: found.append(reply))
                    await asyncio.sleep(0)
                    target.abandon(asked)
                await until(lambda: bool(found))
            finally:
                os.kill(broker.pid, signal.SIGCONT)
            assert {(reply.status, reply.label) for reply in found} == {(Status.ERROR, "the broker takes no more")}
            assert MANY / 2 < len(found) < MANY, "what the sockets take is sent"
            while (await replies(target, request()))[0].status is not Status.OK:
                pass
        await bus.close()
