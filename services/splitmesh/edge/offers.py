"""Owns a frame's dealings with the cloud: encode on the codec thread, send, take the reply, cancel."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from splitmesh.codec.registry import CODECS
from splitmesh.edge.coding import Coding
from splitmesh.edge.frame import OpenFrame
from splitmesh.edge.offload import Offer, Offloader
from splitmesh.edge.parcel import Parcel, Refused, Reply, Terms
from splitmesh.edge.parts import Tensors
from splitmesh.edge.probes import Probes
from splitmesh.edge.senders import StreamSenders
from splitmesh.edge.streams import NotSent
from splitmesh.errors import BusError, CodecError, WireError
from splitmesh.plan.bundle.read import Bundle
from splitmesh.policy.world import World
from splitmesh.wire.messages import NackCode


class Offers:
    """`offloader` None: there is no cloud, and every offer is declined."""

    def __init__(self, offloader: Offloader | None, world: World, bundle: Bundle) -> None:
        self._offloader = offloader
        self._world = world
        self._codec = ThreadPoolExecutor(1, thread_name_prefix="edge-codec")
        self._coding = Coding(bundle)
        self._probes = Probes(world, (bundle.manifest.height, bundle.manifest.width))
        self.streams = StreamSenders(world, self._coding)
        if offloader is not None:
            offloader.peers.gone = self.streams.worker_gone

    async def features(self, frame: OpenFrame, tensors: Tensors) -> Offer | None:
        """Offer the cut; None (with a note on the frame) if it can't be sent."""
        return await self._offer(frame, tensors)

    async def picture(self, frame: OpenFrame) -> Offer | None:
        """Offer the model's input picture; None (with a note on the frame) if it can't be sent."""
        return await self._offer(frame, frame.prepared.rgb)

    def take(self, frame: OpenFrame, offer: Offer) -> Reply | None:
        """What a finished offer brought; None (with a note on the frame) if it was refused or lost."""
        try:
            reply = offer.reply.result()
        except (Refused, BusError, WireError) as exc:
            frame.notes.append(str(exc))
            frame.trace.span("offload", offer.sent_ns, time.monotonic_ns(), {"splitmesh.failed": str(exc)})
            return None
        frame.worker = reply.worker
        if reply.note:
            frame.notes.append(reply.note)
        frame.uplink_bytes += reply.again_bytes
        frame.times_ms |= {
            "network": reply.network_ms,
            "worker_queue": reply.times.queue_ms,
            "decode": reply.times.decode_ms,
            "tail": reply.times.service_ms,
        }
        facts = {"splitmesh.bytes": frame.uplink_bytes, "splitmesh.network_ms": reply.network_ms}
        frame.trace.span("offload", offer.sent_ns, reply.received_ns, facts)
        return reply

    async def withdraw(self, frame: OpenFrame, offer: Offer) -> None:
        """The frame has its result from elsewhere: say so to the workers. A frame of a stream stays: its answer is
        the acknowledgement that later ones build on.
        """
        frame.trace.span("offload", offer.sent_ns, time.monotonic_ns(), {"splitmesh.withdrawn": True})
        if self._offloader is not None and not offer.parcel.stream:
            await self._offloader.cancel(offer.frame_id)

    async def maybe_probe(self, frame: OpenFrame) -> None:
        """Ride on a settled frame to learn the state of the link, if a probe is due. Costs the frame nothing."""
        if self._offloader is None or not self._offloader.connected:
            return
        now_ns = time.monotonic_ns()
        self.streams.tidy(self._offloader.peers, now_ns)
        budget_ns = frame.deadline_ns - frame.captured.captured_ns
        point = self._probes.due(now_ns, budget_ns / 1e6)
        if point is None:
            return
        try:
            payload = await self._run(self._probes.payload, point, frame.prepared.rgb)
            now_ns = time.monotonic_ns()
            terms = Terms(now_ns, now_ns + budget_ns, frame.decision.chosen.predicted_ms, None, probe=True)
            offer = self._offloader.send(f"{frame.frame_id}.probe", Parcel(point, payload), terms)
        except (BusError, CodecError, WireError):
            self._probes.back()
        else:
            offer.reply.add_done_callback(lambda _: self._probes.back())

    def close(self) -> None:
        self._codec.shutdown(wait=True, cancel_futures=True)

    async def _offer(self, frame: OpenFrame, content: Any) -> Offer | None:
        if self._offloader is None:
            frame.notes.append("no cloud is configured")
            return None
        try:
            self._offloader.check_open()
            if CODECS[frame.point.codec].stateful:
                offer = await self._by_stream(self._offloader, frame, content)
            else:
                payload = await self._timed(frame, partial(self._coding.alone, frame.point, content))
                offer = self._offloader.send(frame.frame_id, Parcel(frame.point, payload), _terms(frame))
        except (BusError, CodecError, NotSent, WireError) as exc:
            frame.notes.append(str(exc))
            return None
        frame.uplink_bytes += len(offer.parcel.payload)
        offer.reply.add_done_callback(lambda _: self._see_table(offer))
        return offer

    async def _by_stream(self, offloader: Offloader, frame: OpenFrame, content: Any) -> Offer:
        """Raises NotSent, BusError, CodecError, WireError."""
        point = frame.point
        sender = self.streams.of(point, offloader.peers, time.monotonic_ns())
        now_ns = time.monotonic_ns()
        due_ms = (frame.deadline_ns - now_ns) / 1e6
        room = self._world.room_bytes(point, due_ms, now_ns, key=self._world.payloads.needs_key(point))
        try:
            coded = await self._timed(frame, partial(sender.code, content, point.level, room))
        except asyncio.CancelledError:
            sender.reset()  # what was coded in the meantime goes nowhere
            raise
        if coded.level != point.level:
            frame.notes.append(f"level {coded.level} of {point.level}: the link carries {room:.0f} bytes in time")
            point = frame.coarser = self._world.at_level(point, coded.level)
        stream, worker = sender.id, sender.send(coded)
        try:
            parcel = Parcel(point, coded.payload, stream, worker, coded.key, point is not frame.point)
            offer = offloader.send(frame.frame_id, parcel, _terms(frame))
        except BaseException:
            self.streams.unsent(sender, coded)
            raise
        self.streams.watch(sender, coded, offer)
        return offer

    async def _timed(self, frame: OpenFrame, encode: Any) -> Any:
        start_ns = time.monotonic_ns()
        coded = await self._run(encode)
        end_ns = time.monotonic_ns()
        frame.timed("encode", start_ns, end_ns)
        self._world.on_encoded(frame.point, (end_ns - start_ns) / 1e6)
        return coded

    async def _run(self, work: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._codec, work, *arguments)

    def _see_table(self, offer: Offer) -> None:
        """A worker that lacks the table gets it, for the frames to come."""
        error = None if offer.reply.cancelled() else offer.reply.exception()
        if isinstance(error, Refused) and error.code is NackCode.NEED_TABLE and self._offloader is not None:
            self._offloader.send_table(error.worker, offer.parcel.point.cut)


def _terms(frame: OpenFrame) -> Terms:
    return Terms(
        decided_ns=frame.decided_ns,
        deadline_ns=frame.deadline_ns,
        predicted_ms=frame.decision.chosen.predicted_ms,
        traceparent=frame.trace.traceparent("offload"),
    )
