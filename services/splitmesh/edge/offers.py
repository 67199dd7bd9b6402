"""Owns a frame's dealings with the cloud: encode on the codec thread, send, take the reply, probe, cancel."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from splitmesh.codec.features import encode_features
from splitmesh.codec.picture import encode_picture
from splitmesh.edge.frame import OpenFrame
from splitmesh.edge.offload import Offer, Offloader, Refused, Reply
from splitmesh.edge.parts import Tensors
from splitmesh.errors import BusError, CodecError, WireError
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.probe import ProbeSchedule
from splitmesh.policy.world import World


class Offers:
    """`offloader` None: there is no cloud, and every offer is declined."""

    def __init__(self, offloader: Offloader | None, world: World) -> None:
        self._offloader = offloader
        self._world = world
        self._codec = ThreadPoolExecutor(1, thread_name_prefix="edge-codec")
        self._probes = ProbeSchedule()
        pictures = [p for p in world.points if p.place is Place.FRAME]
        self._probe_point = min(pictures, key=lambda p: p.payload_bytes, default=None)

    async def features(self, frame: OpenFrame, tensors: Tensors) -> Offer | None:
        """Offer the cut; None (with a note on the frame) if it can't be sent."""
        point = frame.point
        return await self._offer(frame, point, lambda: encode_features(tensors, codec=point.codec, level=point.level))

    async def picture(self, frame: OpenFrame) -> Offer | None:
        """Offer the model's input picture; None (with a note on the frame) if it can't be sent."""
        rgb, quality = frame.prepared.rgb, frame.point.level
        return await self._offer(frame, frame.point, lambda: encode_picture(rgb, quality=quality))

    def take(self, frame: OpenFrame, offer: Offer) -> Reply | None:
        """What a finished offer brought; None (with a note on the frame) if it was refused or lost."""
        try:
            reply = offer.reply.result()
        except (Refused, BusError, WireError) as exc:
            frame.notes.append(str(exc))
            frame.trace.span("offload", offer.sent_ns, time.monotonic_ns(), {"splitmesh.failed": str(exc)})
            return None
        frame.worker = reply.worker
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
        """The frame has its result from elsewhere: say so to the workers."""
        frame.trace.span("offload", offer.sent_ns, time.monotonic_ns(), {"splitmesh.withdrawn": True})
        if self._offloader is not None:
            await self._offloader.cancel(offer.frame_id)

    async def maybe_probe(self, frame: OpenFrame) -> None:
        """Ride on a settled frame to learn the state of the link, if a probe is due. Costs the frame nothing."""
        point = self._probe_point
        if point is None or self._offloader is None or not self._offloader.connected:
            return
        now_ns = time.monotonic_ns()
        if not self._probes.due(self._world, point.payload_bytes, now_ns):
            return
        self._probes.sent(now_ns)
        rgb = frame.prepared.rgb
        offer = await self._offer(frame, point, lambda: encode_picture(rgb, quality=point.level), probe=True)
        if offer is None:
            self._probes.back()
        else:
            offer.reply.add_done_callback(lambda _: self._probes.back())

    def close(self) -> None:
        self._codec.shutdown(wait=True, cancel_futures=True)

    async def _offer(
        self, frame: OpenFrame, point: OperatingPoint, encode: Callable[[], bytes], *, probe: bool = False
    ) -> Offer | None:
        if self._offloader is None:
            frame.notes.append("no cloud is configured")
            return None
        start_ns = time.monotonic_ns()
        loop = asyncio.get_running_loop()
        budget_ns = frame.deadline_ns - frame.captured.captured_ns
        try:
            payload = await loop.run_in_executor(self._codec, encode)
            now_ns = time.monotonic_ns()
            if not probe:
                frame.timed("encode", start_ns, now_ns)
            offer = self._offloader.send(
                f"{frame.frame_id}.probe" if probe else frame.frame_id,
                point,
                payload,
                decided_ns=now_ns if probe else frame.decided_ns,
                deadline_ns=now_ns + budget_ns if probe else frame.deadline_ns,
                predicted_ms=frame.decision.chosen.predicted_ms,
                traceparent=None if probe else frame.trace.traceparent("offload"),
                probe=probe,
            )
        except (BusError, CodecError, WireError) as exc:
            if not probe:
                frame.notes.append(str(exc))
            return None
        if not probe:
            frame.uplink_bytes += len(payload)
        return offer
