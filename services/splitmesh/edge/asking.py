"""Owns one message to a worker, from its sending to its reply or loss, and what world and pool learn of it.

A full request goes to the worker that was chosen; to the queue group when none is known, and at once if that one has
gone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from splitmesh.bus.base import Bus, Message
from splitmesh.edge.parcel import Parcel, Refused, Reply, Terms, honest, remote_times
from splitmesh.edge.peers import Peers
from splitmesh.errors import NoResponders, RequestTimeout, WireError
from splitmesh.plan.bundle.read import Bundle
from splitmesh.policy.point import OperatingPoint
from splitmesh.policy.world import World
from splitmesh.telemetry.metrics import PoolEvent
from splitmesh.wire import subjects
from splitmesh.wire.headers import MAX_BUDGET_US
from splitmesh.wire.messages import InferReply, Nack
from splitmesh.wire.requests import InferRequest, StreamRequest, split_frame_id

REPLY_TIMEOUT_S = 5.0
_PROTOCOL_BYTES = 40
"""Of NATS around a request: verb, reply subject, size."""


@dataclass(slots=True)
class Attempt:
    """One message under way. `key` is one of a kind; `expected_ms` counts from sending to reply."""

    key: str
    frame_id: str
    parcel: Parcel
    worker: str
    """That was asked; "": whichever of the queue group gets it."""
    subject: str
    raw: bytes
    sent_ns: int
    expected_ms: float
    budget_ms: float
    """From its arrival, that the worker was given."""
    overdue: bool = False


class Asking:
    """One edge's way of asking. `edge` and `tenant`: names that go into requests and subjects."""

    def __init__(self, world: World, peers: Peers, bundle: Bundle, *, edge: str, tenant: str) -> None:
        self._world = world
        self._peers = peers
        self._bundle = bundle
        self._edge = edge
        self._tenant = tenant
        self._open: dict[str, Attempt] = {}
        self.uplink_bytes = 0

    def send(self, frame_id: str, parcel: Parcel, terms: Terms) -> Attempt:
        """To the stream's home, a chosen worker or the queue group; `ask` must follow. Raises WireError."""
        now_ns = time.monotonic_ns()
        if parcel.worker:
            return self._sent(frame_id, frame_id, parcel, terms, parcel.worker, PoolEvent.HOME, now_ns)
        choice = self._peers.choose(parcel.point, now_ns, trial=not parcel.stream)
        worker, event = (choice.worker, PoolEvent.CHOSEN) if choice else ("", PoolEvent.QUEUE_GROUP)
        return self._sent(frame_id, frame_id, parcel, terms, worker, event, now_ns)

    def send_again(self, first: Attempt, terms: Terms, due_ns: int) -> Attempt | None:
        """The same to another worker; None if none is live, or none could answer by `due_ns`."""
        now_ns = time.monotonic_ns()
        choice = self._peers.choose(first.parcel.point, now_ns, without=(first.worker,), trial=False)
        if choice is None or now_ns + 1e6 * (self._empty_link_ms(len(first.raw)) + choice.answer_ms) > due_ns:
            return None
        key = f"{first.frame_id}.again"
        return self._sent(key, first.frame_id, first.parcel, terms, choice.worker, PoolEvent.HEDGED, now_ns)

    def _sent(
        self, key: str, frame_id: str, parcel: Parcel, terms: Terms, worker: str, event: PoolEvent, now_ns: int
    ) -> Attempt:
        raw = self._encode(frame_id, parcel, terms, now_ns)
        subject = subjects.worker(self._tenant, worker) if worker else self._pool_subject(parcel.point)
        expected_ms = self._empty_link_ms(len(raw)) + _profiled_ms(parcel.point)
        budget_ms = (terms.deadline_ns - now_ns) / 1e6
        attempt = Attempt(key, frame_id, parcel, worker, subject, raw, now_ns, expected_ms, budget_ms)
        message_bytes = len(raw) + len(subject) + _PROTOCOL_BYTES
        self._world.on_sent(
            key,
            parcel.point,
            len(parcel.payload),
            now_ns,
            message_bytes=message_bytes,
            is_key=parcel.key,
            coarser=parcel.coarser,
        )
        self._open[key] = attempt
        self._peers.choice.sent(worker, key, _profiled_ms(parcel.point), now_ns)
        self._peers.counts[event] += 1
        self.uplink_bytes += len(parcel.payload)
        return attempt

    def _encode(self, frame_id: str, parcel: Parcel, terms: Terms, now_ns: int) -> bytes:
        """Slim to the worker that has the stream open, else in full."""
        budget_us = min(MAX_BUDGET_US, max(0, (terms.deadline_ns - now_ns) // 1000))
        if parcel.worker:
            seq = split_frame_id(frame_id)[1]
            return StreamRequest(parcel.stream, seq, parcel.payload, budget_us, terms.traceparent).encode()
        return InferRequest(
            frame_id=frame_id,
            edge_id=self._edge,
            model=self._bundle.manifest.name,
            model_sha256=self._bundle.sha256,
            cut=parcel.point.cut,
            payload=parcel.payload,
            probe=terms.probe,
            budget_us=budget_us,
            traceparent=terms.traceparent,
            stream=parcel.stream,
        ).encode()

    async def ask(self, bus: Bus, attempt: Attempt) -> Reply:
        """Its reply. Raises Refused, BusError, WireError; world and pool know of it, however it ends."""
        try:
            reply, now_ns = await self._reply(bus, attempt)
        except BaseException as exc:
            self._lost(attempt, exc)
            raise
        finally:
            del self._open[attempt.key]
        times = remote_times(reply)
        network_ms = self._world.on_reply(attempt.key, attempt.parcel.point, now_ns, reply.worker_id, times) or 0.0
        slowness = (now_ns - attempt.sent_ns) / 1e6 / attempt.expected_ms
        self._peers.replied(attempt.key, reply, slowness, attempt.budget_ms, now_ns)
        self.crossed(attempt.sent_ns, now_ns)
        if isinstance(reply.outcome, Nack):
            raise Refused(reply.outcome.code, reply.outcome.detail, worker=reply.worker_id)
        return Reply(reply.outcome, reply.worker_id, times, network_ms, now_ns)

    def overdue(self, attempt: Attempt, now_ns: int) -> None:
        """It has taken too long. Link or worker, who is to blame shows in what was sent later."""
        attempt.overdue = True
        self._peers.overdue(attempt.worker, attempt.key, now_ns)

    def deadline_passed(self, frame_id: str, now_ns: int) -> None:
        """Of a frame: whatever of it is still under way is overdue."""
        for attempt in self._open.values():
            if attempt.frame_id == frame_id:
                self.overdue(attempt, now_ns)

    def crossed(self, sent_ns: int, now_ns: int) -> None:
        """What was sent at `sent_ns` came back: what was sent before has crossed as well, and if it is overdue, its
        worker holds it up and not the link."""
        for attempt in self._open.values():
            if attempt.overdue and attempt.sent_ns < sent_ns:
                self._peers.overdue(attempt.worker, attempt.key, now_ns)

    async def _reply(self, bus: Bus, attempt: Attempt) -> tuple[InferReply, int]:
        """(reply, when it came)."""
        message = await self._deliver(bus, attempt)
        now_ns = time.monotonic_ns()
        elapsed_ms = (now_ns - attempt.sent_ns) / 1e6
        streamed = bool(attempt.parcel.worker)
        made = InferReply.decode(message.payload)
        return honest(made, attempt.frame_id, streamed=streamed, worker=attempt.worker, elapsed_ms=elapsed_ms), now_ns

    async def _deliver(self, bus: Bus, attempt: Attempt) -> Message:
        try:
            return await bus.request(attempt.subject, attempt.raw, timeout_s=REPLY_TIMEOUT_S)
        except NoResponders:
            self._peers.choice.gone(attempt.worker)
            if not attempt.worker or attempt.parcel.worker:
                raise
        attempt.worker, attempt.subject = "", self._pool_subject(attempt.parcel.point)
        attempt.sent_ns = time.monotonic_ns()
        self._world.link.on_lost(attempt.key)
        remote_ms = self._world.remote_ms(attempt.parcel.point)
        self._world.link.on_sent(attempt.key, len(attempt.raw), attempt.sent_ns, remote_ms=remote_ms)
        self._peers.counts[PoolEvent.QUEUE_GROUP] += 1
        return await bus.request(attempt.subject, attempt.raw, timeout_s=REPLY_TIMEOUT_S)

    def _lost(self, attempt: Attempt, exc: BaseException) -> None:
        now_ns = time.monotonic_ns()
        self._world.link.on_lost(attempt.key)
        if isinstance(exc, WireError):
            self._peers.failed(attempt.worker, attempt.key, now_ns)
            return
        if isinstance(exc, RequestTimeout):
            self._peers.overdue(attempt.worker, attempt.key, now_ns)
        self._peers.choice.ended(attempt.worker, attempt.key)

    def _pool_subject(self, point: OperatingPoint) -> str:
        return subjects.infer(self._tenant, self._bundle.manifest.name, point.cut)

    def _empty_link_ms(self, message_bytes: int) -> float:
        """With nothing else under way: while a reply is overdue the link's own guess is that it stalls."""
        return self._world.link.transfer_ms(message_bytes) + self._world.link.base_ms


def _profiled_ms(point: OperatingPoint) -> float:
    return point.decode_ms + point.cloud_ms
