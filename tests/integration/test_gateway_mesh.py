"""Gateway, edge and worker as processes, on real video: what the front door shows, and that nothing hangs on it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import av
import numpy as np
import pytest
import simplejpeg
from cloud_rig import worker_on
from gateway_rig import caller_of, gateway_on
from mesh_run import START_S, Scene, node, until

from splitmesh import AsyncClient
from splitmesh.bus.base import Bus
from splitmesh.bus.server import EmbeddedServer
from splitmesh.client import CallFailed, Watch
from splitmesh.cloud.hosted import Hosted
from splitmesh.codec.container import Section, build
from splitmesh.frames.fidelity import f1_at_iou
from splitmesh.lab.child import Child
from splitmesh.lab.commands import clean_environment, command_line
from splitmesh.media.prepare import Preparer
from splitmesh.v1 import control_pb2
from splitmesh.wire import subjects
from splitmesh.wire.answers import answer_from_pb, answer_to_pb
from splitmesh.wire.messages import InferReply
from splitmesh.wire.requests import InferRequest

pytestmark = pytest.mark.slow


@asynccontextmanager
async def gateway_process(folder: Path, broker: EmbeddedServer) -> AsyncIterator[tuple[Child, AsyncClient]]:
    """As a user starts it, and a client of it."""
    await asyncio.to_thread(folder.mkdir)
    ready = folder / "ready.json"
    values = {"nats_url": broker.url, "name": "gw", "grpc_port": 0, "web_port": 0, "ready_json": ready}
    child = Child("gateway", command_line("gateway", values), log_path=folder / "log", ready_file=ready)
    try:
        await child.start(environment=clean_environment(os.environ))
        facts = await child.wait_ready(START_S)
        async with AsyncClient(f"127.0.0.1:{facts['grpc_port']}") as client:
            yield child, client
    finally:
        await child.stop(grace_s=0.0, first=signal.SIGKILL)


async def test_frames_of_a_real_video_have_the_answers_of_the_workers_path(
    scene: Scene, broker: EmbeddedServer, edge: Bus, shared: Path
) -> None:
    bundle = scene.bundle
    preparer = Preparer.from_manifest(bundle.manifest)
    hosted = Hosted(bundle, threads=1, providers=("cpu",))
    agreement = []
    async with worker_on(broker, hosted), gateway_on(broker, bundle) as gateway, caller_of(gateway) as caller:
        with av.open(str(shared / "media" / "vtest.avi")) as video:
            for number, picture in zip(range(200), video.decode(video=0), strict=False):
                if number % 8:
                    continue
                prepared = preparer.prepare(picture)
                jpeg = simplejpeg.encode_jpeg(prepared.rgb, 90, "RGB", "444")
                payload = build("jpeg", 90, [Section("", prepared.rgb.shape, 0, b"", jpeg)])
                direct = await asked(edge, bundle.manifest.name, bundle.sha256, number, payload)
                through = await caller.infer(seq=number, encoded=jpeg, budget_ms=20_000)
                assert through.answer == answer_to_pb(direct.outcome), number
                whole = await caller.infer(
                    encoded=simplejpeg.encode_jpeg(picture.to_ndarray(format="rgb24"), 95, "RGB", "444"),
                    budget_ms=20_000,
                )
                exact = hosted.execute("", lambda rgb=prepared.rgb: np.array(rgb)).answer
                agreement.append(f1_at_iou(answer_from_pb(whole.answer), prepared.placement.to_source(exact)))
                prepared.release()
    assert len(agreement) == 25 and np.mean(agreement) > 0.93, agreement


async def asked(bus: Bus, model: str, sha256: str, number: int, payload: bytes) -> InferReply:
    request = InferRequest(
        frame_id=f"e.r.{number}",
        edge_id="e",
        model=model,
        model_sha256=sha256,
        cut="",
        payload=payload,
        budget_us=20_000_000,
    )
    message = await bus.request(subjects.infer("default", model, ""), request.encode(), timeout_s=20)
    return InferReply.decode(message.payload)


async def test_what_an_edge_does_is_seen_asked_and_changed(
    scene: Scene, broker: EmbeddedServer, tmp_path: Path
) -> None:
    settings = scene.edge(nats_url=broker.url, policy=scene.split, name="cam-1")
    async with (
        node("cloud", tmp_path / "cloud", ready=False, **scene.worker(nats_url=broker.url)),
        node("edge", tmp_path / "edge", **settings) as edge,
        gateway_process(tmp_path / "gateway", broker) as (_, client),
    ):
        await edge.offloads(10)
        frame = await a_frame_of_a_worker(client)
        story = await client.explain(frame.frame_id)
        assert story.frame.frame_id == frame.frame_id and story.frame.chosen == frame.chosen
        names = {(span.service, span.name) for span in story.spans}
        assert {("edge", "decide"), ("edge", "offload"), ("cloud", "tail")} <= names, (names, story.silent)
        (stream,) = await client.streams()
        assert stream.report.edge_id == "cam-1" and stream.state in ("alive", "degraded")
        before = await client.policy("cam-1")
        assert before.deadline_ms == pytest.approx(250)
        what_if = await client.what_if("cam-1", policy="local-only")
        considered = {what_if.then.point, *(other.point for other in what_if.then_runners_up)}
        assert what_if.now.point and "local" in considered and considered <= {"local", "track"}
        assert (await client.policy("cam-1")).policy == before.policy
        with pytest.raises(CallFailed) as refused:
            await client.set_policy("cam-1", policy="no-such")
        assert refused.value.code == "INVALID_ARGUMENT" and refused.value.field == "policy"
        changed = await client.set_policy("cam-1", policy="local-only", deadline_ms=300)
        assert changed.policy == "local-only" and changed.changes[0].actor == "anyone-here"
        local = await anext(f async for f in frames(client) if f.outcome == "local")
        assert local.deadline_ms == pytest.approx(300)
        picture = await anext(e.preview async for e in client.watch(["cam-1"], [Watch.PREVIEWS], preview_fps=10))
        assert simplejpeg.decode_jpeg_header(picture.jpeg)[1] <= 640
        assert await edge.stop() == 0, edge.log
        edge.frame_records()


async def frames(client: AsyncClient, kind: Watch = Watch.DECISIONS) -> AsyncIterator[control_pb2.FrameReport]:
    async for event in client.watch(["cam-1"], [kind]):
        for frame in event.frames.frames:
            yield frame


async def a_frame_of_a_worker(client: AsyncClient) -> control_pb2.FrameReport:
    return await anext(f async for f in frames(client, Watch.RESULTS) if f.outcome == "split")


async def test_a_frame_of_the_gateways_own_is_explained_and_a_drain_answers_it(
    scene: Scene, broker: EmbeddedServer, tmp_path: Path, shared: Path
) -> None:
    with av.open(str(shared / "media" / "vtest.avi")) as video:
        picture = next(video.decode(video=0)).to_ndarray(format="rgb24")
    async with (
        node("cloud", tmp_path / "cloud", **scene.worker(nats_url=broker.url)),
        gateway_process(tmp_path / "gateway", broker) as (gateway, client),
    ):
        result = await client.infer(picture, budget_ms=20_000)
        assert len(result.checked()) > 0
        story = await client.explain(result.frame_id)
        spans = {(span.service, span.name): span for span in story.spans}
        wanted = {("gateway", name) for name in ("gateway", "prepare", "ask")}
        wanted |= {("cloud", name) for name in ("worker", "queue", "decode", "tail", "postprocess")}
        assert wanted <= spans.keys() and not story.silent
        assert len({span.trace_id for span in story.spans}) == 1
        assert spans["cloud", "worker"].parent_id == spans["gateway", "ask"].span_id
        assert story.frame.deadline_hit and story.frame.worker_id == "w-1"
        assert sum(story.frame.times_ms[part] for part in ("prepare", "ask")) <= story.frame.latency_ms + 1
        results = client.analyze(picture for _ in range(6))
        first = await anext(results)
        gateway.send(signal.SIGTERM)
        rest = [result async for result in results]
        assert await asyncio.wait_for(gateway.wait(), 20) == 0
    assert sorted(result.seq for result in (first, *rest)) == list(range(6))
    assert all(result.answer is not None for result in (first, *rest))


async def test_a_worker_that_is_killed_is_told_of_within_two_seconds(
    scene: Scene, broker: EmbeddedServer, tmp_path: Path
) -> None:
    async with (
        node("cloud", tmp_path / "cloud", **scene.worker(nats_url=broker.url)) as worker,
        gateway_process(tmp_path / "gateway", broker) as (_, client),
    ):
        events = client.watch(kinds=[Watch.FLEET])
        first = asyncio.ensure_future(anext(events))
        models = await client.models()
        while models[0].workers != ("w-1",):
            models = await client.models()
        loop = asyncio.get_running_loop()
        worker.child.send(signal.SIGKILL)
        killed_s = loop.time()
        event = (await first).fleet
        while event.what != "worker-gone":
            event = (await anext(events)).fleet
        assert event.name == "w-1" and event.service == "cloud" and loop.time() - killed_s < 2.0
        await events.aclose()


async def test_killing_the_gateway_loses_no_frame_of_an_edge(
    scene: Scene, broker: EmbeddedServer, tmp_path: Path
) -> None:
    settings = scene.edge(nats_url=broker.url, policy=scene.split, name="cam-1")
    async with (
        node("cloud", tmp_path / "cloud", ready=False, **scene.worker(nats_url=broker.url)),
        node("edge", tmp_path / "edge", **settings) as edge,
    ):
        for number in range(2):
            async with gateway_process(tmp_path / f"gateway-{number}", broker) as (gateway, client):
                await a_frame_of_a_worker(client)  # it is being watched
                gateway.send(signal.SIGKILL)
                await until(lambda gateway=gateway: not gateway.running)
            await edge.offloads(10)
        assert await edge.stop() == 0, edge.log
        records = edge.frame_records()  # fails unless every captured frame has one
    assert len(records) > 20
