"""A target of `meshload` that is open, requests for it, and what they get."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cloud_rig import until

from meshload.target import Payload, Reply, Request, Target
from meshload.targets import TargetOptions, open_target

PAYLOAD = Payload(b"x" * 10)


def request(seq: int = 0, payload: Payload = PAYLOAD, **fields: object) -> Request:
    made = Request(payload, seq, "r0", **{"intended_ns": 0, **fields})  # type: ignore[arg-type]
    made.sent_ns = 1
    return made


async def replies(target: Target, *requests: Request) -> list[Reply]:
    """What each request gets, in its order."""
    found: dict[int, Reply] = {}
    for each in requests:
        target.send(each, lambda sent, reply: found.__setitem__(sent.seq, reply))
    await until(lambda: len(found) == len(requests))
    return [found[each.seq] for each in requests]


@asynccontextmanager
async def opened(url: str, options: TargetOptions = TargetOptions()) -> AsyncIterator[Target]:  # noqa: B008
    target = open_target(url, options)
    try:
        await target.open()
        yield target
    finally:
        await target.close()
