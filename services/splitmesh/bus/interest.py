"""Owns one subscription of ours on NATS, which outlives connections, and the names of connection states."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum

from nats.aio.subscription import Subscription as NatsInterest

from splitmesh.bus.base import Message, MessageSink
from splitmesh.bus.border import unanswerable
from splitmesh.bus.inlet import Inlet
from splitmesh.bus.link import LinkClient


class BusState(StrEnum):
    """What `on_state` is told."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    CLOSED = "closed"


class Interest:
    """One subscription of ours, which outlives connections. `nats` is its present form on the wire."""

    def __init__(
        self, subject: str, queue: str, sink: MessageSink, end: Callable[[Interest], Awaitable[None]]
    ) -> None:
        self.subject = subject
        self.queue = queue
        self.inlet = Inlet(subject, sink)
        self.nats: NatsInterest | None = None
        self.client: LinkClient | None = None
        self._end = end

    def take(self, message: Message) -> None:
        if not unanswerable(message):
            self.inlet.offer(message)

    async def unsubscribe(self) -> None:
        """Stop delivery; messages already taken are still handled. Idempotent."""
        await asyncio.shield(asyncio.ensure_future(self._end(self)))
        await self.inlet.close()
