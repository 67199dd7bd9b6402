"""What a user gets from every target when nobody is there, when it is not what was said, or not whom."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import pytest
from grpc_rig import CameraServer
from http2_rig import serving as http2_serving
from kserve_rig import serving as kserve_serving
from meshload_rig import finished
from nats.aio.msg import Msg
from tls_rig import certificate_in, server_context

from meshload.cli.main import EXIT_LOST
from splitmesh.bus.server import EmbeddedServer

NOWHERE = {
    "http": ("http://127.0.0.1:1/", ()),
    "http2": ("http://127.0.0.1:1/", ("--http2",)),
    "https": ("https://127.0.0.1:1/", ()),
    "kserve": ("kserve://127.0.0.1:1/m", ()),
    "kserves": ("kserves://127.0.0.1:1/m", ()),
    "grpc": ("grpc://127.0.0.1:1/a.B/C", ()),
    "grpcs": ("grpcs://127.0.0.1:1/a.B/C", ()),
    "nats-raw": ("nats-raw://127.0.0.1:1/x", ()),
    "nats": ("nats://127.0.0.1:1/default/m", ("--payload", "synthetic")),
}


@pytest.mark.parametrize("kind", NOWHERE)
async def test_where_nothing_listens_that_is_said_in_a_line(kind: str) -> None:
    url, options = NOWHERE[kind]
    status, out, err = await finished(*options, url)
    assert (status, out) == (1, "")
    first, advice = err.splitlines()
    assert first == f"error: {url}: connection refused: nothing listens there" and "?" in advice


FOREIGN = [
    *((url, said) for url in ("http://{}/", "https://{}/", "kserve://{}/m", "kserves://{}/m",
      "grpc://{}/a.B/C", "nats-raw://{}/x")
      for said in (b"", b"SSH-2.0-OpenSSH_9.2\r\n")),
    *(("nats://{}/default/m", said) for said in (b"INFO what?\r\n", b"INFO []\r\n")),
]  # fmt: skip


@pytest.mark.parametrize(("url", "said"), FOREIGN)
async def test_a_server_of_another_kind_is_said_before_the_run(url: str, said: bytes) -> None:
    """It speaks first, and then closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = f"127.0.0.1:{running.sockets[0].getsockname()[1]}"
    options = ("-R", "20", "-d", "0.5s", "--connect-timeout", "0.5s", "--payload", "synthetic")
    async with running:
        status, out, err = await finished(*options, url.format(address))
        http1 = await finished(*options, "--http2", url.format(address)) if url.startswith("http") else None
    if url.startswith("http:"):  # a connection says nothing of who is there: the first requests do
        assert (status, err) == (EXIT_LOST, "") and ("connection lost" in out or "not HTTP" in out)
    else:
        assert status == 1 and err.startswith("error: ") and "Traceback" not in err and len(err.splitlines()) == 2
    if http1:
        assert http1[0] == 1 and http1[2].startswith("error: ") and len(http1[2].splitlines()) == 2


@asynccontextmanager
async def https_url(certificate: Path, protocol: str) -> AsyncIterator[str]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    if protocol == "h2":
        async with http2_serving(server_context(certificate, protocol)) as (_, url):
            yield url
        return
    running = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server_context(certificate))
    async with running:
        yield f"https://127.0.0.1:{running.sockets[0].getsockname()[1]}/"


@asynccontextmanager
async def kserves_url(certificate: Path) -> AsyncIterator[str]:
    async with kserve_serving(binary=True, certificate=certificate) as (_, url):
        yield f"{url}/sum"


@asynccontextmanager
async def grpcs_url(certificate: Path) -> AsyncIterator[str]:
    camera = CameraServer()
    await camera.start(certificate=await asyncio.to_thread(certificate.read_bytes))
    yield f"grpcs://127.0.0.1:{camera.port}/test.Camera/Look"
    await camera.server.stop(0)


@asynccontextmanager
async def nats_url(certificate: Path) -> AsyncIterator[str]:
    tls = f'tls {{ cert_file: "{certificate}", key_file: "{certificate}" }}'
    async with EmbeddedServer(store=certificate.parent / "nats", extra=(tls,)) as broker:
        context = ssl.create_default_context(cafile=str(certificate))
        bus = await nats.connect(broker.url.replace("nats", "tls", 1), tls=context)

        async def answer(message: Msg) -> None:
            await message.respond(b"ok")

        await bus.subscribe("echo", cb=answer)
        await bus.flush()
        yield f"{broker.url.replace('nats', 'nats-raw', 1)}/echo"
        await bus.close()


TLS: dict[str, tuple[Callable[[Path], Any], tuple[str, ...], str]] = {
    "https": (lambda certificate: https_url(certificate, ""), (), "not trusted"),
    "http2": (lambda certificate: https_url(certificate, "h2"), ("--http2",), "not trusted"),
    "kserves": (kserves_url, (), "not trusted"),
    "grpcs": (grpcs_url, ("--payload", "json:{}"), "not trusted"),
    "nats-raw": (nats_url, (), "not trusted"),
}


@pytest.mark.parametrize("kind", TLS)
async def test_a_certificate_must_be_trusted_by_name(kind: str, tmp_path: Path) -> None:
    opened, options, complaint = TLS[kind]
    words = ("-R", "20", "-d", "0.5s", "--arrivals", "constant", *options)
    certificate = certificate_in(tmp_path)
    async with opened(certificate) as url:
        trusting = await finished(*words, "--tls-ca", str(certificate), url)
        doubting = await finished(*words, url)
    assert trusting[0] == 0 and "10 = 10 ok" in trusting[1], trusting
    status, out, err = doubting
    assert (status, out) == (1, "") and complaint in err and "--tls-ca" in err and len(err.splitlines()) == 2
