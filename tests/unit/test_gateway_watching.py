"""Watching an edge, on a bus in memory: the lease comes first, only that edge is heard, the oldest is lost first."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from splitmesh.bus.memory import MemoryBroker
from splitmesh.errors import UnknownName, WireError
from splitmesh.gateway import watching
from splitmesh.gateway.watching import Inbox, watch_edge
from splitmesh.v1 import control_pb2 as pb
from splitmesh.wire import subjects
from splitmesh.wire.packing import pack


def numbered(seq: int, size: int = 0) -> pb.FrameReport:
    """size: in bytes, beyond a few."""
    return pb.FrameReport(seq=seq, note="x" * size)


async def test_an_inbox_keeps_the_newest_and_counts_the_others() -> None:
    inbox: Inbox[pb.FrameReport] = Inbox(3)
    for number in range(5):
        inbox.put(numbered(number))
    assert [(await inbox.get()).seq for _ in range(3)] == [2, 3, 4]
    assert (inbox.take_missed(), inbox.take_missed()) == (2, 0)
    waiting = asyncio.ensure_future(inbox.get())
    await asyncio.sleep(0)
    inbox.put(numbered(9))
    assert (await waiting).seq == 9


async def test_what_waits_in_an_inbox_is_bounded_in_bytes() -> None:
    inbox: Inbox[pb.FrameReport] = Inbox(100, limit_bytes=10_000)
    for number in range(50):
        inbox.put(numbered(number, 3_000))
        assert inbox.bytes <= 10_000
    assert [(await inbox.get()).seq for _ in range(3)] == [47, 48, 49]
    assert (inbox.take_missed(), inbox.bytes) == (47, 0)
    inbox.put(numbered(50, 20_000))
    assert (await inbox.get()).seq == 50 and inbox.take_missed() == 0


class Edge:
    """What an edge named e says; `grants` False: it refuses."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.bus = self.broker.connect()
        self.asked: list[pb.EdgeCommand] = []
        self.grants = True
        self._asked_again = asyncio.Event()

    async def has_been_asked(self, times: int) -> None:
        async with asyncio.timeout(10):
            while len(self.asked) < times:
                self._asked_again.clear()
                await self._asked_again.wait()

    async def ask(self, command: pb.EdgeCommand) -> pb.EdgeReply:
        self.asked.append(command)
        self._asked_again.set()
        if self.grants:
            return pb.EdgeReply(edge_id="e", watching_s=command.watch.lease_s)
        return pb.EdgeReply(edge_id="e", refused=pb.Refused(field="watch", detail="too curious"))

    async def say(self, name: str, seq: int) -> None:
        frame = pb.FrameReport(frame_id=f"{name}.r.{seq}", seq=seq, outcome="local", trace_id=bytes(16))
        reports = pb.FrameReports(edge_id=name, run_id="r", frames=[frame])
        await self.bus.publish(subjects.result("acme", name), pack(reports))

    def watch(self, **wanted: object):
        request = pb.WatchRequest(frames=True, **wanted)
        return contextlib.aclosing(watch_edge(self.bus, self.ask, "acme", "e", request, actor="someone"))


@pytest.fixture
async def edge():
    made = Edge()
    yield made
    await made.bus.drain()


async def test_what_the_edge_says_arrives_and_nothing_else(edge: Edge) -> None:
    async with edge.watch() as said:
        first = asyncio.ensure_future(anext(said))
        await edge.has_been_asked(1)
        await edge.bus.publish(subjects.result("acme", "e"), b"\xff\xff")  # is no message
        wrong = pb.FrameReports(edge_id="other", run_id="r")
        await edge.bus.publish(subjects.result("acme", "e"), pack(wrong))
        await edge.bus.publish(subjects.result("globex", "e"), pack(pb.FrameReports(edge_id="e")))
        await edge.say("e", 7)
        assert [frame.seq for frame in (await first).frames] == [7]
    (command,) = edge.asked
    assert command.actor == "someone" and command.watch.frames and command.watch.lease_s == watching.LEASE_S


async def test_a_refusal_and_an_absent_edge_end_it(edge: Edge) -> None:
    edge.grants = False
    async with edge.watch() as said:
        with pytest.raises(WireError, match="too curious"):
            await anext(said)

    async def nobody(_: pb.EdgeCommand) -> pb.EdgeReply:
        raise UnknownName("no edge", field="edge", name="e")

    said = watch_edge(edge.bus, nobody, "acme", "e", pb.WatchRequest(), actor="")
    with pytest.raises(UnknownName):
        await anext(said)


async def test_the_lease_is_renewed_also_after_the_edge_was_away(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_RENEW_S", 0.001)
    async with edge.watch() as said:
        first = asyncio.ensure_future(anext(said))
        await edge.has_been_asked(2)
        for grants in (False, True):
            edge.grants = grants
            await edge.has_been_asked(len(edge.asked) + 3)
        await edge.say("e", 1)
        assert len((await first).frames) == 1
    assert not any(task.get_name() == "lease of e" for task in asyncio.all_tasks())


async def test_a_slow_reader_gets_the_newest(edge: Edge) -> None:
    async with edge.watch() as said:
        first = asyncio.ensure_future(anext(said))
        await edge.has_been_asked(1)
        await edge.say("e", 0)
        await first
        for seq in range(1, 201):
            await edge.say("e", seq)
        await edge.bus.echo(timeout_s=1)
        seen = [(await anext(said)).frames[0].seq for _ in range(64)]
    assert seen == list(range(137, 201))
