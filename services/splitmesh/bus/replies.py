"""Owns the requests that wait for a reply, by token. Refuses to keep one that nobody waits for any more."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from splitmesh.bus.base import Message
from splitmesh.errors import BusError, NoResponders, RequestTimeout


class _Waiting(NamedTuple):
    subject: str
    future: asyncio.Future[Message]


class Replies:
    """One inbox, `<inbox>.<token>` per request."""

    def __init__(self, inbox: str) -> None:
        self.inbox = inbox
        self._count = itertools.count(1)
        self._waiting: dict[str, _Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @contextmanager
    def waiting(self, subject: str) -> Iterator[tuple[str, asyncio.Future[Message]]]:
        """The reply subject and the future of one request to `subject`; void when the block ends, however it ends."""
        token = f"{next(self._count):x}"
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[token] = _Waiting(subject, future)
        try:
            yield f"{self.inbox}.{token}", future
        finally:
            del self._waiting[token]
            if not future.done():
                future.cancel()
            elif not future.cancelled():
                future.exception()  # seen, even if its waiter was cancelled first

    def settle(self, message: Message) -> None:
        """Give `message` to whom it is for; late and repeated replies are nobody's."""
        waiting = self._waiting.get(message.subject.rpartition(".")[2])
        if waiting is not None and not waiting.future.done():
            waiting.future.set_result(message)

    def refuse(self, reply_subject: str) -> None:
        """The broker says that nobody listens."""
        waiting = self._waiting.get(reply_subject.rpartition(".")[2])
        if waiting is not None and not waiting.future.done():
            waiting.future.set_exception(NoResponders(f"nobody listens on {waiting.subject}"))

    def fail_all(self, error: BusError) -> None:
        """Every waiting request fails with an error of `error`'s type and text."""
        for waiting in self._waiting.values():
            if not waiting.future.done():
                waiting.future.set_exception(type(error)(error.message, advice=error.advice))


async def await_reply(future: asyncio.Future[Message], subject: str, timeout_s: float) -> Message:
    """The reply. Raises RequestTimeout after `timeout_s`, and what `future` was failed with."""
    try:
        async with asyncio.timeout(timeout_s):
            return await future
    except TimeoutError as exc:
        raise RequestTimeout(f"no reply from {subject} within {timeout_s:g} s") from exc
