"""Owns requests to the cloud: who hears how each ended, and when one is sent a second time.

An offer outlives the frame that made it: a late reply still tells the state of the link, and its answer still
refreshes the tracker. Nothing here decides.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from splitmesh.bus.base import Bus, Subscription
from splitmesh.edge.asking import REPLY_TIMEOUT_S, Asking, Attempt
from splitmesh.edge.parcel import Parcel, Refused, Reply, Terms
from splitmesh.edge.peers import Peers
from splitmesh.edge.tables import TableSender
from splitmesh.errors import BusError, BusUnavailable, WireError
from splitmesh.plan.bundle.read import Bundle
from splitmesh.policy.point import Place
from splitmesh.policy.verdict import Verdict
from splitmesh.policy.world import World
from splitmesh.schedule.hedge import Hedging
from splitmesh.telemetry.metrics import PoolEvent
from splitmesh.wire import subjects
from splitmesh.wire.messages import Cancel, NackCode

_log = logging.getLogger(__name__)

_ECHO_INTERVAL_S = 0.4
_ECHO_BYTES = 50
_MAX_PENDING_BYTES = 1_000_000
_PEER_FAULTS = frozenset({NackCode.UNKNOWN_MODEL, NackCode.DRAINING, NackCode.INFERENCE_FAILED})


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
        self._tenant = tenant
        self._open: set[asyncio.Task[Reply]] = set()
        self._heartbeats: Subscription | None = None
        self._echoing: asyncio.Task[None] | None = None
        self._tables = TableSender(world, bundle, edge=edge, tenant=tenant)
        self.peers = Peers(world, (bundle.manifest.name, bundle.sha256))
        self._asking = Asking(world, self.peers, bundle, edge=edge, tenant=tenant)
        self._hedging = Hedging()

    async def attach(self, bus: Bus) -> None:
        """Use `bus` from now on. Before, the edge is on its own."""
        self._heartbeats = await bus.subscribe(subjects.load(self._tenant), self.peers.hear)
        self._bus = bus
        self._echoing = asyncio.create_task(self._echo_for_ever(bus), name="echo")

    @property
    def connected(self) -> bool:
        return self._bus is not None and self._bus.connected

    @property
    def uplink_bytes(self) -> int:
        """Payloads handed to the bus, second ones among them."""
        return self._asking.uplink_bytes

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
        first = self._asking.send(frame_id, parcel, terms)
        sent_ns = first.sent_ns
        task = asyncio.create_task(self._exchange(bus, first, terms), name=f"offer-{frame_id}")
        self._open.add(task)
        task.add_done_callback(self._forget)
        return Offer(frame_id, parcel, sent_ns, task)

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

    # -- one request ----------------------------------------------------------------------------------------------

    async def _exchange(self, bus: Bus, first: Attempt, terms: Terms) -> Reply:
        verdict = Verdict(
            self._world,
            first.parcel.point.place,
            decided_ns=terms.decided_ns,
            deadline_ns=terms.deadline_ns,
            predicted_ms=terms.predicted_ms,
            probe=terms.probe,
        )

        def passed() -> None:
            now_ns = time.monotonic_ns()
            verdict.deadline_passed(now_ns)
            self._asking.deadline_passed(first.frame_id, now_ns)

        left_s = (terms.deadline_ns - time.monotonic_ns()) / 1e9
        timer = asyncio.get_running_loop().call_later(left_s, passed)
        try:
            reply = await self._answer(bus, first, terms)
        except Refused as exc:
            verdict.refused(time.monotonic_ns(), of_peer=exc.code in _PEER_FAULTS)
            raise
        except (BusError, WireError):
            verdict.failed(time.monotonic_ns())
            raise
        finally:
            timer.cancel()
        verdict.answered(reply.received_ns)
        return reply

    async def _answer(self, bus: Bus, first: Attempt, terms: Terms) -> Reply:
        """Of the first, or of a second request if one is sent. A stream's frame can't be decoded anywhere else."""
        if first.parcel.stream or terms.probe or not first.worker:
            return await self._asking.ask(bus, first)
        point = first.parcel.point
        action = (point.place, point.cut, point.codec)
        self._hedging.budget.earn()
        due_ns = self._fallback_ns(first, terms)
        left_ms = (due_ns - first.sent_ns) / 1e6
        delay_ms = self._hedging.delay_ms(action, first.expected_ms, left_ms)
        if delay_ms is None:
            reply = await self._asking.ask(bus, first)
        else:
            reply = await self._race(bus, first, terms, delay_ms / 1e3, due_ns)
        self._hedging.took(action, (reply.received_ns - first.sent_ns) / 1e6, first.expected_ms)
        return reply

    def _fallback_ns(self, first: Attempt, terms: Terms) -> int:
        """When the frame does without a reply."""
        point, budget_ms = first.parcel.point, (terms.deadline_ns - terms.decided_ns) / 1e6
        if point.place is not Place.SPLIT:
            return terms.deadline_ns
        return terms.decided_ns + round(self._world.resume_at_ms(point, budget_ms) * 1e6)

    async def _race(self, bus: Bus, first: Attempt, terms: Terms, delay_s: float, due_ns: int) -> Reply:
        """The first answer of two requests, the second sent after `delay_s` if there is none by then."""
        asked = [asyncio.create_task(self._asking.ask(bus, first), name=f"ask-{first.key}")]
        try:
            await asyncio.wait(asked, timeout=delay_s)
            second = None if asked[0].done() else self._second(first, terms, due_ns)
            if second is None:
                return await asked[0]
            asked.append(asyncio.create_task(self._asking.ask(bus, second), name=f"ask-{second.key}"))
            winner = await _first_answer(asked)
            if not all(task.done() for task in asked):
                await self.cancel(first.frame_id)
            note = f"sent again to {second.worker} after {1e3 * delay_s:.0f} ms"
            again_bytes = len(second.parcel.payload)
            if winner is asked[0]:  # or neither has an answer, and this raises
                return replace(winner.result(), note=note, again_bytes=again_bytes)
            self.peers.counts[PoolEvent.HEDGE_WON] += 1
            self._asking.overdue(first, winner.result().received_ns)
            return replace(winner.result(), note=f"{note}, which answered first", again_bytes=again_bytes)
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    def _second(self, first: Attempt, terms: Terms, due_ns: int) -> Attempt | None:
        second = self._asking.send_again(first, terms, due_ns) if self._hedging.budget.left else None
        if second is not None:
            self._hedging.budget.spend()
        return second

    async def _echo_for_ever(self, bus: Bus) -> None:
        """Learn the base delay, and notice a stall, from a few bytes twice a second: payloads alone can't tell the
        two apart while all of them are of one size, and tell nothing while none is sent.
        """
        link = self._world.link
        for number in itertools.count():
            await asyncio.sleep(_ECHO_INTERVAL_S)
            key = f"echo.{number}"
            try:
                sent_ns = time.monotonic_ns()
                link.on_sent(key, _ECHO_BYTES, sent_ns, remote_ms=0.0)
                await bus.echo(timeout_s=REPLY_TIMEOUT_S)
                link.on_delivered(key, time.monotonic_ns(), remote_ms=0.0)
                self._asking.crossed(sent_ns, time.monotonic_ns())
            except BusError:
                link.on_lost(key)

    def _forget(self, task: asyncio.Task[Reply]) -> None:
        self._open.discard(task)
        if not task.cancelled():
            task.exception()  # its frame may have been settled long ago; then nobody else asks


async def _first_answer(asked: Sequence[asyncio.Task[Reply]]) -> asyncio.Task[Reply]:
    """The one of `asked` that brings a reply first; the first of them if none does."""
    waiting = set(asked)
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in asked:
            if task in done and task.exception() is None:
                return task
    return asked[0]
