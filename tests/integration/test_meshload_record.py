"""`meshload record` on a real broker: how it ends, what it keeps, what it says."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import nats
import pytest
from cloud_rig import MODEL, ask, until, worker_on
from meshload_rig import meshload
from replay_rig import recording_process

from meshload.recording.entries import End, Recording
from meshload.recording.recorder import Recorder
from meshload.targets import TargetOptions, split
from splitmesh.bus.base import Bus
from splitmesh.bus.server import EmbeddedServer
from splitmesh.cloud.hosted import Hosted
from splitmesh.plan.bundle.read import Bundle
from splitmesh.wire.requests import InferRequest


async def test_the_size_is_limited_and_that_is_said(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle, hosted: Hosted, tmp_path: Path
) -> None:
    file = tmp_path / "small.rec"
    recorder = await recording_process("-d", "60s", "--limit", "100k", "-o", str(file), f"{broker.url}/default")
    async with worker_on(broker, hosted):
        await until(file.exists)
        number = 0
        while recorder.returncode is None:
            number += 1
            await ask(edge, bundle, f"e.r.{number}")
    out = (await recorder.communicate())[0].decode()
    assert recorder.returncode == 0 and "STOPPED AT --limit" in out and "what cameras saw" in out
    survey = Recording(file).survey()
    assert survey.end.why == "limit" and 0 < survey.works.total() < number and file.stat().st_size <= 100_000
    assert survey.works.total() > 0.9 * 100_000 / (len(next(Recording(file).requests()).payload) + 300)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_early_end_and_silence_are_told_apart(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle, hosted: Hosted, tmp_path: Path, number: signal.Signals
) -> None:
    file, url = tmp_path / "some.rec", f"{broker.url}/default"
    recorder = await recording_process("-o", str(file), "--no-payloads", url)
    async with worker_on(broker, hosted):
        await until(file.exists)
        await ask(edge, bundle, "e.r.1")
        recorder.send_signal(number)
        out = (await recorder.communicate())[0].decode()
    assert recorder.returncode == 130 and "1 requests" in out and "what cameras saw" not in out
    assert Recording(file).survey().end.why == "interrupted"
    nothing = await asyncio.to_thread(meshload, "record", "-d", "0.2s", "-o", str(tmp_path / "no.rec"), url)
    assert nothing.returncode == 4 and "NOTHING CAME" in nothing.stdout
    again = await asyncio.to_thread(meshload, "record", "-o", str(file), url)
    assert again.returncode == 2 and "is there already" in again.stderr


async def test_a_broker_that_goes_ends_the_recording_and_what_came_is_kept(
    edge: Bus, broker: EmbeddedServer, bundle: Bundle, hosted: Hosted, tmp_path: Path
) -> None:
    other = EmbeddedServer(store=tmp_path / "other")
    await other.start()
    url, file = f"{other.url}/default", tmp_path / "a.rec"
    recorder = Recorder(url, split(url), TargetOptions(), payloads=True, limit_bytes=10**6)
    task = asyncio.create_task(recorder.record(file, 60))
    await until(lambda: recorder.file_bytes > 0)
    bus = await nats.connect(other.url)
    await bus.publish(
        "sm.v1.default.worker.w", InferRequest("e.r.1", "e", "m", "ab" * 32, "", b"x", False, 1).encode()
    )
    await bus.publish("sm.v1.default.infer.m.whole", b"\xff")
    await bus.publish("sm.v1.default.worker.w.table", b"no request")
    await bus.publish("sm.v1.other.worker.w", b"another tenant")
    await bus.drain()
    await until(lambda: recorder.requests + recorder.unreadable == 2)
    await other.stop()
    end = await asyncio.wait_for(task, 20)
    assert (end.requests, end.unreadable, end.why) == (1, 1, "connection lost")
    assert Recording(file).survey().end == End(end.duration_ns, 1, "connection lost", 1)


async def test_a_recorder_that_is_too_slow_is_cut_off_by_the_broker_and_says_so(tmp_path: Path) -> None:
    """A broker holds only so much for a subscriber that does not read."""
    file = tmp_path / "slow.rec"
    request = InferRequest("e.r.1", "e", "m", "ab" * 32, "", bytes(100_000), False, 1).encode()
    strict = ("max_pending: 1000000", 'write_deadline: "200ms"')
    async with EmbeddedServer(store=tmp_path / "nats", max_payload_bytes=200_000, extra=strict) as broker:
        recorder = await recording_process("-o", str(file), "-d", "60s", f"{broker.url}/default")
        bus = await nats.connect(broker.url)
        await until(file.exists)
        await bus.publish("sm.v1.default.worker.w", request)
        await bus.flush()
        await until(lambda: file.stat().st_size > 100_000)
        recorder.send_signal(signal.SIGSTOP)
        try:
            for _ in range(200):
                await bus.publish("sm.v1.default.worker.w", request)
            await bus.flush()
            await until(lambda: "Slow Consumer" in broker.log_tail())
        finally:
            recorder.send_signal(signal.SIGCONT)
        out = (await asyncio.wait_for(recorder.communicate(), 30))[0].decode()
        await bus.drain()
    survey = Recording(file).survey()
    assert recorder.returncode == 4 and "THE BROKER WAS LOST: " in out
    assert survey.end.why in ("slow consumer", "connection lost") and survey.end.why in out
    assert 1 <= survey.works.total() == survey.end.requests < 200


async def test_what_can_not_be_recorded_is_said_before_there_is_a_file(
    broker: EmbeddedServer, tmp_path: Path
) -> None:
    file = tmp_path / "a.rec"
    for url, status, says in (
        ("nats://127.0.0.1:1/default", 1, "connection refused"),
        (f"{broker.url}/default/{MODEL}", 1, "names no tenant"),
        (f"{broker.url}/", 1, "names no tenant"),
        ("http://127.0.0.1:1/", 1, "the mesh speaks NATS"),
    ):
        done = await asyncio.to_thread(meshload, "record", "-o", str(file), url)
        assert done.returncode == status and says in done.stderr and not file.exists()
    few = await asyncio.to_thread(meshload, "record", "-o", str(file), "--limit", "1k", f"{broker.url}/default")
    assert few.returncode == 2 and "--limit" in few.stderr
    no_file = await asyncio.to_thread(meshload, "replay", str(file), f"{broker.url}/default/{MODEL}")
    assert no_file.returncode == 2 and "can't be read" in no_file.stderr


async def test_a_broker_that_does_not_let_us_listen_says_what_to_allow(tmp_path: Path) -> None:
    users = 'authorization { users: [{ user: "a", password: "b", permissions: { subscribe: ["_INBOX.>"] } }] }'
    async with EmbeddedServer(store=tmp_path / "nats", extra=[users]) as guarded:
        url = guarded.url.replace("//", "//a:b@") + "/acme"
        done = await asyncio.to_thread(meshload, "record", "-o", str(tmp_path / "a.rec"), url)
        wrong = await asyncio.to_thread(meshload, "record", "-o", str(tmp_path / "a.rec"), f"{guarded.url}/acme")
    assert done.returncode == 1 and "permissions violation" in done.stderr and "sm.v1.acme.infer.>" in done.stderr
    assert "a:b@" not in done.stderr and not (tmp_path / "a.rec").exists()
    assert wrong.returncode == 1 and "authorization" in wrong.stderr
