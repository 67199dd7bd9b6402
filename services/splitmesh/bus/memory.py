"""Owns a bus within one event loop that behaves as NATS does. For tests, and for a mesh in one process."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from splitmesh.bus.base import Message, MessageSink
from splitmesh.bus.inlet import Inlet
from splitmesh.bus.replies import Replies, await_reply
from splitmesh.bus.rules import check_size, check_subject, matches
from splitmesh.errors import BusUnavailable


@dataclass(eq=False, slots=True)
class _Route:
    """Where messages under `pattern` go; at most one route of each `queue` gets a message."""

    pattern: str
    queue: str
    offer: Callable[[Message], object]


class MemoryBroker:
    """Carries messages between its buses. `stop` and `start` play an outage of the broker."""

    def __init__(self, *, max_payload_bytes: int = 1_048_576, seed: int = 0) -> None:
        self.max_payload_bytes = max_payload_bytes
        self.running = True
        self._routes: list[_Route] = []
        self._buses: list[MemoryBus] = []
        self._count = itertools.count(1)
        self._random = random.Random(seed)

    def connect(self, *, on_state: Callable[[str], None] | None = None) -> MemoryBus:
        """A bus on this broker. Raises BusUnavailable while stopped."""
        if not self.running:
            raise BusUnavailable("the broker is stopped")
        bus = MemoryBus(self, f"_INBOX.{next(self._count)}", on_state)
        self._buses.append(bus)
        return bus

    def stop(self) -> None:
        """Every bus is disconnected; waiting requests fail."""
        self.running = False
        for bus in self._buses:
            bus._tell("disconnected")
            bus._replies.fail_all(BusUnavailable("the connection to the broker was lost"))

    def start(self) -> None:
        self.running = True
        for bus in self._buses:
            bus._tell("connected")

    def _add(self, route: _Route) -> None:
        self._routes.append(route)

    def _remove(self, route: _Route) -> None:
        if route in self._routes:
            self._routes.remove(route)

    def _forget(self, bus: MemoryBus) -> None:
        if bus in self._buses:
            self._buses.remove(bus)

    def _route(self, message: Message) -> bool:
        """Deliver; False if nobody listens."""
        groups: dict[str, list[_Route]] = {}
        targets = []
        for route in self._routes:
            if matches(route.pattern, message.subject):
                if route.queue:
                    groups.setdefault(route.queue, []).append(route)
                else:
                    targets.append(route)
        targets += [self._random.choice(members) for members in groups.values()]
        for route in targets:
            route.offer(message)
        return bool(targets)


class _Interest:
    def __init__(self, broker: MemoryBroker, route: _Route, inlet: Inlet) -> None:
        self.route = route
        self.inlet = inlet
        self._broker = broker

    async def unsubscribe(self) -> None:
        """Stop delivery; messages already taken are still handled. Idempotent."""
        self._broker._remove(self.route)
        await self.inlet.close()


class MemoryBus:
    """See splitmesh.bus.base.Bus. Made by `MemoryBroker.connect`."""

    def __init__(self, broker: MemoryBroker, inbox: str, on_state: Callable[[str], None] | None) -> None:
        self._broker = broker
        self._replies = Replies(inbox)
        self._interests: list[_Interest] = []
        self._on_state = on_state
        self._draining: asyncio.Task[None] | None = None
        self._closed = False
        self._inbox = _Route(f"{inbox}.*", "", self._replies.settle)
        broker._add(self._inbox)
        self._tell("connected")

    def _tell(self, state: str) -> None:
        if self._on_state is not None:
            self._on_state(state)

    @property
    def connected(self) -> bool:
        return self._broker.running and not self._closed

    @property
    def pending_bytes(self) -> int:
        return 0

    @property
    def max_payload_bytes(self) -> int:
        return self._broker.max_payload_bytes

    def _send(self, subject: str, payload: bytes, headers: Mapping[str, str] | None, reply: str) -> bool:
        check_subject(subject, wildcards=False)
        if reply:
            check_subject(reply, wildcards=False)
        check_size(payload, headers or {}, self.max_payload_bytes)
        if not self.connected:
            raise BusUnavailable("no connection to the broker")
        return self._broker._route(Message(subject, bytes(payload), dict(headers or {}), reply))

    async def publish(
        self, subject: str, payload: bytes, *, headers: Mapping[str, str] | None = None, reply: str = ""
    ) -> None:
        self._send(subject, payload, headers, reply)

    async def request(
        self, subject: str, payload: bytes, *, headers: Mapping[str, str] | None = None, timeout_s: float
    ) -> Message:
        with self._replies.waiting(subject) as (reply, future):
            if not self._send(subject, payload, headers, reply):
                self._replies.refuse(reply)
            return await await_reply(future, subject, timeout_s)

    async def subscribe(self, subject: str, sink: MessageSink, *, queue: str = "") -> _Interest:
        check_subject(subject, wildcards=True)
        if queue:
            check_subject(queue, wildcards=False)
        if self._draining is not None:
            raise BusUnavailable("the bus is closing")
        inlet = Inlet(subject, sink)
        interest = _Interest(self._broker, _Route(subject, queue, inlet.offer), inlet)
        self._broker._add(interest.route)
        self._interests.append(interest)
        return interest

    async def echo(self, *, timeout_s: float) -> None:
        with self._replies.waiting("our own inbox") as (subject, future):
            self._send(subject, b"", None, "")
            await await_reply(future, subject, timeout_s)

    async def drain(self) -> None:
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain(), name="drain memory bus")
        await asyncio.shield(self._draining)

    async def _drain(self) -> None:
        for interest in self._interests:
            self._broker._remove(interest.route)
        await asyncio.gather(*(interest.inlet.close() for interest in self._interests))
        self._replies.fail_all(BusUnavailable("the bus is closed"))
        self._broker._remove(self._inbox)
        self._broker._forget(self)
        self._closed = True
        self._tell("closed")
