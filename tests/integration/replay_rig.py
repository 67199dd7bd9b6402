"""A bus that is listened to, recorded, and worked on by an edge whose payloads build on each other."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nats
import numpy as np
from cloud_rig import until
from nats.aio.msg import Msg
from stream_rig import edge_on, point

from meshload.recording.recorder import Recorder
from meshload.targets import TargetOptions, split
from splitmesh.bus.server import EmbeddedServer
from splitmesh.frames.answer import Answer
from splitmesh.frames.outcome import Outcome
from splitmesh.plan.bundle.read import Bundle
from splitmesh.wire.messages import InferReply
from splitmesh.wire.requests import InferRequest, StreamRequest, decode_request


@dataclass
class Heard:
    """A request on the bus, and its reply."""

    subject: str
    request: InferRequest | StreamRequest
    reply: InferReply | None = None

    def answer(self) -> Answer:
        assert self.reply is not None and isinstance(self.reply.outcome, Answer), self.reply
        return self.reply.outcome


@dataclass
class Ear:
    """All that is asked of workers of tenant default, in order."""

    heard: list[Heard] = field(default_factory=list)
    by_inbox: dict[str, Heard] = field(default_factory=dict)

    async def on_request(self, message: Msg) -> None:
        each = Heard(message.subject, decode_request(message.data, message.headers or {}))
        self.heard.append(each)
        self.by_inbox[message.reply] = each

    async def on_reply(self, message: Msg) -> None:
        if each := self.by_inbox.get(message.subject):
            each.reply = InferReply.decode(message.data)

    def take(self) -> list[Heard]:
        taken, self.heard = self.heard, []
        return taken


@asynccontextmanager
async def listening(broker: EmbeddedServer) -> AsyncIterator[Ear]:
    ear, bus = Ear(), await nats.connect(broker.url)
    for subject in ("sm.v1.default.infer.>", "sm.v1.default.worker.*"):
        await bus.subscribe(subject, cb=ear.on_request)
    await bus.subscribe("_INBOX.>", cb=ear.on_reply)
    await bus.flush()
    yield ear
    await bus.drain()


@asynccontextmanager
async def recording(
    broker: EmbeddedServer, path: Path, *, payloads: bool = True, limit_bytes: int = 10**8
) -> AsyncIterator[Recorder]:
    """Records until the block is left."""
    url = f"{broker.url}/default"
    recorder = Recorder(url, split(url), TargetOptions(), payloads=payloads, limit_bytes=limit_bytes)
    task = asyncio.create_task(recorder.record(path, 120))
    await until(lambda: recorder.file_bytes > 0 or task.done())
    yield recorder
    recorder.stop("time")
    await task


async def recording_process(*words: str) -> asyncio.subprocess.Process:
    """`meshload record`, as a user starts it."""
    command = [sys.executable, "-m", "meshload.cli.main", "record", *words]
    return await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)


async def run_edge(broker: EmbeddedServer, planned: Bundle, folder: Path, frames: int) -> None:
    """Frames of a real edge whose payloads build on each other: one key, then the short form."""
    await asyncio.to_thread(folder.mkdir)
    async with edge_on(broker, planned, point(planned, planned.cuts[0].name, "temporal", 90), folder) as edge:
        records = await edge.run(frames)
    assert {record.outcome for record in records} == {Outcome.SPLIT}


def frame_ids(heard: list[Heard]) -> list[str]:
    """As the worker makes them, the short form's too."""
    opened: dict[int, InferRequest] = {}
    found = []
    for each in heard:
        request = each.request
        if isinstance(request, InferRequest):
            if request.stream:
                opened[request.stream] = request
        else:
            request = request.full(opened[request.stream])
        found.append(request.frame_id)
    return found


def same(mine: Answer, theirs: Answer) -> bool:
    return np.array_equal(mine.classes, theirs.classes) and np.allclose(mine.scores, theirs.scores, rtol=0, atol=1e-5)


def check_same(original: list[Heard], again: list[Heard]) -> None:
    """In order: payload, kind, cut and budget of each are those that were recorded, and so is the answer."""
    streams = {each.request.stream for each in original} & {each.request.stream for each in again}
    assert streams <= {0}, "ids of streams are new"
    for before, after in zip(original, again, strict=True):
        assert type(before.request) is type(after.request) and before.request.payload == after.request.payload
        assert 0 < after.request.budget_us <= before.request.budget_us
        if isinstance(before.request, InferRequest) and isinstance(after.request, InferRequest):
            assert (before.request.edge_id, before.request.cut) == (after.request.edge_id, after.request.cut)
        assert same(before.answer(), after.answer())
