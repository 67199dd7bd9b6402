"""Owns one bidirectional gRPC stream that many requests share: answers are matched to requests in their order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from grpc import StatusCode, aio

from meshload.target import Done, Reply, Request, Status


class _Asked(NamedTuple):
    request: Request
    done: Done


class Conversation:
    """A stream of `path`, begun with its first request, and again after it ended. reply_to: what a status code is."""

    def __init__(
        self,
        channel: aio.Channel,
        path: str,
        metadata: tuple[tuple[str, str], ...],
        reply_to: Callable[[StatusCode, aio.Channel], Reply],
    ) -> None:
        self._channel, self._path, self._metadata, self._reply_to = channel, path, metadata, reply_to
        self._unsent: deque[tuple[Request, bytes]] = deque()
        self._asked: deque[_Asked] = deque()
        """In the order of sending."""
        self._forgotten: set[Request] = set()
        """Abandoned, but their answers will still come and take their turn."""
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def send(self, request: Request, body: bytes, done: Done) -> None:
        self._asked.append(_Asked(request, done))
        self._unsent.append((request, body))
        self._more.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._talk(), name=f"stream of {self._path}")

    def abandon(self, request: Request) -> None:
        if any(each is request for each, _ in self._unsent):  # a server that does not read must not fill our memory
            self._unsent = deque(each for each in self._unsent if each[0] is not request)
            self._asked = deque(asked for asked in self._asked if asked.request is not request)
        elif any(asked.request is request for asked in self._asked):
            self._forgotten.add(request)

    async def close(self) -> None:
        task, self._task = self._task, None
        self._asked.clear()
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _talk(self) -> None:
        call = self._channel.stream_stream(self._path)(metadata=self._metadata)
        writer = asyncio.get_running_loop().create_task(self._write(call), name=f"writes of {self._path}")
        try:
            async for answer in call:
                self._answered(Reply(Status.OK, "", len(answer)))
            reply = Reply(Status.ERROR, "stream ended")
        except aio.AioRpcError as exc:
            reply = self._reply_to(exc.code(), self._channel)
        finally:
            writer.cancel()
            call.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        self._end(reply)

    def _end(self, reply: Reply) -> None:
        """Tell all that wait. What is sent meanwhile begins a stream of its own."""
        self._task = None
        self._unsent.clear()
        asked, self._asked = self._asked, deque()
        forgotten, self._forgotten = self._forgotten, set()
        for request, done in asked:
            if request not in forgotten:
                done(request, reply)

    async def _write(self, call: Any) -> None:
        """One after the other, as gRPC wants it. Ends with the stream."""
        while True:
            while self._unsent:
                await call.write(self._unsent.popleft()[1])
            self._more.clear()
            await self._more.wait()

    def _answered(self, reply: Reply) -> None:
        if not self._asked:
            return  # more answers than requests: nobody asked
        request, done = self._asked.popleft()
        if request in self._forgotten:
            self._forgotten.discard(request)
        else:
            done(request, reply)
