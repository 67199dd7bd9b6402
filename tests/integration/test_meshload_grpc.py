"""gRPC methods of all four kinds on a real server that describes itself: by reflection, from JSON, with deadlines."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from grpc_rig import CameraServer

from meshload.errors import TargetError
from meshload.target import Payload, Reply, Request, Status, Target
from meshload.targets import TargetOptions, open_target
from splitmesh.wire.headers import trace_bytes

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def server() -> AsyncIterator[CameraServer]:
    made = CameraServer()
    await made.start()
    yield made
    await made.server.stop(0)


@asynccontextmanager
async def target_on(server: CameraServer, path: str, **options: Any) -> AsyncIterator[Target]:
    target = open_target(f"grpc://127.0.0.1:{server.port}/{path}", TargetOptions(**{"in_flight": 8, **options}))
    try:
        await target.open()
        yield target
    finally:
        await target.close()


def of_json(text: str) -> Payload:
    return Payload(text.encode(), content_type="application/json")


FRAME = of_json('{"name": "a", "pixels": "AAEC", "size": {"width": 4, "height": 3}}')


async def answered(target: Target, *payloads: Payload, deadline_s: float = 0, trace: bytes = b"") -> list[Reply]:
    """What became of each, in order of sending."""
    replies: dict[int, Reply] = {}
    all_there = asyncio.Event()

    def done(request: Request, reply: Reply) -> None:
        assert request.seq not in replies
        replies[request.seq] = reply
        if len(replies) == len(payloads):
            all_there.set()

    for seq, payload in enumerate(payloads):
        now_ns = time.monotonic_ns()
        request = Request(payload, seq, "r", now_ns, round(deadline_s * 1e9), trace=trace)
        request.sent_ns = now_ns
        target.send(request, done)
    async with asyncio.timeout(20):
        await all_there.wait()
    return [replies[seq] for seq in range(len(payloads))]


async def test_json_becomes_the_methods_message_with_deadline_and_trace(server: CameraServer) -> None:
    async with target_on(server, "test.Camera/Look", headers=(("X-Key", "k"),)) as target:
        (reply,) = await answered(target, FRAME, deadline_s=7, trace=trace_bytes(TRACE))
        assert "unary" in target.describe()
    frame = server.frames[0]
    assert (frame.name, frame.pixels, frame.size.width, frame.size.height) == ("a", b"\0\1\2", 4, 3)
    assert reply.status is Status.OK
    assert reply.bytes_received == len(server.type("test.Seen")(text="a 4x3").SerializeToString())
    assert server.remaining_s[0] is not None and 1 < server.remaining_s[0] < 7.5
    assert server.metadata[0]["traceparent"] == TRACE and server.metadata[0]["x-key"] == "k"


async def test_a_document_of_the_command_line_becomes_the_methods_message(server: CameraServer) -> None:
    """`meshload --payload json:… grpc://…`, the whole way."""
    document = '{"name": "cli", "size": {"width": 7, "height": 5}}'
    command = [sys.executable, "-m", "meshload.cli.main", "-R", "20", "-d", "0.5s", "--arrivals", "constant"]
    command += ["--payload", f"json:{document}", f"grpc://127.0.0.1:{server.port}/test.Camera/Look"]
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await child.communicate()
    assert child.returncode == 0, out
    assert {(frame.name, frame.size.width, frame.size.height) for frame in server.frames} == {("cli", 7, 5)}
    assert b"10 = 10 ok" in out and b"JSON of the command line" in out


async def test_other_payloads_go_out_as_they_are(server: CameraServer) -> None:
    raw = server.type("test.Frame")(name="binary").SerializeToString()
    async with target_on(server, "test.Camera/Look") as target:
        (reply,) = await answered(target, Payload(raw))
    assert reply.status is Status.OK and server.frames[0].name == "binary"
    assert server.remaining_s[0] is None or server.remaining_s[0] > 1e6


async def test_json_that_does_not_fit_is_an_error_of_its_own(server: CameraServer) -> None:
    async with target_on(server, "test.Camera/Look") as target:
        replies = await answered(target, of_json('{"colour": 1}'), of_json("not json"), FRAME)
    assert [reply.status for reply in replies] == [Status.ERROR, Status.ERROR, Status.OK]
    assert {reply.label for reply in replies[:2]} == {"payload does not fit the method"}


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("RESOURCE_EXHAUSTED", Status.REFUSED),
        ("UNAVAILABLE", Status.REFUSED),
        ("INVALID_ARGUMENT", Status.ERROR),
        ("INTERNAL", Status.ERROR),
        ("DEADLINE_EXCEEDED", Status.TIMEOUT),
    ],
)
async def test_status_codes_are_classes_of_errors(server: CameraServer, code: str, status: Status) -> None:
    async with target_on(server, "test.Camera/Refuse") as target:
        (reply,) = await answered(target, of_json(f'{{"name": "{code}"}}'))
    assert reply == Reply(status, code.lower())


async def test_the_deadline_ends_a_call_that_takes_too_long(server: CameraServer) -> None:
    async with target_on(server, "test.Camera/Sleep") as target:
        (reply,) = await answered(target, FRAME, deadline_s=0.2)
    assert reply == Reply(Status.TIMEOUT, "deadline_exceeded")


@pytest.mark.parametrize(("method", "kind", "answers"), [("Watch", "server", 3), ("Send", "client", 1)])
async def test_methods_that_stream_one_way(server: CameraServer, method: str, kind: str, answers: int) -> None:
    async with target_on(server, f"test.Camera/{method}") as target:
        (reply,) = await answered(target, FRAME)
        assert f"({kind})" in target.describe()
    one = len(server.type("test.Seen")(text="a 4x3").SerializeToString())
    assert reply == Reply(Status.OK, "", answers * one)


async def test_one_stream_carries_many_requests_both_ways(server: CameraServer) -> None:
    payloads = [of_json(f'{{"name": "{"n" * number}"}}') for number in range(20)]
    async with target_on(server, "test.Camera/Talk?streams=1") as target:
        assert "1 streams" in target.describe()
        replies = await answered(target, *payloads)
    assert [frame.name for frame in server.frames] == ["n" * number for number in range(20)]
    sizes = [len(server.type("test.Seen")(text="n" * number + " 0x0").SerializeToString()) for number in range(20)]
    assert replies == [Reply(Status.OK, "", size) for size in sizes]


async def test_a_stream_that_the_server_ends_fails_what_waits_and_the_next_request_opens_another(
    server: CameraServer,
) -> None:
    async with target_on(server, "test.Camera/Talk?streams=1") as target:
        failed = await answered(target, of_json('{"name": "end"}'), FRAME)
        (after,) = await answered(target, FRAME)
    assert failed == [Reply(Status.REFUSED, "resource_exhausted")] * 2
    assert after.status is Status.OK


async def test_an_abandoned_request_takes_its_answer_with_it(server: CameraServer) -> None:
    async with target_on(server, "test.Camera/Talk?streams=1") as target:
        now_ns = time.monotonic_ns()
        gone = Request(of_json('{"name": "gone, and its answer is long"}'), 77, "r", now_ns)
        target.send(gone, lambda *_: pytest.fail("it was abandoned"))
        target.abandon(gone)
        (reply,) = await answered(target, FRAME)
    assert reply.bytes_received == len(server.type("test.Seen")(text="a 4x3").SerializeToString())


async def test_many_calls_share_several_connections(server: CameraServer) -> None:
    async with target_on(server, "test.Camera/Look", in_flight=300) as target:
        replies = await answered(target, *[FRAME] * 300)
    assert [reply.status for reply in replies] == [Status.OK] * 300
    assert len(server.peers) == 3


async def test_the_health_service_can_be_asked(server: CameraServer) -> None:
    async with target_on(server, "grpc.health.v1.Health/Check") as target:
        (serving,) = await answered(target, of_json('{"service": "test.Camera"}'))
    assert serving == Reply(Status.OK, "", 2)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("test.Camera/Fly", "Look"),
        ("test.Submarine/Look", "grpc.health.v1.Health"),
        ("", "package.Service/Method"),
        ("Look", "package.Service/Method"),
        ("test.Camera/Look?kind=dance", "unary"),
    ],
)
async def test_a_url_that_names_no_method_says_which_there_are(server: CameraServer, path: str, says: str) -> None:
    with pytest.raises(TargetError, match=says):
        async with target_on(server, path):
            pass


async def test_without_reflection_the_kind_must_be_said() -> None:
    plain = CameraServer()
    await plain.start(reflects=False)
    try:
        with pytest.raises(TargetError, match="no reflection"):
            async with target_on(plain, "test.Camera/Look"):
                pass
        async with target_on(plain, "test.Camera/Look?kind=unary") as target:
            raw, text = await answered(target, Payload(plain.type("test.Frame")(name="b").SerializeToString()), FRAME)
        assert raw.status is Status.OK
        assert text == Reply(Status.ERROR, "payload does not fit the method")
    finally:
        await plain.server.stop(0)


async def test_nobody_there_is_said_in_time() -> None:
    target = open_target("grpc://127.0.0.1:1/a.B/C", TargetOptions(connect_timeout_s=0.3))
    with pytest.raises(TargetError, match="nothing listens there"):
        await target.open()
    await target.close()


async def test_a_server_that_dies_is_a_lost_connection(server: CameraServer) -> None:
    async with target_on(server, "test.Camera/Sleep") as target:
        sent = asyncio.create_task(answered(target, FRAME, FRAME))
        async with asyncio.timeout(20):
            while len(server.frames) < 2:  # noqa: ASYNC110 - the server has no event for it
                await asyncio.sleep(0.01)
        await server.server.stop(0)
        during = await sent
        after = await answered(target, FRAME)
    assert {reply.status for reply in during} <= {Status.ERROR, Status.REFUSED}
    assert after == [Reply(Status.ERROR, "connection lost")]


def test_a_user_in_the_url_is_refused() -> None:
    with pytest.raises(TargetError, match="no user"):
        open_target("grpc://me:secret@127.0.0.1:1/a.B/C", TargetOptions())
