"""The core's own targets against real servers: what each answer, refusal, loss and late reply becomes."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
from cloud_rig import MODEL, payload_for, until, worker_on
from meshload_rig import server
from nats.aio.msg import Msg

from meshload.arrivals import schedule
from meshload.engine import Engine, Limits
from meshload.errors import LoadError, TargetError
from meshload.stages import RateCurve, Stage
from meshload.target import Payload, Reply, Request, Status, Target
from meshload.targets import TargetOptions, open_target
from splitmesh.bus.server import EmbeddedServer
from splitmesh.cloud.hosted import Hosted
from splitmesh.plan.bundle.read import Bundle
from splitmesh.wire import subjects
from splitmesh.wire.requests import InferRequest

PAYLOAD = Payload(b"x" * 10)


def request(seq: int = 0, payload: Payload = PAYLOAD, **fields: object) -> Request:
    made = Request(payload, seq, "r0", **{"intended_ns": 0, **fields})  # type: ignore[arg-type]
    made.sent_ns = 1
    return made


async def replies(target: Target, *requests: Request) -> list[Reply]:
    """What each request gets, in its order."""
    found: dict[int, Reply] = {}
    for each in requests:
        target.send(each, lambda sent, reply: found.__setitem__(sent.seq, reply))
    await until(lambda: len(found) == len(requests))
    return [found[each.seq] for each in requests]


async def ignore(message: Msg) -> None:
    """Take a request and leave it unanswered."""


@asynccontextmanager
async def opened(url: str, options: TargetOptions = TargetOptions()) -> AsyncIterator[Target]:  # noqa: B008
    target = open_target(url, options)
    try:
        await target.open()
        yield target
    finally:
        await target.close()


@asynccontextmanager
async def answering(
    answer: Callable[[bytes], bytes], context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """(port, requests seen) of a server that writes `answer(request head)`; b"" closes the connection."""
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


async def test_http_connections_are_kept() -> None:
    with server("http") as (port, child):
        async with opened(f"http://127.0.0.1:{port}/", TargetOptions(in_flight=1)) as target:
            before = sockets_of(child.pid)
            for n in range(5):
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
    """A file with certificate and key for 127.0.0.1, trusted by nobody."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    key, found, both = folder / "key.pem", folder / "cert.pem", folder / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(found)]
    subprocess.run(command, check=True, capture_output=True)
    both.write_text(found.read_text() + key.read_text())
    return both


async def test_tls_is_checked_unless_told_otherwise(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
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
        bus = await nats.connect(broker.url)
        await bus.subscribe("echo", cb=ignore)
        await bus.flush()
        target.send(request(), lambda _, reply: waiting.append(reply))
        await bus.drain()
    await until(lambda: bool(waiting))
    assert waiting[0].status is Status.ERROR
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
