"""HTTP/2 against real servers: h2's own server side, plain and over TLS, and gRPC's, which shares no code with it."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from grpc import aio
from http2_rig import Sent, serving, target_on, until

from meshload.target import Reply, Status
from splitmesh.wire.headers import trace_bytes

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_many_requests_share_one_connection_and_arrive_whole() -> None:
    async with serving() as (server, url), target_on(f"{url}/echo?x=1", headers=(("X-Key", "k"),)) as target:
        sent = Sent(target)
        sent.send(b"first", trace=trace_bytes(TRACE), payload={"content_type": "image/jpeg"})
        for number in range(1, 60):
            sent.send(bytes(number))
        replies = await sent.all()
        (talk,) = server.connections
    assert {reply.status for reply in replies} == {Status.OK}
    assert [len(body) for body in talk.bodies.values()] == [5, *range(1, 60)]
    assert replies[59].bytes_received - replies[1].bytes_received == 58
    first = talk.headers[1]
    assert (first[":path"], first["x-key"], first["content-type"]) == ("/echo?x=1", "k", "image/jpeg")
    assert first["traceparent"] == TRACE and "traceparent" not in talk.headers[3]
    assert server.most_at_once > 1


async def test_bodies_larger_than_the_windows_pass_both_ways() -> None:
    async with serving(initial_window_size=10_000) as (server, url), target_on(f"{url}/echo") as target:
        sent = Sent(target)
        for size in (300_000, 250_000, 1):
            sent.send(bytes([size % 251]) * size)
        replies = await sent.all()
    assert [reply.status for reply in replies] == [Status.OK] * 3
    assert sorted(len(body) for body in server.connections[0].bodies.values()) == [1, 250_000, 300_000]
    assert replies[0].bytes_received > 300_000


async def test_an_answer_of_many_megabytes_is_read() -> None:
    async with serving() as (_, url), target_on(f"{url}/bytes/30000000", method="GET") as target:
        sent = Sent(target)
        sent.send()
        (reply,) = await sent.all()
    assert reply.status is Status.OK and reply.bytes_received > 30_000_000


async def test_a_server_that_allows_few_streams_gets_more_connections() -> None:
    async with serving(max_concurrent_streams=4) as (server, url), target_on(f"{url}/hold") as target:
        sent = Sent(target)
        for _ in range(10):
            sent.send(b"x")
        await until(lambda: len(server.held) == 10)
        assert len(server.connections) == 3 and server.most_at_once == 4
        for answer in server.held:
            answer()
        assert {reply.status for reply in await sent.all()} == {Status.OK}
        sent.send(b"one more needs no other connection")
        await until(lambda: len(server.held) == 11)
        assert len(server.connections) == 3


async def test_a_server_that_allows_none_refuses() -> None:
    async with serving(max_concurrent_streams=0) as (server, url), target_on(f"{url}/echo") as target:
        sent = Sent(target)
        sent.send(b"x")
        assert await sent.all() == [Reply(Status.REFUSED, "no streams allowed")]
        assert len(server.connections) == 2


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/status/204", (Status.OK, "")),
        ("/status/503", (Status.REFUSED, "http 503")),
        ("/status/429", (Status.REFUSED, "http 429")),
        ("/status/500", (Status.ERROR, "http 500")),
        ("/refuse", (Status.REFUSED, "stream reset: refused stream")),
        ("/break", (Status.ERROR, "stream reset: internal error")),
        ("/go", (Status.REFUSED, "server goes away")),
        ("/calm", (Status.REFUSED, "server goes away: enhance your calm")),
        ("/die", (Status.ERROR, "connection lost")),
    ],
)
async def test_what_becomes_of_a_request_is_told_by_class(path: str, expected: tuple[Status, str]) -> None:
    async with serving() as (_, url), target_on(f"{url}{path}") as target:
        sent = Sent(target)
        sent.send(b"x")
        (reply,) = await sent.all()
        assert reply[:2] == expected
        sent.send(b"x")  # on the same connection, or on another if that has gone
        assert (await sent.all())[1][:2] == expected


async def test_a_server_that_drains_finishes_what_it_has_and_new_requests_go_elsewhere() -> None:
    """As RFC 9113, 6.8 has it: first "begin no more", then the last stream that was begun, then the end."""
    async with serving() as (server, url), target_on(f"{url}/hold") as target:
        sent = Sent(target)
        for number in range(3):
            sent.send(bytes(40_000 * number))
        await until(lambda: len(server.held) == 3)
        (first,) = server.connections
        first.goaway(2**31 - 1)
        server.held[0]()
        await sent.all(1)
        sent.send(b"later")
        await until(lambda: len(server.held) == 4)
        assert len(server.connections) == 2 and sorted(first.headers) == [1, 3, 5]
        first.goaway(5)
        for answer in server.held[1:]:
            answer()
        replies = await sent.all()
        await until(first.transport.is_closing)
    assert [reply.status for reply in replies] == [Status.OK] * 4
    assert replies[2].bytes_received > 80_000


async def test_streams_beyond_the_last_one_begun_are_refused_and_those_before_it_answered() -> None:
    async with serving() as (server, url), target_on(f"{url}/hold") as target:
        sent = Sent(target)
        for _ in range(3):
            sent.send(b"x")
        await until(lambda: len(server.held) == 3)
        server.connections[0].goaway(3)
        replies = await sent.all(1)
        assert replies == [Reply(Status.REFUSED, "server goes away")] and sent.replies.keys() == {2}
        server.held[0]()
        server.held[1]()
        assert [reply.status for reply in (await sent.all())[:2]] == [Status.OK] * 2


async def test_a_server_that_lowers_its_limit_gets_no_more_than_that() -> None:
    async with serving(max_concurrent_streams=6) as (server, url), target_on(f"{url}/hold") as target:
        sent = Sent(target)
        for _ in range(6):
            sent.send(b"x")
        await until(lambda: len(server.held) == 6)
        (first,) = server.connections
        first.allow(max_concurrent_streams=2, initial_window_size=1000, max_frame_size=20_000)
        server.settings["max_concurrent_streams"] = 2
        for answer in server.held[:5]:
            answer()
        await sent.all(5)
        for _ in range(3):
            sent.send(bytes(30_000))
        await until(lambda: len(server.held) == 9)
        assert first.h2.open_inbound_streams == 2 and len(server.connections) == 2
        for answer in server.held[5:]:
            answer()
        assert {reply.status for reply in await sent.all()} == {Status.OK}
        assert len(first.bodies[13]) == 30_000, "a window of 1000 bytes was opened again and again"


async def test_an_answer_before_the_body_was_sent_ends_the_request_and_frees_its_place() -> None:
    async with (
        serving(max_concurrent_streams=1, initial_window_size=1000) as (server, url),
        target_on(f"{url}/early") as target,
    ):
        sent = Sent(target)
        for number in range(3):
            sent.send(bytes(500_000))
            assert (await sent.all(number + 1))[number][:2] == (Status.ERROR, "http 413")
        (only,) = server.connections
        await until(lambda: only.cancelled == [1, 3, 5])
    assert all(len(body) < 500_000 for body in only.bodies.values())


async def test_head_and_get_send_no_body() -> None:
    async with serving() as (server, url):
        for method in ("HEAD", "get"):
            async with target_on(f"{url}/status/200", method=method) as target:
                sent = Sent(target)
                sent.send(b"not sent")
                assert (await sent.all())[0].status is Status.OK
    asked = [talk.headers[1] for talk in server.connections]
    assert [(each[":method"], "content-length" in each) for each in asked] == [("HEAD", False), ("GET", False)]
    assert not any(talk.bodies for talk in server.connections)


async def test_an_abandoned_request_is_cancelled_and_its_place_is_free_again() -> None:
    async with serving(max_concurrent_streams=1) as (server, url), target_on(f"{url}/hold") as target:
        sent = Sent(target)
        gone = sent.send(b"gone")
        await until(lambda: len(server.held) == 1)
        target.abandon(gone)
        await until(lambda: server.connections[0].cancelled == [1])
        sent.send(b"next")
        await until(lambda: len(server.held) == 2)
        server.held[1]()
        (reply,) = await sent.all(1)
        assert reply.status is Status.OK and sent.replies.keys() == {1}
        assert len(server.connections) == 1


async def test_one_that_waits_for_a_connection_can_be_abandoned() -> None:
    async with serving(max_concurrent_streams=1) as (server, url), target_on(f"{url}/echo") as target:
        sent = Sent(target)
        sent.send(b"on the way")
        waiting = sent.send(b"waits")
        target.abandon(waiting)
        await sent.all(1)
        assert sent.replies.keys() == {0}
        assert all(b"waits" not in talk.bodies.values() for talk in server.connections)


async def test_grpcs_own_server_understands_it() -> None:
    async def echo(body: bytes, context: Any) -> bytes:
        return body

    server = aio.server()
    handler = grpc.method_handlers_generic_handler("a.B", {"C": grpc.unary_unary_rpc_method_handler(echo)})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with target_on(f"http://127.0.0.1:{port}/a.B/C", headers=(("TE", "trailers"),)) as target:
            sent = Sent(target)
            body = bytes(200_000)
            framed = b"\0" + len(body).to_bytes(4, "big") + body
            for _ in range(20):
                sent.send(framed, payload={"content_type": "application/grpc"})
            replies = await sent.all()
    finally:
        await server.stop(0)
    assert {reply.status for reply in replies} == {Status.OK}
    assert all(reply.bytes_received > 200_000 for reply in replies)
