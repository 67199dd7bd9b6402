"""What a bus promises, asked of the in-memory twin and of a real nats-server alike."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from splitmesh.bus.base import Bus, Message
from splitmesh.bus.rules import BadMessage
from splitmesh.errors import BusUnavailable, NoResponders, PayloadTooLarge, RequestTimeout

Connect = Callable[[], Awaitable[Bus]]
LIMIT = 200_000


class Inbox:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[Message] = []
        self._changed = asyncio.Event()

    async def __call__(self, message: Message) -> None:
        self.got.append(message)
        self._changed.set()

    async def wait(self, count: int) -> list[Message]:
        async with asyncio.timeout(5):
            while len(self.got) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.got


def echo(bus: Bus):
    async def sink(message: Message) -> None:
        await bus.publish(message.reply, message.payload, headers=message.headers)

    return sink


async def settled(bus: Bus) -> None:
    """Everything that `bus` sent before has been delivered to its own subscriptions."""
    inbox = Inbox()
    mark = await bus.subscribe("mark", inbox)
    await bus.publish("mark", b"")
    await inbox.wait(1)
    await mark.unsubscribe()


async def test_publish_carries_everything(connect: Connect) -> None:
    a, b = await connect(), await connect()
    inbox = Inbox()
    await b.subscribe("news.sport", inbox)
    await a.publish("news.sport", b"\x00\r\n\xff", headers={"k": "v: w", "Other": ""}, reply="back.here")
    (got,) = await inbox.wait(1)
    assert got == Message("news.sport", b"\x00\r\n\xff", {"k": "v: w", "Other": ""}, "back.here")
    await a.publish("news.sport", b"")
    assert (await inbox.wait(2))[1] == Message("news.sport", b"", {}, "")


async def test_order_is_kept_and_delivery_is_one_after_another(connect: Connect) -> None:
    a, b = await connect(), await connect()
    running, seen, done = 0, [], asyncio.Event()

    async def sink(message: Message) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        running -= 1
        seen.append(int(message.payload))
        if len(seen) == 500:
            done.set()

    await b.subscribe("n", sink)
    for i in range(500):
        await a.publish("n", str(i).encode())
    async with asyncio.timeout(5):
        await done.wait()
    assert seen == list(range(500))


@pytest.mark.parametrize(
    ("pattern", "hits"),
    [
        ("a.b", {"a.b"}),
        ("a.*", {"a.b", "a.c"}),
        ("*.b", {"a.b"}),
        ("a.>", {"a.b", "a.c", "a.b.c"}),
        (">", {"a", "a.b", "a.c", "a.b.c"}),
        ("a.*.c", {"a.b.c"}),
        ("a.*.*.*", set()),
    ],
)
async def test_wildcards(connect: Connect, pattern: str, hits: set[str]) -> None:
    bus = await connect()
    inbox = Inbox()
    await bus.subscribe(pattern, inbox)
    for subject in ("a", "a.b", "a.c", "a.b.c"):
        await bus.publish(subject, b"")
    await settled(bus)
    assert {m.subject for m in inbox.got if m.subject.startswith("a")} == hits  # ">" also gets the marks


async def test_a_queue_group_shares_and_others_get_all(connect: Connect) -> None:
    a = await connect()
    members = [await connect() for _ in range(3)]
    inboxes = [Inbox() for _ in members]
    everyone = Inbox()
    for bus, inbox in zip(members, inboxes, strict=True):
        await bus.subscribe("work.*", inbox, queue="pool")
    await members[0].subscribe("work.>", everyone)
    for i in range(300):
        await a.publish("work.x", str(i).encode())
    await everyone.wait(300)
    for bus in (a, *members):
        await settled(bus)
    counts = Counter(m.payload for inbox in inboxes for m in inbox.got)
    assert len(counts) == 300 and set(counts.values()) == {1}
    assert all(len(inbox.got) > 20 for inbox in inboxes)


async def test_a_group_spans_patterns(connect: Connect) -> None:
    a = await connect()
    one, two = Inbox(), Inbox()
    await a.subscribe("work.x", one, queue="pool")
    await a.subscribe("work.*", two, queue="pool")
    for _ in range(50):
        await a.publish("work.x", b"")
    await settled(a)
    assert len(one.got) + len(two.got) == 50


async def test_request(connect: Connect) -> None:
    a, b = await connect(), await connect()
    await b.subscribe("svc", echo(b), queue="pool")
    replies = await asyncio.gather(
        *(a.request("svc", f"{i}".encode(), headers={"i": f"{i}"}, timeout_s=5) for i in range(100))
    )
    assert [r.payload for r in replies] == [f"{i}".encode() for i in range(100)]
    assert [r.headers["i"] for r in replies] == [f"{i}" for i in range(100)]


async def test_echo_comes_back_and_says_when_it_cannot(connect: Connect) -> None:
    bus = await connect()
    await bus.echo(timeout_s=5)
    await bus.drain()
    with pytest.raises(BusUnavailable):
        await bus.echo(timeout_s=5)


async def test_nobody_listens_is_said_at_once(connect: Connect) -> None:
    a = await connect()
    async with asyncio.timeout(2):
        with pytest.raises(NoResponders, match=r"no\.one"):
            await a.request("no.one", b"", timeout_s=60)


async def test_silence_times_out_and_a_late_reply_harms_nobody(connect: Connect) -> None:
    a, b = await connect(), await connect()
    inbox = Inbox()
    await b.subscribe("slow", inbox)
    with pytest.raises(RequestTimeout, match="slow"):
        await a.request("slow", b"1", timeout_s=0.05)
    (got,) = await inbox.wait(1)
    await b.subscribe("svc", echo(b))
    await b.publish(got.reply, b"too late")
    assert (await a.request("svc", b"2", timeout_s=5)).payload == b"2"


async def test_cancelling_a_request_leaves_nothing(connect: Connect) -> None:
    a, b = await connect(), await connect()
    inbox = Inbox()
    await b.subscribe("slow", inbox)
    asked = asyncio.create_task(a.request("slow", b"", timeout_s=60))
    await inbox.wait(1)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert len(a._replies) == 0
    await b.publish(inbox.got[0].reply, b"too late")
    await b.subscribe("svc", echo(b))
    assert (await a.request("svc", b"x", timeout_s=5)).payload == b"x"


async def test_the_limit_counts_headers_and_the_connection_survives(connect: Connect) -> None:
    a, b = await connect(), await connect()
    assert a.max_payload_bytes == LIMIT
    inbox = Inbox()
    await b.subscribe("big", inbox)
    for payload, headers in ((bytes(LIMIT + 1), None), (bytes(LIMIT), {"k": "v"})):
        with pytest.raises(PayloadTooLarge):
            await a.publish("big", payload, headers=headers)
        with pytest.raises(PayloadTooLarge):
            await a.request("big", payload, headers=headers, timeout_s=1)
    await a.publish("big", bytes(LIMIT))
    # "NATS/1.0\r\n" + "k: v\r\n" + "\r\n" are 18 bytes on the wire
    await a.publish("big", bytes(LIMIT - 18), headers={"k": "v"})
    assert [len(m.payload) for m in await inbox.wait(2)] == [LIMIT, LIMIT - 18]


@pytest.mark.parametrize("subject", ["", ".", "a..b", "a b", "a.", "a\r\nPUB x 0", "a.*", ">"])
async def test_malformed_subjects_are_not_sent(connect: Connect, subject: str) -> None:
    a = await connect()
    with pytest.raises(BadMessage):
        await a.publish(subject, b"")
    with pytest.raises(BadMessage):
        await a.request(subject, b"", timeout_s=1)
    with pytest.raises(BadMessage):
        await a.publish("fine", b"", reply=subject or " ")
    if subject not in ("a.*", ">"):
        with pytest.raises(BadMessage):
            await a.subscribe(subject, Inbox())


@pytest.mark.parametrize(
    ("name", "value"), [("", "v"), ("a b", "v"), ("k\r\n", "v"), ("k", "v\r\n"), ("k", " v"), ("k", "é")]
)
async def test_malformed_headers_are_not_sent(connect: Connect, name: str, value: str) -> None:
    a = await connect()
    with pytest.raises(BadMessage):
        await a.publish("fine", b"", headers={name: value})


async def test_unsubscribe_finishes_what_was_taken(connect: Connect) -> None:
    a = await connect()
    gate, seen = asyncio.Event(), []

    async def sink(message: Message) -> None:
        await gate.wait()
        seen.append(message.payload)

    subscription = await a.subscribe("s", sink)
    await a.publish("s", b"1")
    await a.publish("s", b"2")
    await settled(a)
    ending = asyncio.create_task(subscription.unsubscribe())
    await settled(a)
    await a.publish("s", b"3")
    gate.set()
    await ending
    await settled(a)
    assert seen == [b"1", b"2"]
    await subscription.unsubscribe()
    with pytest.raises(NoResponders):
        await a.request("s", b"", timeout_s=5)


async def test_a_sink_may_unsubscribe_itself(connect: Connect) -> None:
    a = await connect()
    seen = []

    async def sink(message: Message) -> None:
        seen.append(message.payload)
        await subscription.unsubscribe()

    subscription = await a.subscribe("once", sink)
    await a.publish("once", b"1")
    await settled(a)
    await a.publish("once", b"2")
    await settled(a)
    assert seen == [b"1"]


async def test_a_failing_sink_gets_the_next_message(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    a = await connect()
    inbox = Inbox()

    async def sink(message: Message) -> None:
        await inbox(message)
        raise ValueError("bad one")

    await a.subscribe("s", sink)
    await a.publish("s", b"1")
    await a.publish("s", b"2")
    await inbox.wait(2)
    assert "the sink of s failed" in caplog.text


async def test_drain_finishes_answers_and_closes(connect: Connect) -> None:
    a, b = await connect(), await connect()
    gate, taken = asyncio.Event(), Inbox()

    async def sink(message: Message) -> None:
        await taken(message)
        await gate.wait()
        await b.publish(message.reply, b"done " + message.payload)

    await b.subscribe("svc", sink, queue="pool")
    asked = [asyncio.create_task(a.request("svc", f"{i}".encode(), timeout_s=10)) for i in range(3)]
    await taken.wait(1)
    await settled(a)
    await settled(b)
    draining = asyncio.create_task(b.drain())
    await asyncio.sleep(0)
    with pytest.raises(BusUnavailable):
        await b.subscribe("more", Inbox())
    gate.set()
    assert [r.payload for r in await asyncio.gather(*asked)] == [b"done 0", b"done 1", b"done 2"]
    await draining
    await b.drain()
    assert not b.connected and b.pending_bytes == 0
    with pytest.raises(BusUnavailable):
        await b.publish("x", b"")
    with pytest.raises(BusUnavailable):
        await b.request("x", b"", timeout_s=1)
    with pytest.raises(NoResponders):
        await a.request("svc", b"", timeout_s=5)


async def test_drain_fails_requests_that_still_wait(connect: Connect) -> None:
    a, b = await connect(), await connect()
    inbox = Inbox()
    await b.subscribe("slow", inbox)
    asked = asyncio.create_task(a.request("slow", b"", timeout_s=60))
    await inbox.wait(1)
    await a.drain()
    with pytest.raises(BusUnavailable):
        await asked


async def test_a_cancelled_drain_still_drains(connect: Connect) -> None:
    a = await connect()
    gate, taken = asyncio.Event(), Inbox()

    async def sink(message: Message) -> None:
        await taken(message)
        await gate.wait()

    await a.subscribe("s", sink)
    await a.publish("s", b"")
    await taken.wait(1)
    first = asyncio.create_task(a.drain())
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.set()
    await a.drain()
    assert not a.connected
