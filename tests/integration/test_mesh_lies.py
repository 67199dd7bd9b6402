"""A mesh among liars: garbage on every subject, and workers whose replies are not true. Nothing crashes or counts."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from mesh_run import OFFLOADED, Scene, node, until

from splitmesh.bus.base import Bus, Message
from splitmesh.bus.nats import connect_nats
from splitmesh.bus.server import EmbeddedServer
from splitmesh.frames.answer import Answer
from splitmesh.frames.outcome import Outcome
from splitmesh.v1 import infer_pb2 as pb
from splitmesh.wire import headers, subjects
from splitmesh.wire.messages import Heartbeat, HostedModel, InferReply, WorkerTimes
from splitmesh.wire.requests import InferRequest

pytestmark = pytest.mark.slow


@asynccontextmanager
async def stranger(broker: EmbeddedServer) -> AsyncIterator[Bus]:
    bus = await connect_nats(broker.url, name="stranger", give_up_s=10)
    try:
        yield bus
    finally:
        await bus.drain()


def garbage(scene: Scene) -> list[bytes]:
    """Empty, noise, long noise, an honest request cut short, and one whose lengths lie."""
    model = scene.bundle.manifest.name, scene.bundle.sha256
    honest = InferRequest("e.r.1", "e", *model, "", b"x" * 500, budget_us=1_000_000).encode()
    lying = b"\x32\xff\xff\xff\xff\x0f" + b"x" * 20
    return [b"", b"\xff" * 30, os.urandom(300_000), honest[: len(honest) // 2], honest, lying]


async def test_garbage_on_every_subject_disturbs_nobody(scene: Scene, broker: EmbeddedServer, tmp_path: Path) -> None:
    settings = scene.edge(nats_url=broker.url, policy=scene.split)
    async with (
        node("cloud", tmp_path / "cloud", ready=False, **scene.worker(nats_url=broker.url)) as worker,
        node("edge", tmp_path / "edge", **settings) as edge,
        stranger(broker) as bus,
    ):
        await edge.offloads(5)
        name, cut = scene.bundle.manifest.name, scene.bundle.cuts[0].name
        targets = [subjects.infer("default", name, ""), subjects.infer("default", name, cut)]
        targets += [subjects.load("default"), subjects.cancel("default"), subjects.worker("default", "w-1")]
        for subject in targets:
            for raw in garbage(scene):
                await bus.publish(subject, raw, headers={headers.BUDGET_US: "1000000"}, reply="nobody.listens")
                await bus.publish(subject, raw, headers={headers.BUDGET_US: "-1", headers.TRACEPARENT: "00-zz"})
            await bus.echo(timeout_s=10)
        await edge.offloads(10)
        refused = (await worker.status())["nacked"]
        assert refused["bad_request"] >= 3 * len(garbage(scene))
        assert (await worker.get("/readyz"))[0] == 200
        assert "splitmesh_" in (await worker.get("/metrics"))[1]
        assert await edge.stop() == 0, edge.log
        assert await worker.stop() == 0, worker.log
    edge.frame_records()
    assert 1 <= edge.log.count("malformed heartbeat") <= 5
    assert "Traceback" not in worker.log


Lie = Callable[[InferRequest], bytes]


def noise(_: InferRequest) -> bytes:
    return os.urandom(2000)


def another_frame(request: InferRequest) -> bytes:
    return InferReply(f"{request.frame_id}9", "liar", one_box()).encode()


def an_age_in_the_queue(request: InferRequest) -> bytes:
    return InferReply(request.frame_id, "liar", one_box(), WorkerTimes(queue_us=80_000_000_000)).encode()


def huge_counts(request: InferRequest) -> bytes:
    answer = pb.Answer(count=2**32 - 1, boxes=bytes(16), scores=bytes(4), classes=bytes(2), points_per_box=2**32 - 1)
    return pb.InferReply(frame_id=request.frame_id, worker_id="liar", answer=answer).SerializeToString()


def nan_boxes(request: InferRequest) -> bytes:
    raw = InferReply(request.frame_id, "liar", one_box(0.123)).encode()
    honest, false = np.float32(0.123).tobytes(), np.float32(np.nan).tobytes()
    assert honest in raw
    return raw.replace(honest, false)


def one_box(left: float = 0.1) -> Answer:
    return Answer(np.float32([[left, 0.2, 0.6, 0.7]]), np.float32([0.9]), np.uint16([1]))


@asynccontextmanager
async def liar(bus: Bus, scene: Scene, lie: Lie) -> AsyncIterator[list[str]]:
    """A worker that announces itself properly and lies in every reply. Yields the frames it was asked for."""
    asked: list[str] = []
    manifest = scene.bundle.manifest
    cuts = tuple(cut.name for cut in scene.bundle.cuts)

    async def reply(message: Message) -> None:
        request = InferRequest.decode(message.payload)
        if not request.probe:
            asked.append(request.frame_id)
        await bus.publish(message.reply, lie(request))

    async def beat() -> None:
        for seq in range(10_000):
            hosted = HostedModel(manifest.name, scene.bundle.sha256, cuts)
            await bus.publish(subjects.load("default"), Heartbeat("liar", seq, (hosted,)).encode())
            await asyncio.sleep(0.1)

    interests = [
        await bus.subscribe(subjects.infer("default", manifest.name, cut), reply, queue=subjects.POOL)
        for cut in ("", *cuts)
    ]
    beating = asyncio.create_task(beat())
    try:
        yield asked
    finally:
        beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beating
        for interest in interests:
            await interest.unsubscribe()


LIES: list[tuple[Lie, str]] = [
    (noise, "InferReply"),
    (another_frame, "with a reply for"),
    (an_age_in_the_queue, "says that it spent"),
    (huge_counts, "count"),
    (nan_boxes, "boxes"),
]


async def test_a_worker_that_lies_is_noted_on_the_frame_and_not_believed(
    scene: Scene, broker: EmbeddedServer, tmp_path: Path
) -> None:
    """One edge meets every kind of lie in turn; then an honest worker comes and is used at once."""
    settings = scene.edge(nats_url=broker.url, policy=scene.split)
    async with stranger(broker) as bus, node("edge", tmp_path / "edge", **settings) as edge:
        for lie, _ in LIES:
            async with liar(bus, scene, lie) as asked:
                before = len(asked)
                await until(lambda before=before, asked=asked: len(asked) >= before + 4)
        assert (await edge.status())["gamma_cloud"] == 1.0  # nothing was learnt from them
        assert (await edge.status())["breaker"] in ("open", "half-open")
        assert edge.offloaded() == 0
        async with node("cloud", tmp_path / "cloud", ready=False, **scene.worker(nats_url=broker.url)):
            await edge.offloads(5)
            assert await edge.stop() == 0, edge.log
    records = edge.frame_records()
    for _, word in LIES:
        noted = [record for record in records if word in record.note]
        assert noted, f"no frame tells of {word!r}: {[record.note for record in records]}"
        assert {record.outcome for record in noted} <= {Outcome.RESUMED, Outcome.LOCAL, Outcome.TRACKED}
    assert {record.worker for record in records if record.outcome in OFFLOADED} == {"w-1"}
