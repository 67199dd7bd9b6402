"""HTTP/1.1 as a target, against real servers: what each answer, loss and abandoned request becomes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cloud_rig import until
from meshload_rig import server
from target_rig import PAYLOAD, opened, replies, request
from tls_rig import certificate_in, server_context

from meshload.errors import LoadError, TargetError
from meshload.target import Payload, Status
from meshload.targets import TargetOptions, open_target

EMPTY = Payload(b"")


@asynccontextmanager
async def answering(
    answer: Callable[[bytes], bytes], context: ssl.SSLContext | None = None, *, closes: bool = False
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """(port, requests seen) of a server that writes `answer(request head)`; b"" closes the connection.

    closes: every answer does.
    """
    seen: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                body = await reader.readexactly(int(size or 0))
                seen.append(head + body)
                raw = answer(head)
                if not raw:
                    break
                writer.write(raw)
                if closes:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield running.sockets[0].getsockname()[1], seen
    finally:
        running.close()
        for writer in writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)
        await running.wait_closed()


def plain(status: str, body: bytes = b"ok") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


@pytest.mark.parametrize(
    ("raw", "status", "label"),
    [
        (plain("200 OK"), Status.OK, ""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", Status.OK, ""),
        (plain("429 Too Many Requests"), Status.REFUSED, "http 429"),
        (plain("503 Service Unavailable"), Status.REFUSED, "http 503"),
        (plain("500 Internal Server Error"), Status.ERROR, "http 500"),
        (plain("404 Not Found"), Status.ERROR, "http 404"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + plain("500 No"), Status.ERROR, "http 500"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", Status.ERROR, "protocol switched"),
        (b"what?\r\n\r\n", Status.ERROR, "not HTTP"),
        (b"", Status.ERROR, "connection lost"),
    ],
)
async def test_http_answers(raw: bytes, status: Status, label: str) -> None:
    async with answering(lambda head: raw) as (port, _), opened(f"http://127.0.0.1:{port}/a?b=c") as target:
        first, second = await replies(target, request(0), request(1))
        third = (await replies(target, request(2)))[0]
    assert {(reply.status, reply.label) for reply in (first, second, third)} == {(status, label)}
    assert first.bytes_received == len(raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\nas long as it lasts", (Status.OK, "")),
        (b"HTTP/1.0 503 No\r\n\r\n", (Status.REFUSED, "http 503")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\ncut short", (Status.ERROR, "connection lost")),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ncut", (Status.ERROR, "connection lost")),
        (b"HTTP/1.1 200 OK\r\nCont", (Status.ERROR, "connection lost")),
    ],
)
async def test_answers_that_end_with_their_connection(raw: bytes, expected: tuple[Status, str]) -> None:
    async with answering(lambda head: raw, closes=True) as (port, _), opened(f"http://127.0.0.1:{port}/") as target:
        found = await replies(target, request(0), request(1))
    assert [reply[:2] for reply in found] == [expected] * 2


async def test_what_nobody_asked_for_ends_the_connection_and_no_request() -> None:
    """Else one connection would be taken for two idle ones, and its answers for those of other requests."""
    talks: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.append((reader, writer))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(plain("200 OK"))
        await reader.read()
        writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}/"
    async with running, opened(url, TargetOptions(in_flight=1)) as target:
        assert (await replies(target, request(0, EMPTY)))[0].status is Status.OK
        talks[0][1].write(plain("408 Request Timeout"))
        await until(talks[0][0].at_eof)
        assert (await replies(target, request(1, EMPTY)))[0].status is Status.OK
        assert len(talks) == 2
    await until(lambda: all(reader.at_eof() for reader, _ in talks))
    await asyncio.gather(*(writer.wait_closed() for _, writer in talks))


async def test_http_connections_are_kept() -> None:
    with server("http") as (port, child):
        async with opened(f"http://127.0.0.1:{port}/", TargetOptions(in_flight=1)) as target:
            await replies(target, request(0))  # the server has accepted by then
            before = sockets_of(child.pid)
            for n in range(1, 6):
                assert (await replies(target, request(n)))[0].status is Status.OK
            assert sockets_of(child.pid) == before


def sockets_of(pid: int) -> set[str]:
    """The inodes of a process's open sockets."""
    links = (str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink())
    return {link for link in links if link.startswith("socket:")}


async def test_http_requests_carry_what_was_asked() -> None:
    options = TargetOptions(in_flight=2, headers=(("X-Key", "v"),))
    async with answering(lambda head: plain("200 OK")) as (port, seen):
        async with opened(f"http://127.0.0.1:{port}/a?b=c", options) as target:
            for n in range(5):
                await replies(target, request(n, Payload(b"container", raw=b"picture", content_type="image/jpeg")))
            await replies(target, request(5, trace=bytes(range(1, 26))))
        async with opened(f"http://127.0.0.1:{port}/", TargetOptions(in_flight=1, method="get")) as target:
            await replies(target, request(9))
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert (
        head.startswith(b"POST /a?b=c HTTP/1.1\r\n") and b"X-Key: v" in head and b"Content-Type: image/jpeg" in head
    )
    assert body == b"picture" and len(seen) == 7 and b"traceparent" not in seen[0]
    trace = f"traceparent: 00-{bytes(range(1, 17)).hex()}-{bytes(range(17, 25)).hex()}-19\r\n"
    assert trace.encode() in seen[5] and seen[5].endswith(b"\r\n\r\n" + PAYLOAD.data)
    assert seen[6].startswith(b"GET / HTTP/1.1\r\n") and seen[6].endswith(b"\r\n\r\n")


async def test_an_abandoned_http_request_is_never_done_and_its_connection_not_used_again() -> None:
    with server("http", "--latency", "constant:300") as (port, _):
        async with opened(f"http://127.0.0.1:{port}/", TargetOptions(in_flight=1)) as target:
            given_up, done = request(0), []
            target.send(given_up, lambda *both: done.append(both))
            target.abandon(given_up)
            (reply,) = await replies(target, request(1))
    assert reply.status is Status.OK and not done


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate_in(tmp_path_factory.mktemp("tls"))


async def test_tls_is_checked_unless_told_otherwise(certificate: Path) -> None:
    context = server_context(certificate)
    async with answering(lambda head: plain("200 OK"), context) as (port, _):
        url = f"https://127.0.0.1:{port}/"
        with pytest.raises(TargetError, match="its certificate is not trusted") as caught:
            await open_target(url, TargetOptions()).open()
        assert "--tls-ca" in caught.value.advice
        for options in (TargetOptions(tls_ca=certificate), TargetOptions(tls_insecure=True)):
            async with opened(url, options) as target:
                assert (await replies(target, request()))[0].status is Status.OK
        with pytest.raises(LoadError, match="--tls-ca"):
            await open_target(url, TargetOptions(tls_ca=Path("/no/such/file"))).open()
