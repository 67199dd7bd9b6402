"""Owns the way from a subscription to its sink: one bounded queue, one task, one message after another.

A full queue drops the *new* message, counts it and says so (at most once a second). Both buses deliver through this.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque

from splitmesh.bus.base import Message, MessageSink

_LOG = logging.getLogger(__name__)

MAX_MESSAGES = 4096
MAX_BYTES = 64 * 1024 * 1024
_WARN_EVERY_S = 1.0


class Inlet:
    """Takes messages without waiting (`offer`) and hands them to `sink` in order. Lives on one event loop."""

    def __init__(
        self, subject: str, sink: MessageSink, *, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES
    ) -> None:
        self.subject = subject
        self.dropped = 0
        self._sink = sink
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._queue: deque[Message] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()
        self._closing = False
        self._warned_at = -_WARN_EVERY_S
        self._task = asyncio.create_task(self._deliver(), name=f"inlet {subject}")

    def offer(self, message: Message) -> bool:
        """Take `message` unless closed or full. True if it will reach the sink."""
        if self._closing:
            return False
        size = len(message.payload)
        if len(self._queue) >= self._max_messages or self._bytes + size > self._max_bytes:
            self.dropped += 1
            self._warn_full()
            return False
        self._queue.append(message)
        self._bytes += size
        self._filled.set()
        return True

    def _warn_full(self) -> None:
        now = time.monotonic()
        if now - self._warned_at >= _WARN_EVERY_S:
            self._warned_at = now
            _LOG.warning(
                "slow consumer on %s: %d messages wait, %d dropped so far",
                self.subject,
                len(self._queue),
                self.dropped,
            )

    async def _deliver(self) -> None:
        while True:
            while not self._queue:
                if self._closing:
                    return
                self._filled.clear()
                await self._filled.wait()
            message = self._queue.popleft()
            self._bytes -= len(message.payload)
            try:
                await self._sink(message)
            except Exception:  # noqa: BLE001 - logged below; one bad message must not end the delivery of others
                _LOG.exception("the sink of %s failed", self.subject)

    async def close(self) -> None:
        """Take nothing more, wait until all that was taken is handled. Called by the sink itself: don't wait."""
        self._closing = True
        self._filled.set()
        if asyncio.current_task() is not self._task:
            await asyncio.wait({self._task})

    def abort(self) -> None:
        """Take nothing more, forget what waits, cancel the sink."""
        self._closing = True
        self._queue.clear()
        self._task.cancel()

    def __repr__(self) -> str:
        return f"<Inlet {self.subject} waiting={len(self._queue)} dropped={self.dropped} closing={self._closing}>"
