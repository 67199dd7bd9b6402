"""Owns requests to the cloud: sends them, hears heartbeats, and teaches the world what came back and when.

An offer outlives the frame that made it: a late reply still tells the state of the link, and its answer still
refreshes the tracker. Nothing here decides.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from dataclasses import dataclass

from splitmesh.bus.base import Bus, Message, Subscription
from splitmesh.errors import BusError, BusUnavailable, MeshError, WireError
from splitmesh.frames.answer import Answer
from splitmesh.plan.bundle.read import Bundle
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.world import RemoteTimes, World
from splitmesh.wire import headers, subjects
from splitmesh.wire.messages import Cancel, Heartbeat, InferReply, InferRequest, Nack, NackCode

_log = logging.getLogger(__name__)

_REPLY_TIMEOUT_S = 5.0
_ECHO_INTERVAL_S = 0.4
_ECHO_BYTES = 150
_CENSORED = 1.25
"""A reply that has not come by the deadline is entered as having taken this many times the time waited."""
_CLOCK_SLACK = 1.05
"""Two machines' monotonic clocks may run at rates that differ by so much, generously."""
_MAX_PENDING_BYTES = 1_000_000
_PEER_FAULTS = frozenset({NackCode.UNKNOWN_MODEL, NackCode.DRAINING, NackCode.INFERENCE_FAILED})


class Refused(MeshError):
    """The worker said no; `code` says why."""

    def __init__(self, code: NackCode, detail: str) -> None:
        super().__init__(f"refused ({code.label}): {detail}")
        self.code = code


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
    point: OperatingPoint
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
        self.uplink_bytes = 0
        self.malformed_heartbeats = 0
        self.worker_seen_ns: dict[str, int] = {}

    async def attach(self, bus: Bus) -> None:
        """Use `bus` from now on. Before, the edge is on its own."""
        self._heartbeats = await bus.subscribe(subjects.load(self._tenant), self._on_heartbeat)
        self._bus = bus
        self._echoing = asyncio.create_task(self._echo_for_ever(bus), name="echo")

    @property
    def connected(self) -> bool:
        return self._bus is not None and self._bus.connected

    def send(
        self,
        frame_id: str,
        point: OperatingPoint,
        payload: bytes,
        *,
        decided_ns: int,
        deadline_ns: int,
        predicted_ms: float,
        traceparent: str | None,
        probe: bool = False,
    ) -> Offer:
        """Hand `payload` to the bus. Raises BusUnavailable when the broker is gone or the socket is clogged."""
        bus = self._bus
        if bus is None or not bus.connected:
            raise BusUnavailable("no connection to the broker")
        if bus.pending_bytes > _MAX_PENDING_BYTES:
            raise BusUnavailable(f"{bus.pending_bytes} bytes wait for the socket")
        now_ns = time.monotonic_ns()
        request = InferRequest(
            frame_id=frame_id,
            edge_id=self._edge,
            model=self._bundle.manifest.name,
            model_sha256=self._bundle.sha256,
            cut=point.cut,
            payload=payload,
            probe=probe,
        )
        head = headers.pack(traceparent, frame_id, max(0, (deadline_ns - now_ns) // 1000))
        subject = subjects.infer(self._tenant, self._bundle.manifest.name, point.cut)
        self._world.on_sent(frame_id, point, len(payload), now_ns)
        self.uplink_bytes += len(payload)
        verdict = _Verdict(self._world, point, decided_ns, deadline_ns, predicted_ms, probe)
        timer = asyncio.get_running_loop().call_later((deadline_ns - now_ns) / 1e9, verdict.deadline_passed)
        exchange = self._exchange(bus, frame_id, point, subject, request.encode(), head, verdict, timer)
        task = asyncio.create_task(exchange, name=f"offer-{frame_id}")
        self._open.add(task)
        task.add_done_callback(self._forget)
        return Offer(frame_id, point, now_ns, task)

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

    async def _exchange(
        self,
        bus: Bus,
        frame_id: str,
        point: OperatingPoint,
        subject: str,
        payload: bytes,
        head: dict[str, str],
        verdict: _Verdict,
        timer: asyncio.TimerHandle,
    ) -> Reply:
        try:
            sent_ns = time.monotonic_ns()
            message = await bus.request(subject, payload, headers=head, timeout_s=_REPLY_TIMEOUT_S)
            now_ns = time.monotonic_ns()
            reply = _honest(InferReply.decode(message.payload), frame_id, (now_ns - sent_ns) / 1e6)
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
        network_ms = self._world.on_reply(frame_id, point, now_ns, reply.worker_id, times) or 0.0
        if isinstance(reply.outcome, Nack):
            verdict.refused(now_ns, of_peer=reply.outcome.code in _PEER_FAULTS)
            raise Refused(reply.outcome.code, reply.outcome.detail)
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

    async def _on_heartbeat(self, message: Message) -> None:
        try:
            beat = Heartbeat.decode(message.payload)
        except WireError as exc:
            self.malformed_heartbeats += 1
            if self.malformed_heartbeats & (self.malformed_heartbeats - 1) == 0:  # at 1, 2, 4, 8, …
                _log.warning("malformed heartbeat (%d so far): %s", self.malformed_heartbeats, exc)
            return
        ours = (self._bundle.manifest.name, self._bundle.sha256)
        if beat.draining or ours not in {(m.model, m.model_sha256) for m in beat.models}:
            return
        now_ns = time.monotonic_ns()
        self.worker_seen_ns[beat.worker_id] = now_ns
        self._world.on_heartbeat(now_ns, beat.predicted_wait_us / 1e3)

    def _forget(self, task: asyncio.Task[Reply]) -> None:
        self._open.discard(task)
        if not task.cancelled():
            task.exception()  # its frame may have been settled long ago; then nobody else asks


def _honest(reply: InferReply, frame_id: str, elapsed_ms: float) -> InferReply:
    """`reply`, unless it can't be true. Raises WireError: one lie would teach the policy for seconds."""
    nameless = isinstance(reply.outcome, Nack) and not reply.frame_id
    if reply.frame_id != frame_id and not nameless:
        raise WireError(f"{reply.worker_id} answered {frame_id} with a reply for {reply.frame_id}")
    spent_ms = _remote_times(reply).total_ms
    if spent_ms > _CLOCK_SLACK * elapsed_ms + 1:
        raise WireError(f"{reply.worker_id} says that it spent {spent_ms:.0f} ms of {elapsed_ms:.0f} ms")
    return reply


def _remote_times(reply: InferReply) -> RemoteTimes:
    t = reply.times
    return RemoteTimes(t.queue_us / 1e3, t.decode_us / 1e3, t.service_us / 1e3, t.postprocess_us / 1e3)


class _Verdict:
    """Tells breaker and lateness exactly once whether this offer made its deadline."""

    def __init__(
        self,
        world: World,
        point: OperatingPoint,
        decided_ns: int,
        deadline_ns: int,
        predicted_ms: float,
        probe: bool,
    ) -> None:
        self._world = world
        self._place: Place = point.place
        self._decided_ns = decided_ns
        self._deadline_ns = deadline_ns
        self._predicted_ms = predicted_ms
        self._probe = probe
        self._given = False

    def answered(self, now_ns: int) -> None:
        if self._given:
            return
        self._give(now_ns, 1.0)
        if now_ns <= self._deadline_ns:
            self._world.breaker.on_success(now_ns)
        else:
            self._world.breaker.on_miss(now_ns)

    def deadline_passed(self) -> None:
        now_ns = time.monotonic_ns()
        if not self._given:
            self._give(now_ns, _CENSORED)
            self._world.breaker.on_miss(now_ns)

    def failed(self, now_ns: int) -> None:
        """No answer will come: nothing is learnt about lateness."""
        self.refused(now_ns, of_peer=True)

    def refused(self, now_ns: int, *, of_peer: bool) -> None:
        """`of_peer`: the worker, not this request, is the trouble."""
        if not self._given:
            self._given = True
            if of_peer:
                self._world.breaker.on_miss(now_ns)

    def _give(self, now_ns: int, factor: float) -> None:
        self._given = True
        if not self._probe:
            self._world.on_result(self._place, factor * (now_ns - self._decided_ns) / 1e6, self._predicted_ms)
