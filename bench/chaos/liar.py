"""A worker whose every reply is a lie: run by path, `python bench/chaos/liar.py URL READY MODEL SHA256 SEED CUT…`.

It announces itself properly, takes work from the pool, and answers with noise, lengths that lie, replies for other
frames, boxes that are no numbers and times that can't be. Some of its heartbeats are noise too.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from splitmesh.bus.base import Bus, Message
from splitmesh.bus.nats import connect_nats
from splitmesh.errors import WireError
from splitmesh.frames.answer import Answer
from splitmesh.settings.process import announce_ready
from splitmesh.v1 import infer_pb2 as pb
from splitmesh.wire import subjects
from splitmesh.wire.messages import Heartbeat, HostedModel, InferReply, WorkerTimes
from splitmesh.wire.requests import InferRequest

NAME = "liar"
_TENANT = "default"
_BEAT_S = 0.1
_LEFT = 0.123


def main(arguments: list[str]) -> None:
    url, ready, model, sha256, seed, *cuts = arguments
    asyncio.run(lie_on(url, Path(ready), HostedModel(model, sha256, tuple(cuts)), random.Random(int(seed))))


async def lie_on(url: str, ready: Path, hosted: HostedModel, rng: random.Random) -> None:
    bus = await connect_nats(url, name=NAME, give_up_s=20)

    async def answer(message: Message) -> None:
        await bus.publish(message.reply, lie(message.payload, rng))

    for cut in ("", *hosted.cuts):
        await bus.subscribe(subjects.infer(_TENANT, hosted.model, cut), answer, queue=subjects.POOL)
    await bus.subscribe(subjects.worker(_TENANT, NAME), answer)
    announce_ready(ready, name=NAME)
    await beat_for_ever(bus, hosted, rng)


async def beat_for_ever(bus: Bus, hosted: HostedModel, rng: random.Random) -> None:
    for seq in itertools.count():
        honest = Heartbeat(NAME, seq, (hosted,)).encode()
        await bus.publish(subjects.load(_TENANT), rng.randbytes(40) if rng.random() < 0.2 else honest)
        await asyncio.sleep(_BEAT_S)


def lie(asked: bytes, rng: random.Random) -> bytes:
    """Any of the lies about the request `asked`; noise if it can't be read."""
    try:
        frame_id = InferRequest.decode(asked).frame_id
    except WireError:
        return noise("", rng)
    return rng.choice(LIES)(frame_id, rng)


def noise(_: str, rng: random.Random) -> bytes:
    return rng.randbytes(rng.randrange(4000))


def cut_short(frame_id: str, rng: random.Random) -> bytes:
    honest = InferReply(frame_id, NAME, _one_box()).encode()
    return honest[: rng.randrange(1, len(honest) - 1)]


def another_frame(frame_id: str, _: random.Random) -> bytes:
    return InferReply(f"{frame_id}9", NAME, _one_box()).encode()


def impossible_times(frame_id: str, rng: random.Random) -> bytes:
    times = WorkerTimes(queue_us=rng.randrange(10**9, 10**11), service_us=rng.randrange(10**9, 10**11))
    return InferReply(frame_id, NAME, _one_box(), times).encode()


def lying_lengths(frame_id: str, _: random.Random) -> bytes:
    answer = pb.Answer(count=2**32 - 1, boxes=bytes(16), scores=bytes(4), classes=bytes(2), points_per_box=2**32 - 1)
    return pb.InferReply(frame_id=frame_id, worker_id=NAME, answer=answer).SerializeToString()


def no_numbers(frame_id: str, _: random.Random) -> bytes:
    raw = InferReply(frame_id, NAME, _one_box()).encode()
    return raw.replace(np.float32(_LEFT).tobytes(), np.float32(np.nan).tobytes())


LIES: tuple[Callable[[str, random.Random], bytes], ...] = (
    noise,
    cut_short,
    another_frame,
    impossible_times,
    lying_lengths,
    no_numbers,
)


def _one_box() -> Answer:
    box = np.array([[_LEFT, 0.2, 0.6, 0.7]], np.float32)
    return Answer(box, np.array([0.9], np.float32), np.array([1], np.uint16))


if __name__ == "__main__":
    main(sys.argv[1:])
