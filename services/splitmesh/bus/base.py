"""Owns what the mesh asks of a message bus. Two implementations: NATS and an in-memory twin, one contract suite."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """One message as received. `reply` is "" when the sender wants no answer."""

    subject: str
    payload: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    reply: str = ""


MessageSink = Callable[[Message], Awaitable[None]]


class Subscription(Protocol):
    async def unsubscribe(self) -> None:
        """Stop delivery; messages already taken are still handled."""


class Bus(Protocol):
    """Subjects are dot-separated tokens; `*` and `>` are wildcards in `subscribe`, as in NATS."""

    @property
    def connected(self) -> bool: ...

    @property
    def pending_bytes(self) -> int:
        """Bytes accepted from us that the socket has not taken yet."""

    @property
    def max_payload_bytes(self) -> int: ...

    async def publish(
        self, subject: str, payload: bytes, *, headers: Mapping[str, str] | None = None, reply: str = ""
    ) -> None:
        """Send and forget. Raises BusUnavailable, PayloadTooLarge."""

    async def request(
        self, subject: str, payload: bytes, *, headers: Mapping[str, str] | None = None, timeout_s: float
    ) -> Message:
        """Send and wait for one reply. Raises NoResponders, RequestTimeout, BusUnavailable, PayloadTooLarge."""
        ...

    async def echo(self, *, timeout_s: float) -> None:
        """Return once a small message has been to the broker and back. Raises RequestTimeout, BusUnavailable."""

    async def subscribe(self, subject: str, sink: MessageSink, *, queue: str = "") -> Subscription:
        """Deliver matching messages to `sink`, one after another; with `queue`, each to one group member only."""
        ...

    async def drain(self) -> None:
        """Stop receiving, finish what was taken, flush what was sent, close. Idempotent."""
