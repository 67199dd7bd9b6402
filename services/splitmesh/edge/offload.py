"""Owns requests to the cloud: sends them, and teaches the world what came back and when.

An offer outlives the frame that made it: a late reply still tells the state of the link, and its answer still
refreshes the tracker. Nothing here decides.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from dataclasses import dataclass

from splitmesh.bus.base import Bus, Subscription
from splitmesh.edge.peers import Peers
from splitmesh.edge.tables import TableSender
from splitmesh.errors import BusError, BusUnavailable, MeshError, WireError
from splitmesh.frames.answer import Answer
from splitmesh.plan.bundle.read import Bundle
from splitmesh.policy.point import OperatingPoint
from splitmesh.policy.verdict import Verdict
from splitmesh.policy.world import RemoteTimes, World
from splitmesh.wire import subjects
from splitmesh.wire.headers import MAX_BUDGET_US
from splitmesh.wire.messages import Cancel, InferReply, Nack, NackCode
from splitmesh.wire.requests import InferRequest, StreamRequest, split_frame_id

_log = logging.getLogger(__name__)

_REPLY_TIMEOUT_S = 5.0
_ECHO_INTERVAL_S = 0.4
_ECHO_BYTES = 50
_PROTOCOL_BYTES = 40
"""Of NATS around a request: verb, reply subject, size."""
_CLOCK_SLACK = 1.05
"""Two machines' monotonic clocks may run at rates that differ by so much, generously."""
_MAX_PENDING_BYTES = 1_000_000
_PEER_FAULTS = frozenset({NackCode.UNKNOWN_MODEL, NackCode.DRAINING, NackCode.INFERENCE_FAILED})


class Refused(MeshError):
    """The worker said no; `code` says why."""

    def __init__(self, code: NackCode, detail: str, *, worker: str) -> None:
        super().__init__(f"refused ({code.label}): {detail}")
        self.code = code
        self.worker = worker


@dataclass(frozen=True, slots=True)
class Parcel:
    """What one request brings: the payload of a frame at an operating point."""

    point: OperatingPoint
    payload: bytes
    stream: int = 0
    """Id of the stream that it belongs to; 0: none."""
    worker: str = ""
    """Which has opened that stream; "": any of the pool."""
    key: bool = False
    """Of a stream: it builds on nothing."""
    coarser: bool = False
    """Of a stream: `point` is what the link left of the one that was decided on."""


@dataclass(frozen=True, slots=True)
class Terms:
    """When the frame was decided and is due, monotonic ns; what was predicted of it; whether anybody waits."""

    decided_ns: int
    deadline_ns: int
    predicted_ms: float
    traceparent: str | None
    probe: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """A worker's answer in [0, 1] of the model's input, and what it took."""

    answer: Answer
    worker: str
    times: RemoteTimes
    network_ms: float
    received_ns: int


@dataclass(frozen=True, slots=True)
class Offer:
    """A request under way. `reply` gives a Reply, or raises Refused, BusError or WireError."""

    frame_id: str
    parcel: Parcel
    sent_ns: int
    reply: asyncio.Task[Reply]


class Offloader:
    """One edge's door to its cloud."""

    def __init__(self, world: World, bundle: Bundle, *, edge: str, tenant: str) -> None:
        self._bus: Bus | None = None
        self._world = world
        self._bundle = bundle
        self._edge = edge
        self._tenant = tenant
        self._open: set[asyncio.Task[Reply]] = set()
        self._heartbeats: Subscription | None = None
        self._echoing: asyncio.Task[None] | None = None
        self._tables = TableSender(world, bundle, edge=edge, tenant=tenant)
        self.peers = Peers(world, (bundle.manifest.name, bundle.sha256))
        self.uplink_bytes = 0

    async def attach(self, bus: Bus) -> None:
        """Use `bus` from now on. Before, the edge is on its own."""
        self._heartbeats = await bus.subscribe(subjects.load(self._tenant), self.peers.hear)
        self._bus = bus
        self._echoing = asyncio.create_task(self._echo_for_ever(bus), name="echo")

    @property
    def connected(self) -> bool:
        return self._bus is not None and self._bus.connected

    def check_open(self) -> Bus:
        """The bus. Raises BusUnavailable when the broker is gone or the socket is clogged."""
        bus = self._bus
        if bus is None or not bus.connected:
            raise BusUnavailable("no connection to the broker")
        if bus.pending_bytes > _MAX_PENDING_BYTES:
            raise BusUnavailable(f"{bus.pending_bytes} bytes wait for the socket")
        return bus

    def send(self, frame_id: str, parcel: Parcel, terms: Terms) -> Offer:
        """Hand `parcel` to the bus. Raises BusUnavailable as `check_open` does, WireError."""
        bus = self.check_open()
        now_ns = time.monotonic_ns()
        subject, raw = self._request(frame_id, parcel, terms, now_ns)
        message_bytes = len(raw) + len(subject) + _PROTOCOL_BYTES
        self._world.on_sent(
            frame_id,
            parcel.point,
            len(parcel.payload),
            now_ns,
            message_bytes=message_bytes,
            is_key=parcel.key,
            coarser=parcel.coarser,
        )
        self.uplink_bytes += len(parcel.payload)
        exchange = self._exchange(bus, frame_id, parcel, terms, subject, raw)
        task = asyncio.create_task(exchange, name=f"offer-{frame_id}")
        self._open.add(task)
        task.add_done_callback(self._forget)
        return Offer(frame_id, parcel, now_ns, task)

    def send_table(self, worker: str, cut: str) -> None:
        """`worker` lacks the calibration table of `cut`."""
        if self._bus is not None:
            self._tables.lacking(self._bus, worker, cut)

    async def cancel(self, frame_id: str) -> None:
        """Tell the workers that the frame has its result. Best effort: a lost cancel only costs work."""
        if self._bus is None:
            return
        try:
            await self._bus.publish(subjects.cancel(self._tenant), Cancel(frame_id).encode())
        except BusError as exc:
            _log.debug("cancel of %s not sent: %s", frame_id, exc)

    async def drain(self, timeout_s: float) -> None:
        """Wait for what is under way, then give it up."""
        await self._tables.close()
        if self._echoing is not None:
            self._echoing.cancel()
            await asyncio.wait({self._echoing})
        if self._heartbeats is not None:
            await self._heartbeats.unsubscribe()
        if self._open:
            await asyncio.wait(set(self._open), timeout=timeout_s)
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _request(self, frame_id: str, parcel: Parcel, terms: Terms, now_ns: int) -> tuple[str, bytes]:
        """(subject, message): slim to the worker that has the stream open, else in full to any of the pool."""
        budget_us = min(MAX_BUDGET_US, max(0, (terms.deadline_ns - now_ns) // 1000))
        if parcel.worker:
            seq = split_frame_id(frame_id)[1]
            slim = StreamRequest(parcel.stream, seq, parcel.payload, budget_us, terms.traceparent)
            return subjects.worker(self._tenant, parcel.worker), slim.encode()
        name, cut = self._bundle.manifest.name, parcel.point.cut
        full = InferRequest(
            frame_id=frame_id,
            edge_id=self._edge,
            model=name,
            model_sha256=self._bundle.sha256,
            cut=cut,
            payload=parcel.payload,
            probe=terms.probe,
            budget_us=budget_us,
            traceparent=terms.traceparent,
            stream=parcel.stream,
        )
        return subjects.infer(self._tenant, name, cut), full.encode()

    async def _exchange(
        self, bus: Bus, frame_id: str, parcel: Parcel, terms: Terms, subject: str, raw: bytes
    ) -> Reply:
        verdict = Verdict(
            self._world,
            parcel.point.place,
            decided_ns=terms.decided_ns,
            deadline_ns=terms.deadline_ns,
            predicted_ms=terms.predicted_ms,
            probe=terms.probe,
        )
        sent_ns = time.monotonic_ns()
        timer = asyncio.get_running_loop().call_later(
            (terms.deadline_ns - sent_ns) / 1e9, lambda: verdict.deadline_passed(time.monotonic_ns())
        )
        try:
            message = await bus.request(subject, raw, timeout_s=_REPLY_TIMEOUT_S)
            now_ns = time.monotonic_ns()
            reply = _honest(InferReply.decode(message.payload), frame_id, parcel, (now_ns - sent_ns) / 1e6)
        except (BusError, WireError):
            self._world.link.on_lost(frame_id)
            verdict.failed(time.monotonic_ns())
            raise
        except asyncio.CancelledError:
            self._world.link.on_lost(frame_id)
            raise
        finally:
            timer.cancel()
        times = _remote_times(reply)
        network_ms = self._world.on_reply(frame_id, parcel.point, now_ns, reply.worker_id, times) or 0.0
        if isinstance(reply.outcome, Nack):
            verdict.refused(now_ns, of_peer=reply.outcome.code in _PEER_FAULTS)
            raise Refused(reply.outcome.code, reply.outcome.detail, worker=reply.worker_id)
        verdict.answered(now_ns)
        return Reply(reply.outcome, reply.worker_id, times, network_ms, now_ns)

    async def _echo_for_ever(self, bus: Bus) -> None:
        """Learn the base delay, and notice a stall, from a few bytes twice a second: payloads alone can't tell the
        two apart while all of them are of one size, and tell nothing while none is sent.
        """
        link = self._world.link
        for number in itertools.count():
            await asyncio.sleep(_ECHO_INTERVAL_S)
            key = f"echo.{number}"
            try:
                link.on_sent(key, _ECHO_BYTES, time.monotonic_ns(), remote_ms=0.0)
                await bus.echo(timeout_s=_REPLY_TIMEOUT_S)
                link.on_delivered(key, time.monotonic_ns(), remote_ms=0.0)
            except BusError:
                link.on_lost(key)

    def _forget(self, task: asyncio.Task[Reply]) -> None:
        self._open.discard(task)
        if not task.cancelled():
            task.exception()  # its frame may have been settled long ago; then nobody else asks


def _honest(reply: InferReply, frame_id: str, parcel: Parcel, elapsed_ms: float) -> InferReply:
    """`reply`, unless it can't be true. Raises WireError: one lie would teach the policy for seconds."""
    nameless = isinstance(reply.outcome, Nack) and not reply.frame_id and reply.seq is None
    if parcel.worker and reply.seq is not None:
        meant = f"{split_frame_id(frame_id)[0]}.{reply.seq}"
    else:
        meant = reply.frame_id
    if meant != frame_id and not nameless:
        raise WireError(f"{reply.worker_id} answered {frame_id} with a reply for {meant}")
    if parcel.worker and reply.worker_id != parcel.worker:
        raise WireError(f"{reply.worker_id} answered what was sent to {parcel.worker}")
    spent_ms = _remote_times(reply).total_ms
    if spent_ms > _CLOCK_SLACK * elapsed_ms + 1:
        raise WireError(f"{reply.worker_id} says that it spent {spent_ms:.0f} ms of {elapsed_ms:.0f} ms")
    return reply


def _remote_times(reply: InferReply) -> RemoteTimes:
    t = reply.times
    return RemoteTimes(t.queue_us / 1e3, t.decode_us / 1e3, t.service_us / 1e3, t.postprocess_us / 1e3)
