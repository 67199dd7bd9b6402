"""What a user gets from every target when the server dies in the middle of a run."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
import pytest
from cloud_rig import MODEL, payload_for, until, worker_on
from grpc_rig import CameraServer
from http2_rig import serving as http2_serving
from kserve_rig import serving as kserve_serving
from meshload_rig import server, started
from nats.aio.msg import Msg
from tls_rig import certificate_in, server_context

from meshload.cli.main import EXIT_LOST
from splitmesh.bus.server import EmbeddedServer
from splitmesh.cloud.hosted import Hosted
from splitmesh.plan.bundle.read import Bundle
from splitmesh.wire import subjects

RATE = 100
BEFORE_DEATH = 40


@dataclass
class Lab:
    """A server that can be killed. `seen`: how many requests it got until now."""

    url: str
    seen: Callable[[], int]
    kill: Callable[[], Awaitable[object]]
    options: tuple[str, ...] = ()


@asynccontextmanager
async def http_lab(tmp_path: Path) -> AsyncIterator[Lab]:
    with server("http", "--tell", str(BEFORE_DEATH)) as (port, child):
        told: list[int] = []

        def read() -> int:
            if not told and child.stdout is not None and child.stdout.readline():
                told.append(BEFORE_DEATH)
            return len(told) * BEFORE_DEATH

        yield Lab(f"http://127.0.0.1:{port}/", read, lambda: asyncio.to_thread(child.kill))


@asynccontextmanager
async def http2_lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with http2_serving() as (running, url):
        yield Lab(f"{url}/echo", lambda: sum(len(t.headers) for t in running.connections), running.die, ("--http2",))


@asynccontextmanager
async def http2_tls_lab(tmp_path: Path) -> AsyncIterator[Lab]:
    certificate = certificate_in(tmp_path)
    async with http2_serving(server_context(certificate, "h2")) as (running, url):
        options = ("--http2", "--tls-ca", str(certificate))
        yield Lab(f"{url}/echo", lambda: sum(len(t.headers) for t in running.connections), running.die, options)


@asynccontextmanager
async def kserve_lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with AsyncExitStack() as stack:
        running, url = await stack.enter_async_context(kserve_serving(binary=True))
        yield Lab(f"{url}/sum", lambda: len(running.got), stack.aclose)


@asynccontextmanager
async def grpc_lab(tmp_path: Path, method: str) -> AsyncIterator[Lab]:
    camera = CameraServer()
    await camera.start()
    try:
        url = f"grpc://127.0.0.1:{camera.port}/test.Camera/{method}"
        yield Lab(url, lambda: len(camera.frames), lambda: camera.server.stop(0), ("--payload", 'json:{"name": "a"}'))
    finally:
        await camera.server.stop(0)


@asynccontextmanager
async def raw_lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with EmbeddedServer(store=tmp_path / "nats") as broker:
        seen: list[int] = []
        bus = await nats.connect(broker.url, allow_reconnect=False)

        async def answer(message: Msg) -> None:
            seen.append(1)
            await message.respond(b"ok")

        await bus.subscribe("echo", cb=answer)
        await bus.flush()
        yield Lab(f"{broker.url.replace('nats', 'nats-raw', 1)}/echo", lambda: len(seen), broker.stop)
        await bus.close()


LABS: dict[str, Callable[[Path], Any]] = {
    "http": http_lab,
    "http2": http2_lab,
    "http2 over TLS": http2_tls_lab,
    "kserve": kserve_lab,
    "grpc unary": lambda folder: grpc_lab(folder, "Look"),
    "grpc bidi": lambda folder: grpc_lab(folder, "Talk"),
    "nats-raw": raw_lab,
}
LABELS = {
    "http": {"connection lost", "connection refused"},
    "http2": {"connection lost", "connection refused"},
    "http2 over TLS": {"connection lost", "connection refused"},
    "kserve": {"connection lost", "connection refused"},
    "grpc unary": {"connection lost", "unavailable"},
    "grpc bidi": {"connection lost", "unavailable"},
    "nats-raw": {"connection lost", "not connected", "server shutdown"},
}


@pytest.mark.parametrize("kind", LABS)
async def test_a_server_that_dies_leaves_what_was_counted_and_says_so(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    async with LABS[kind](tmp_path) as lab:
        await check_death(lab, file, LABELS[kind])


async def check_death(lab: Lab, file: Path, labels: set[str]) -> None:
    """Kill the server in the middle of a run; what is told and written of it."""
    words = ("-R", str(RATE), "-d", "4s", "--arrivals", "constant", "--json", str(file), *lab.options, lab.url)
    load = await started(*words)
    try:
        await until(lambda: lab.seen() >= BEFORE_DEATH or load.returncode is not None)
        await lab.kill()
        async with asyncio.timeout(60):
            out, err = await load.communicate()
    finally:
        if load.returncode is None:
            load.kill()
            await load.wait()
    assert load.returncode == EXIT_LOST, err.decode() + out.decode()
    assert err == b""
    figures = json.loads(await asyncio.to_thread(file.read_text))
    requests = figures["requests"]
    assert requests["offered"] == 4 * RATE == sum(requests[name] for name in requests if name != "offered")
    assert requests["ok"] >= BEFORE_DEATH // 2 and requests["error"] > RATE
    assert set(figures["errors"]) <= labels, figures["errors"]
    assert figures["latency_ms"]["p50"] is not None and figures["timeline"][0]["completed"] > 0
    assert figures["counts"]["lost"] and "not back by the end" in out.decode()


async def test_a_broker_of_the_mesh_that_dies(
    broker: EmbeddedServer, bundle: Bundle, hosted: Hosted, tmp_path: Path
) -> None:
    picture = tmp_path / "picture.bin"
    await asyncio.to_thread(picture.write_bytes, payload_for(bundle, ""))
    async with worker_on(broker, hosted):
        seen: list[int] = []
        bus = await nats.connect(broker.url, allow_reconnect=False)

        async def note(message: Msg) -> None:
            seen.append(1)

        await bus.subscribe(subjects.infer("default", MODEL, ""), cb=note)
        await bus.flush()
        lab = Lab(f"{broker.url}/default/{MODEL}", lambda: len(seen), broker.stop, ("--payload", f"file:{picture}"))
        await check_death(lab, tmp_path / "out.json", {"connection lost", "not connected", "server shutdown"})
        await bus.close()
        await broker.start()


@pytest.mark.parametrize(("limit", "lost"), [("-S -n 60", False), ("-n 60", True)])
async def test_as_many_files_are_opened_as_the_system_allows(limit: str, lost: bool, tmp_path: Path) -> None:
    """200 requests of a second each at 100/s need about 100 connections."""
    file = tmp_path / "out.json"
    with server("http", "--latency", "constant:1000") as (port, _):
        words = ("-R", "100", "-d", "2s", "--arrivals", "constant", "--json", str(file), f"http://127.0.0.1:{port}/")
        command = [
            "sh",
            "-c",
            f'ulimit {limit} && exec "$@"',
            "sh",
            sys.executable,
            "-m",
            "meshload.cli.main",
            *words,
        ]
        load = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
        _, err = await load.communicate()
    figures = json.loads(await asyncio.to_thread(file.read_text))
    assert err == b"" and figures["requests"]["offered"] == 200 and figures["requests"]["ok"] > 20
    assert ("too many open files" in figures["errors"]) is lost
    assert lost or figures["requests"]["ok"] == 200
