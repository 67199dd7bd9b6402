"""A live mesh is recorded and asked again: the same arrivals, fresh ids, the same answers, streams in order."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest
from cloud_rig import MODEL, ask, until, worker_on
from meshload_rig import meshload, server
from replay_rig import check_same, frame_ids, listening, recording, run_edge
from stream_rig import edge_on, point, with_table

from meshload.cli.replay import replay, replay_spec
from meshload.cli.session import put_load
from meshload.recording.entries import Recording
from meshload.spec import RunSpec
from meshload.target import Payload, Reply, Request, Status
from meshload.targets import TargetOptions, open_target
from splitmesh.bus.base import Bus
from splitmesh.bus.server import EmbeddedServer
from splitmesh.cloud.hosted import Hosted
from splitmesh.plan.bundle.read import Bundle

FRAMES = 12


@pytest.fixture(scope="module")
def planned(bundle: Bundle) -> Bundle:
    return with_table(bundle, bundle.cuts[0].name)


@pytest.fixture(scope="module")
def ready(planned: Bundle) -> Hosted:
    return Hosted(planned, threads=1, providers=("cpu",))


def spec_for(file: Path, broker: EmbeddedServer, *words: str) -> RunSpec:
    """`meshload replay FILE WORDS nats://…`."""
    values = replay.make_context("replay", [str(file), *words, f"{broker.url}/default/{MODEL}"]).params
    return replay_spec(values["file"], values["target"], values)


async def replayed(file: Path, broker: EmbeddedServer, *words: str) -> dict[str, object]:
    """Its figures."""
    return await put_load(spec_for(file, broker, *words), quiet=True)


async def test_a_recorded_mesh_is_asked_again_at_once_and_twice_its_speed(
    broker: EmbeddedServer, edge: Bus, planned: Bundle, ready: Hosted, tmp_path: Path
) -> None:
    file, cut = tmp_path / "mesh.rec", planned.cuts[0].name
    async with worker_on(broker, ready), listening(broker) as ear:
        async with recording(broker, file):
            await ask(edge, planned, "cam-7.r.1", edge_id="cam-7")
            await run_edge(broker, planned, tmp_path / "edge", FRAMES)
            await ask(edge, planned, "cam-7.r.2", edge_id="cam-7", cut=cut)
        original = ear.take()
        recorded = list(Recording(file).requests())
        assert [asked.payload for asked in recorded] == [each.request.payload for each in original]
        assert len(original) == FRAMES + 2 and sum(asked.follows for asked in recorded) == FRAMES - 1
        ids = frame_ids(original)
        for speed in (1, 2):
            due_ns = [arrival.at_ns for arrival in spec_for(file, broker, "--speed", str(speed)).schedule(0)]
            assert due_ns == pytest.approx([asked.at_ns / speed for asked in recorded], abs=1)
            figures = await replayed(file, broker, "--speed", str(speed))
            again = ear.take()
            assert figures["requests"] == {
                "offered": len(original), "ok": len(original), "refused": 0, "error": 0, "timeout": 0, "unsent": 0,
            }  # fmt: skip
            assert figures["asked_rps"] == pytest.approx(
                len(original) * speed / (Recording(file).survey().end.duration_ns / 1e9)
            )
            check_same(original, again)
            ids += frame_ids(again)
        assert len(set(ids)) == len(ids) == 3 * len(original)


async def test_streams_stay_with_one_worker_each_and_in_order(
    broker: EmbeddedServer, planned: Bundle, ready: Hosted, tmp_path: Path
) -> None:
    file = tmp_path / "mesh.rec"
    async with worker_on(broker, ready), listening(broker) as ear:
        async with recording(broker, file):
            await run_edge(broker, planned, tmp_path / "one", 5)
            await run_edge(broker, planned, tmp_path / "two", 5)
        original = ear.take()
        async with worker_on(broker, ready, name="w-2"):
            figures = await replayed(file, broker, "-t", "2", "-c", "64")
            again = ear.take()
    assert figures["requests"]["ok"] == 10, figures["refused"]  # type: ignore[index]
    assert all(share < 5 for share in figures["generator"]["cpus"]), "one edge: one process has nothing to do"  # type: ignore[index]
    assert Counter(each.subject for each in again) == {"sm.v1.default.worker.w-1": 5, "sm.v1.default.worker.w-2": 5}
    check_same(original, again)


async def test_a_stream_whose_worker_goes_is_not_sent_to_another_that_lacks_what_it_builds_on(
    broker: EmbeddedServer, ready: Hosted
) -> None:
    target = open_target(f"{broker.url}/default/{MODEL}", TargetOptions(streams=True))
    replies: dict[int, Reply] = {}
    sent = 0

    async def reply_to(payload: Payload) -> tuple[Status, str]:
        nonlocal sent
        sent += 1
        target.send(Request(payload, sent, "r", 0), lambda request, reply: replies.__setitem__(request.seq, reply))
        await until(lambda: sent in replies)
        return replies[sent].status, replies[sent].label

    key, delta = Payload(b"no container", stream=3), Payload(b"no container", stream=3, follows=True)
    async with worker_on(broker, ready):
        await target.open()
        assert await reply_to(delta) == (Status.ERROR, "its stream is not open")
        assert await reply_to(key) == (Status.REFUSED, "bad_request")
        assert await reply_to(delta) == (Status.REFUSED, "bad_request")
    assert await reply_to(delta) == (Status.ERROR, "no responders")
    assert await reply_to(delta) == (Status.ERROR, "its stream is not open")
    assert await reply_to(key) == (Status.ERROR, "unsendable"), "no worker is left"
    await target.close()


async def test_what_builds_on_frames_from_before_the_recording_is_left_out_and_said(
    broker: EmbeddedServer, edge: Bus, planned: Bundle, ready: Hosted, tmp_path: Path
) -> None:
    file = tmp_path / "late.rec"
    async with worker_on(broker, ready):
        async with edge_on(
            broker, planned, point(planned, planned.cuts[0].name, "temporal", 90), tmp_path
        ) as running:
            await running.run(3)
            async with recording(broker, file):
                await running.run(4)
                await ask(edge, planned, "cam-7.r.1", edge_id="cam-7")
        figures = await replayed(file, broker)
    assert figures["requests"]["ok"] == 1 == figures["requests"]["offered"]  # type: ignore[index]
    assert "4 are left out: they build on frames from before" in str(figures["payload"])


async def test_without_payloads_the_sizes_are_asked_again(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle, hosted: Hosted, tmp_path: Path
) -> None:
    file, figures = tmp_path / "sizes.rec", tmp_path / "out.json"
    async with worker_on(broker, hosted), listening(broker) as ear:
        async with recording(broker, file, payloads=False):
            for number, size in enumerate((100, 2000, 30)):
                await ask(edge, bundle, f"cam.r.{number}", payload=bytes(size))
        assert [len(each.request.payload) for each in ear.take()] == [100, 2000, 30]
    url = broker.url.replace("nats://", "nats-raw://")
    with server("nats", broker.url, "echo"):
        done = await asyncio.to_thread(meshload, "replay", str(file), "-q", "--json", str(figures), f"{url}/echo")
    assert done.returncode == 0, done.stderr
    found = json.loads(figures.read_text())
    assert found["requests"]["ok"] == 3 and found["bytes"] == {"sent": 2130, "received": 3 * 128}
