"""Which event on the way of a stream's frame does what to the stream, and which workers count as gone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from splitmesh.bus.base import Message
from splitmesh.edge.parcel import Refused
from splitmesh.edge.peers import SILENT_NS, Peers
from splitmesh.edge.senders import StreamSenders
from splitmesh.edge.streams import MAX_IDLE_NS, EdgeStream
from splitmesh.errors import BusUnavailable, NoResponders, RequestTimeout, WireError
from splitmesh.policy.payloads import Reference
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.world import World
from splitmesh.wire.messages import Heartbeat, HostedModel, NackCode

SHA = "0" * 64
POINT = OperatingPoint("split/c/temporal-9", Place.SPLIT, 0.9, "c", "temporal", 9, payload_bytes=9.0, key_bytes=90.0)


@dataclass
class Coded:
    payload: bytes
    number: int
    key: bool
    level: int


class Encoder:
    def __init__(self) -> None:
        self.count, self.referenced = 0, False

    def encode(self, content: object, *, level: int, limit_bytes: float) -> Coded:
        self.count += 1
        return Coded(b"x", self.count, not self.referenced, level)

    def acknowledged(self, number: int) -> None:
        self.referenced = True

    def lost(self, number: int) -> None:
        pass

    def reset(self) -> None:
        self.referenced = False


class Rig:
    def __init__(self) -> None:
        track, local = OperatingPoint("track", Place.TRACK, 1.0), OperatingPoint("local", Place.LOCAL, 1.0)
        self.world = World([track, local, POINT], track_kappa=1.0)
        self.senders = StreamSenders(self.world, SimpleNamespace(stream=lambda codec, cut: Encoder()))  # type: ignore[arg-type]
        self.peers = Peers(self.world, ("m", SHA))
        self.peers.gone = self.senders.worker_gone

    def stream(self, now_ns: int = 0) -> EdgeStream:
        return self.senders.of(POINT, self.peers, now_ns)

    async def ends(self, outcome: object) -> None:
        """A frame is sent, and its request ends so."""
        stream = self.stream()
        frame = stream.code(None, 9)
        stream.send(frame)

        async def exchange() -> Any:
            if isinstance(outcome, Exception):
                raise outcome
            return SimpleNamespace(worker=outcome)

        reply = asyncio.create_task(exchange())
        self.senders.watch(stream, frame, SimpleNamespace(reply=reply))  # type: ignore[arg-type]
        await asyncio.wait({reply})
        await asyncio.sleep(0)

    async def opened(self) -> EdgeStream:
        await self.ends("w-1")
        stream = self.stream()
        assert stream.home == "w-1" and self.world.payloads.reference(POINT) is Reference.ALIVE
        return stream

    async def beat(self, worker: str, *, draining: bool = False) -> None:
        beat = Heartbeat(worker, 1, (HostedModel("m", SHA),), draining=draining)
        await self.peers.hear(Message("load", beat.encode()))


BREAKS = (
    NackCode.NEED_KEYFRAME, NackCode.NEED_TABLE, NackCode.UNKNOWN_MODEL, NackCode.DRAINING, NackCode.BAD_REQUEST
)  # fmt: skip


@pytest.mark.parametrize(
    ("outcome", "lives"),
    [
        *((Refused(code, "no", worker="w-1"), code not in BREAKS) for code in NackCode),
        (NoResponders("x"), False),
        (WireError("a lie"), False),
        (RequestTimeout("x"), True),
        (BusUnavailable("x"), True),
        ("w-1", True),
        ("w-2", True),
    ],
    ids=str,
)
async def test_what_ends_a_streams_life(outcome: object, lives: bool) -> None:
    rig = Rig()
    stream = await rig.opened()
    await rig.ends(outcome)
    assert (stream.home == "w-1") == lives
    assert (rig.world.payloads.reference(POINT) is Reference.ALIVE) == lives


async def test_a_worker_that_says_that_it_goes_is_gone() -> None:
    rig = Rig()
    stream = await rig.opened()
    await rig.beat("w-2", draining=True)
    assert stream.home == "w-1"
    await rig.beat("w-1", draining=True)
    assert stream.home == ""


async def test_a_worker_that_misses_heartbeats_is_gone_but_one_never_heard_is_not() -> None:
    rig = Rig()
    stream = await rig.opened()
    begun_ns = stream._acknowledged_ns
    rig.senders.tidy(rig.peers, begun_ns + 2 * SILENT_NS)
    assert stream.home == "w-1"
    await rig.beat("w-1")
    seen_ns = rig.peers._seen_ns["w-1"]
    rig.senders.tidy(rig.peers, seen_ns + SILENT_NS)
    assert stream.home == "w-1"
    rig.senders.tidy(rig.peers, seen_ns + SILENT_NS + 1)
    assert stream.home == ""


async def test_when_the_breaker_opens_every_stream_begins_anew_once() -> None:
    rig = Rig()
    stream = await rig.opened()
    rig.world.breaker.on_success(0)
    rig.world.breaker.on_success(0)
    for _ in range(6):
        rig.world.breaker.on_miss(0)
    assert rig.world.breaker.opened == 1
    rig.senders.tidy(rig.peers, 0)
    assert stream.home == ""
    await rig.opened()
    rig.senders.tidy(rig.peers, 0)
    assert stream.home == "w-1"


async def test_what_was_acknowledged_long_ago_is_not_built_on() -> None:
    rig = Rig()
    stream = await rig.opened()
    assert rig.stream(stream._acknowledged_ns + MAX_IDLE_NS).home == "w-1"
    assert rig.stream(stream._acknowledged_ns + MAX_IDLE_NS + 1).home == ""


async def test_each_codec_at_each_cut_is_a_stream_of_its_own() -> None:
    rig = Rig()
    others = [
        OperatingPoint("a", Place.SPLIT, 0.9, "d", "temporal"),
        OperatingPoint("b", Place.FRAME, 0.9, "", "h264"),
    ]
    streams = {rig.stream().id, *(rig.senders.of(other, rig.peers, 0).id for other in others)}
    assert len(streams) == 3 and rig.stream() is rig.stream()
