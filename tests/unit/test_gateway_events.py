"""One Watch call, on a bus in memory: its filter, edges that come later, and what a slow reader misses."""

from __future__ import annotations

import asyncio
import time

import pytest

from splitmesh.bus.base import Message
from splitmesh.bus.memory import MemoryBroker, MemoryBus
from splitmesh.errors import UnknownName, WireError
from splitmesh.gateway.events import EventFeed
from splitmesh.gateway.fleet import Fleet
from splitmesh.gateway.tenant import TenantMesh
from splitmesh.v1 import control_pb2
from splitmesh.v1 import gateway_pb2 as pb
from splitmesh.wire import subjects
from splitmesh.wire.messages import Heartbeat
from splitmesh.wire.packing import pack


class Mesh:
    """Tenant acme, with edges that grant every watch and say one frame a millisecond while it lasts."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.bus = self.broker.connect()
        self.fleet = Fleet()
        self.tenant = TenantMesh("acme", self.bus, self.fleet, gateway="gw", own_spans=lambda _: ())
        self.asked: list[tuple[str, control_pb2.WatchRequest]] = []
        self._edges: list[MemoryBus] = []

    async def add_edge(self, name: str) -> None:
        bus = self.broker.connect()
        self._edges.append(bus)

        async def take(message: Message) -> None:
            wanted = control_pb2.EdgeCommand.FromString(message.payload).watch
            self.asked.append((name, wanted))
            reply = control_pb2.EdgeReply(edge_id=name, watching_s=wanted.lease_s)
            await bus.publish(message.reply, pack(reply))
            frame = control_pb2.FrameReport(frame_id=f"{name}.r.1", seq=1, outcome="local", trace_id=bytes(16))
            frame.answer.SetInParent()
            reports = control_pb2.FrameReports(edge_id=name, run_id="r", frames=[frame])
            await bus.publish(subjects.result("acme", name), pack(reports))

        await bus.subscribe(subjects.command("acme", name), take)
        await self.report(name)

    async def report(self, name: str, seq: int = 0) -> None:
        said = control_pb2.EdgeReport(edge_id=name, run_id="r", seq=seq, breaker="closed", policy="adaptive")
        await self.bus.publish(subjects.status("acme", name), pack(said))

    async def stop(self) -> None:
        await self.tenant.stop()
        for bus in (*self._edges, self.bus):
            await bus.drain()


@pytest.fixture
async def mesh():
    made = Mesh()
    await made.tenant.start()
    yield made
    await made.stop()


class Reader:
    """Of one feed, while it is entered."""

    def __init__(self, mesh: Mesh, **wanted: object) -> None:
        self.feed = EventFeed(mesh.tenant, mesh.fleet, pb.WatchFilter(**wanted), actor="someone")

    async def __aenter__(self) -> Reader:
        self._running = asyncio.create_task(self.feed.run())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running.cancel()
        await asyncio.wait({self._running})

    async def next(self, kind: str) -> pb.WatchEvent:
        async with asyncio.timeout(10):
            while (event := (await self.feed.next())[0]).WhichOneof("event") != kind:
                pass
        return event


async def test_reports_are_those_of_the_named_edges(mesh: Mesh) -> None:
    async with Reader(mesh, edges=["b"], kinds=[pb.WATCH_KIND_REPORTS]) as reader:
        for name in ("a", "b"):
            await mesh.report(name)
        assert (await reader.next("report")).report.edge_id == "b"
    assert mesh.asked == []


async def test_decisions_come_without_answers_and_results_with(mesh: Mesh) -> None:
    await mesh.add_edge("a")
    for kind, answers in ((pb.WATCH_KIND_DECISIONS, False), (pb.WATCH_KIND_RESULTS, True)):
        async with Reader(mesh, edges=["a"], kinds=[kind]) as reader:
            (frame,) = (await reader.next("frames")).frames.frames
            assert frame.HasField("answer") is answers
        name, wanted = mesh.asked[-1]
        assert (name, wanted.frames, wanted.answers, wanted.preview_fps) == ("a", True, answers, 0)


async def test_with_none_named_edges_are_followed_also_those_that_come_later(mesh: Mesh) -> None:
    await mesh.add_edge("a")
    async with Reader(mesh, kinds=[pb.WATCH_KIND_DECISIONS]) as reader:
        assert (await reader.next("frames")).frames.edge_id == "a"
        await mesh.add_edge("later")
        assert (await reader.next("frames")).frames.edge_id == "later"


async def test_fleet_events_are_those_from_now_on(mesh: Mesh) -> None:
    await mesh.report("before")
    await mesh.bus.echo(timeout_s=1)
    async with Reader(mesh, kinds=[pb.WATCH_KIND_FLEET]) as reader:
        await mesh.bus.publish(subjects.load("acme"), Heartbeat("w-1", 1, ()).encode())
        event = (await reader.next("fleet")).fleet
    assert (event.name, event.service, event.what) == ("w-1", "cloud", "worker-joined")
    assert abs(event.unix_ms / 1e3 - time.time()) < 10


async def test_a_slow_reader_is_told_what_it_missed(mesh: Mesh) -> None:
    async with Reader(mesh, kinds=[pb.WATCH_KIND_REPORTS]) as reader:
        for seq in range(300):
            await mesh.report("a", seq)
        await mesh.bus.echo(timeout_s=1)
        event, missed = await reader.feed.next()
        assert missed == event.missed == 300 - 256 and event.report.seq == 44
        assert (await reader.feed.next())[1] == 0


async def test_a_named_edge_that_is_not_there_ends_it(mesh: Mesh) -> None:
    feed = EventFeed(mesh.tenant, mesh.fleet, pb.WatchFilter(edges=["no"], kinds=[pb.WATCH_KIND_RESULTS]), actor="")
    with pytest.raises(ExceptionGroup) as caught:
        await feed.run()
    assert caught.group_contains(UnknownName)


@pytest.mark.parametrize(
    "wanted",
    [
        {"edges": ["a.b"]},
        {"edges": ["e"] * 65},
        {"kinds": [9]},
        {"kinds": [0]},
        {"kinds": [pb.WATCH_KIND_PREVIEWS]},
        {"edges": ["a"], "kinds": [pb.WATCH_KIND_PREVIEWS], "preview_fps": 31.0},
        {"edges": ["a"], "kinds": [pb.WATCH_KIND_PREVIEWS], "preview_fps": float("nan")},
        {"edges": ["a"], "kinds": [pb.WATCH_KIND_PREVIEWS], "preview_px": 5000},
    ],
)
async def test_a_filter_that_breaks_a_rule_is_refused(mesh: Mesh, wanted: dict[str, object]) -> None:
    with pytest.raises(WireError):
        EventFeed(mesh.tenant, mesh.fleet, pb.WatchFilter(**wanted), actor="")
