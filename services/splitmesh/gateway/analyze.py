"""Owns the flow of one Analyze call: frames in, results out, never more than so many in between.

A frame takes its place before it is read, and gives it back when its result was taken. So a reader that is slow holds
back its own writing and nobody else's: what it sends waits in its own connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from splitmesh.errors import MeshError
from splitmesh.rpc.calls import Call
from splitmesh.v1 import gateway_pb2 as pb

Analyze = Callable[[pb.Frame], Awaitable[pb.Result]]


async def answer_all(call: Call[Any], analyze: Analyze, *, in_flight: int) -> None:
    """Until the caller has sent its last frame and taken its last result. Whatever ends it early cancels what is
    under way. Raises MeshError for a message that can't be read."""
    room = asyncio.Semaphore(in_flight)
    done: asyncio.Queue[pb.Result | None] = asyncio.Queue()
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(_take(call, analyze, room, done), name="frames in")
            both.create_task(_give(call, room, done), name="results out")
    except* MeshError as errors:
        raise first_error(errors) from errors


async def _take(
    call: Call[Any], analyze: Analyze, room: asyncio.Semaphore, done: asyncio.Queue[pb.Result | None]
) -> None:
    async def one(frame: pb.Frame) -> None:
        done.put_nowait(await analyze(frame))

    async with asyncio.TaskGroup() as frames:
        while True:
            await room.acquire()
            frame = await call.read()
            if frame is None:
                break
            frames.create_task(one(frame))
    done.put_nowait(None)


async def _give(call: Call[Any], room: asyncio.Semaphore, done: asyncio.Queue[pb.Result | None]) -> None:
    while (result := await done.get()) is not None:
        await call.write(result)
        room.release()


def first_error(errors: BaseExceptionGroup[MeshError]) -> MeshError:
    """Of what the tasks of a group raised."""
    found = errors.exceptions[0]
    return first_error(found) if isinstance(found, BaseExceptionGroup) else found
