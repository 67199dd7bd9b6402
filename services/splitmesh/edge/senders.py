"""Owns the edge's open streams, one for each codec with state at each cut, and what becomes of their frames."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from splitmesh.edge.coding import Coding
from splitmesh.edge.offload import Offer
from splitmesh.edge.parcel import Refused, Reply
from splitmesh.edge.peers import Peers
from splitmesh.edge.streams import EdgeStream, End, StreamFrame
from splitmesh.errors import BusError, NoResponders
from splitmesh.policy.point import OperatingPoint
from splitmesh.policy.world import World
from splitmesh.wire.messages import NackCode

_CHAINED = frozenset({"h264"})
_BREAKS = frozenset(
    {
        NackCode.NEED_KEYFRAME,
        NackCode.NEED_TABLE,
        NackCode.UNKNOWN_MODEL,
        NackCode.DRAINING,
        NackCode.BAD_REQUEST,
    }
)
_LEAST_PATIENCE_S = 1.0


class StreamSenders:
    """Lives on the event loop. Streams are made when they are first needed, and kept: there are few."""

    def __init__(self, world: World, coding: Coding) -> None:
        self._world = world
        self._coding = coding
        self._streams: dict[tuple[str, str], EdgeStream] = {}
        self._opened = 0
        """Times that the breaker had opened when the streams were last looked at."""

    def of(self, point: OperatingPoint, peers: Peers, now_ns: int) -> EdgeStream:
        """The stream for a frame at `point`, begun anew if its worker is gone. Raises NotSent."""
        name = (point.codec, point.cut)
        stream = self._streams.get(name)
        if stream is None:
            make = partial(self._coding.stream, point.codec, point.cut)
            tell = partial(self._world.payloads.on_reference, point.codec, point.cut)
            stream = self._streams[name] = EdgeStream(make, chained=point.codec in _CHAINED, tell=tell)
        self.tidy(peers, now_ns)
        stream.check_room()
        return stream

    def tidy(self, peers: Peers, now_ns: int) -> None:
        """Begin anew what can't go on: its worker is silent, the breaker has opened, its reference is old."""
        opened = self._world.breaker.opened
        for stream in self._streams.values():
            if stream.stale(now_ns) or opened != self._opened or (stream.home and peers.silent(stream.home, now_ns)):
                stream.reset()
        self._opened = opened

    def worker_gone(self, worker: str) -> None:
        """It said that it goes: what it holds is lost."""
        for stream in self._streams.values():
            if stream.home == worker:
                stream.reset()

    def unsent(self, stream: EdgeStream, frame: StreamFrame) -> None:
        """It was coded, and could not go."""
        stream.ended(frame, End.REFUSED, "", time.monotonic_ns())

    def watch(self, stream: EdgeStream, frame: StreamFrame, offer: Offer) -> None:
        """Take the reply of `offer` as the acknowledgement of `frame`, or its lack as the loss."""
        offer.reply.add_done_callback(partial(_settle, stream, frame))
        if not stream.home:
            now_ns = time.monotonic_ns()
            expected_s = self._world.link.network_ms(len(frame.payload), now_ns) / 1e3
            patience_s = max(_LEAST_PATIENCE_S, 3 * expected_s)
            timer = asyncio.get_running_loop().call_later(patience_s, stream.overdue, frame)
            offer.reply.add_done_callback(lambda _: timer.cancel())


def _settle(stream: EdgeStream, frame: StreamFrame, reply: asyncio.Task[Reply]) -> None:
    end, worker = _how_it_ended(reply)
    stream.ended(frame, end, worker, time.monotonic_ns())


def _how_it_ended(reply: asyncio.Task[Reply]) -> tuple[End, str]:
    if reply.cancelled():
        return End.REFUSED, ""
    match reply.exception():
        case None:
            return End.ANSWERED, reply.result().worker
        case Refused() as refused:
            return End.BROKEN if refused.code in _BREAKS else End.REFUSED, refused.worker
        case NoResponders():
            return End.BROKEN, ""
        case BusError():
            return End.REFUSED, ""
        case _:  # a reply that can't be true
            return End.BROKEN, ""
