"""What a user of HTTP/2 is told before and while connecting: header limits, ALPN, certificates, other servers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from http2_rig import Sent, serving, target_on, until
from tls_rig import certificate_in, server_context

from meshload.errors import TargetError
from meshload.target import Reply, Status
from meshload.targets import TargetOptions, open_target


async def test_more_header_text_than_the_server_takes_is_said_before_the_run() -> None:
    async with serving(max_header_list_size=300) as (_, url):
        async with target_on(f"{url}/echo"):
            pass
        with pytest.raises(TargetError, match="header fields are larger"):
            async with target_on(f"{url}/echo", headers=(("X-Long", "y" * 300),)):
                pass


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        ("http://h/", {"headers": (("Connection", "close"),)}, "no header Connection"),
        ("http://h/", {"headers": (("Content-Length", "5"),)}, "follows from the payload"),
        ("http://h/", {"headers": (("X", "\u2603"),)}, "can't be sent"),
        ("http://h/", {"method": "GE T"}, "no method"),
        ("kserve://h/m", {}, "does not take --http2"),
        ("grpc://h:1/a.B/C", {}, "does not take --http2"),
    ],
)
def test_what_http2_can_not_carry_is_said(url: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(TargetError, match=says):
        open_target(url, TargetOptions(http2=True, **options))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate_in(tmp_path_factory.mktemp("tls"))


async def test_over_tls_the_protocol_is_agreed(certificate: Path) -> None:
    async with (
        serving(server_context(certificate, "h2", "http/1.1")) as (server, url),
        target_on(f"{url}/echo", tls_ca=certificate) as target,
    ):
        sent = Sent(target)
        sent.send(b"secret")
        (reply,) = await sent.all()
        assert reply.status is Status.OK
        assert server.connections[0].headers[1][":scheme"] == "https"
    async with (
        serving(server_context(certificate, "h2")) as (_, url),
        target_on(f"{url}/echo", tls_insecure=True) as target,
    ):
        sent = Sent(target)
        sent.send(b"secret")
        assert (await sent.all())[0].status is Status.OK


async def test_a_certificate_that_nobody_trusts_and_a_server_without_h2_are_said(
    certificate: Path,
) -> None:
    async with serving(server_context(certificate, "h2")) as (_, url):
        with pytest.raises(TargetError, match="not trusted"):
            async with target_on(f"{url}/echo"):
                pass
    async with serving(server_context(certificate, "http/1.1")) as (_, url):
        with pytest.raises(TargetError, match="another protocol"):
            async with target_on(f"{url}/echo", tls_ca=certificate):
                pass


async def test_a_server_of_another_protocol_is_said() -> None:
    talks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await reader.read()
        writer.close()

    def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.get_running_loop().create_task(talk(reader, writer)))

    server = await asyncio.start_server(welcome, "127.0.0.1", 0)
    with pytest.raises(TargetError, match="another protocol"):
        async with target_on(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"):
            pass
    server.close()
    await asyncio.gather(*talks, return_exceptions=True)
    await server.wait_closed()


async def test_nobody_there_and_a_server_that_goes_in_the_middle() -> None:
    with pytest.raises(TargetError, match="refused"):
        async with target_on("http://127.0.0.1:1/"):
            pass
    async with serving() as (server, url), target_on(f"{url}/hold") as target:
        sent = Sent(target)
        sent.send(b"x")
        await until(lambda: server.held)
        server.connections[0].transport.abort()
        assert await sent.all() == [Reply(Status.ERROR, "connection lost")]
        sent.send(b"x")
        await until(lambda: len(server.held) == 2)
