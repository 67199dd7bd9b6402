"""`splitmesh cloud` as a process: ready file, status pages, signals, threads."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cloud_rig import MODEL, ask, refused, until, worker_on

from splitmesh.bus.base import Bus
from splitmesh.bus.server import EmbeddedServer
from splitmesh.cloud.command import open_hosted, share_threads
from splitmesh.cloud.hosted import Hosted
from splitmesh.errors import NoResponders
from splitmesh.frames.answer import Answer
from splitmesh.plan.bundle.read import Bundle
from splitmesh.telemetry.spanlog import frame_spans, read_spans
from splitmesh.wire import subjects
from splitmesh.wire.messages import InferReply, NackCode


@pytest.mark.parametrize(("threads", "shared"), [(1, (1, 1)), (4, (1, 4)), (5, (2, 2)), (8, (2, 4)), (9, (3, 3))])
def test_threads_are_a_budget(threads: int, shared: tuple[int, int]) -> None:
    assert share_threads(threads) == shared
    assert shared[0] * shared[1] <= threads


def test_a_short_run_gets_one_thread_and_leaves_the_others_to_more_requests(bundle: Bundle) -> None:
    hosted, slots, threads = open_hosted(bundle, threads=5, providers=("cpu",), short_ms=1e6)
    assert (slots, threads) == (5, 1)
    assert hosted._parts[""].session.threads == 1


def test_a_long_run_is_shared_by_several_threads(bundle: Bundle) -> None:
    hosted, slots, threads = open_hosted(bundle, threads=5, providers=("cpu",), short_ms=0.0)
    assert (slots, threads) == (2, 2)
    assert hosted._parts[""].session.threads == 2


@asynccontextmanager
async def process(
    broker_url: str, bundle: Bundle, folder: Path, *more: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, object]]]:
    ready, log = folder / "ready.json", (folder / "worker.log").open("wb")
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "splitmesh.cli.main", "cloud", "--config", os.devnull, "--nats-url", broker_url),
        *("--plan", str(bundle.folder), "--name", "w-p", "--web-port", "0", "--ready-json", str(ready)),
        *("--providers", "cpu", "--span-log", str(folder / "spans"), *more),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=log,
    )
    log.close()
    try:
        await until(lambda: ready.exists() or child.returncode is not None, 60)
        assert ready.exists(), (folder / "worker.log").read_text()
        yield child, json.loads(ready.read_text())
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def page_of(ready: dict[str, object], path: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", ready["web_port"])
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    body = (await reader.read()).partition(b"\r\n\r\n")[2]
    writer.close()
    await writer.wait_closed()
    return body.decode()


async def status_of(ready: dict[str, object]) -> dict[str, object]:
    return json.loads(await page_of(ready, "/status"))


async def test_the_process_serves_reports_and_drains_on_sigterm(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle, tmp_path: Path
) -> None:
    async with process(broker.url, bundle, tmp_path) as (child, ready):
        assert ready["ready"] is True and ready["pid"] == child.pid
        assert isinstance((await ask(edge, bundle)).outcome, Answer)
        status = await status_of(ready)
        assert status["served"] == 1 and status["ready"] is True and status["models"] == [MODEL]
        asked = [asyncio.create_task(ask(edge, bundle, f"e.r.{i}")) for i in range(20)]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        child.send_signal(signal.SIGTERM)
        replies = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(r, InferReply) for r in replies), replies  # none was left without a word
        async with asyncio.timeout(15):
            assert await child.wait() == 0
        with pytest.raises(NoResponders):
            await ask(edge, bundle, "e.r.after")
    assert frame_spans(read_spans(tmp_path / "spans"), "e.r.1")


async def test_the_process_serves_its_tenants_and_holds_each_to_its_quota(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle, tmp_path: Path
) -> None:
    tenants = "red:rate=0.01,burst=1,blue:weight=2"
    async with process(broker.url, bundle, tmp_path, "--tenants", tenants) as (_, ready):
        red, blue = (subjects.infer(tenant, MODEL, "") for tenant in ("red", "blue"))
        assert isinstance((await ask(edge, bundle, subject=red)).outcome, Answer)
        assert refused(await ask(edge, bundle, "e.r.2", subject=red)).code is NackCode.QUOTA
        assert isinstance((await ask(edge, bundle, subject=blue)).outcome, Answer)
        with pytest.raises(NoResponders):
            await ask(edge, bundle)  # of the tenant "default", which is not among them
        told = (await status_of(ready))["tenants"]
        assert isinstance(told, dict) and list(told) == ["red", "blue"]
        assert (told["red"]["served"], told["red"]["over_quota"], told["blue"]["served"]) == (1, 1, 1)


async def test_sigterm_while_there_is_no_broker_ends_the_process(bundle: Bundle, tmp_path: Path) -> None:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "splitmesh.cli.main", "cloud", "--config", os.devnull, "--web-port", "off"),
        *("--nats-url", "nats://127.0.0.1:1", "--plan", str(bundle.folder), "--providers", "cpu"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert child.stderr is not None
    async with asyncio.timeout(60):
        while b"Connect call failed" not in await child.stderr.readline():
            pass
        child.send_signal(signal.SIGTERM)
        await child.communicate()
    assert child.returncode == 0


async def test_a_killed_worker_leaves_no_queue_member(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle, hosted: Hosted, tmp_path: Path
) -> None:
    async with process(broker.url, bundle, tmp_path) as (child, _):
        child.send_signal(signal.SIGKILL)
        await child.wait()
        async with worker_on(broker, hosted):
            for i in range(10):
                assert isinstance((await ask(edge, bundle, f"e.r.{i}")).outcome, Answer)
