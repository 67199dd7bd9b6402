"""Owns a listener on the broker that knows which requests are under way, so that a fault can strike in the middle."""

from __future__ import annotations

import asyncio
import random

from splitmesh.bus.base import Bus, Message
from splitmesh.bus.nats import connect_nats
from splitmesh.wire import subjects

_SERVICE_S = 0.03
"""About the length of a request's service; where in it a fault strikes is drawn."""
_LIMIT_S = 20.0


class Spy:
    """Answers nothing. Requests are listened to only just before a strike: a listener more is a responder more, and
    would keep the broker from saying that there is none.
    """

    def __init__(self) -> None:
        self._bus: Bus | None = None
        self._open: set[str] = set()
        self._asked = asyncio.Event()

    async def start(self, url: str) -> None:
        self._bus = await connect_nats(url, name="spy", give_up_s=10)
        await self._bus.subscribe("_INBOX.>", self._on_reply)

    async def close(self) -> None:
        if self._bus is not None:
            await self._bus.drain()

    async def amid_a_request(self, rng: random.Random) -> None:
        """Return at a drawn moment after a request was sent, while its reply is still out. Raises TimeoutError."""
        async with asyncio.timeout(_LIMIT_S):
            while not await self._one_is_under_way(rng):
                continue

    async def _one_is_under_way(self, rng: random.Random) -> bool:
        assert self._bus is not None  # noqa: S101 - started
        self._open.clear()
        self._asked.clear()
        listening = [
            await self._bus.subscribe(f"{subjects.PREFIX}.default.{kind}.>", self._on_request)
            for kind in ("infer", "worker")
        ]
        await self._asked.wait()
        for each in listening:
            await each.unsubscribe()
        await self._bus.echo(timeout_s=_LIMIT_S)
        await asyncio.sleep(rng.uniform(0, _SERVICE_S))
        return bool(self._open)

    async def _on_request(self, message: Message) -> None:
        if message.reply and not message.subject.endswith(".table"):
            self._open.add(message.reply)
            self._asked.set()

    async def _on_reply(self, message: Message) -> None:
        self._open.discard(message.subject)
