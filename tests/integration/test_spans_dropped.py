"""Spans that a disk does not take are told by every role that traces: what the alert looks at."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cloud_rig import ask, until, worker_on
from gateway_rig import caller_of, counted, gateway_on
from test_cloud_process import page_of, process
from test_gateway_frames import JPEG

from splitmesh.bus.base import Bus
from splitmesh.bus.server import EmbeddedServer
from splitmesh.cloud.hosted import Hosted
from splitmesh.frames.answer import Answer
from splitmesh.plan.bundle.read import Bundle

NAME = "splitmesh_spans_dropped_spans"


async def test_a_worker_tells_what_its_disk_did_not_take(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "spans").write_text("no folder")
    async with process(broker.url, bundle, tmp_path) as (_, ready):
        assert f"{NAME} 0.0" in await page_of(ready, "/metrics")
        assert isinstance((await ask(edge, bundle)).outcome, Answer)
        async with asyncio.timeout(20):
            while f"{NAME} 0.0" in (page := await page_of(ready, "/metrics")):
                pass
        assert f"{NAME} 5.0" in page  # worker ⊃ queue, decode, tail, postprocess


async def test_a_gateway_tells_what_its_disk_did_not_take(
    broker: EmbeddedServer, bundle: Bundle, hosted: Hosted, tmp_path: Path
) -> None:
    (tmp_path / "spans").write_text("no folder")
    settings = {"span_log": tmp_path / "spans", "trace_ratio": 1.0}
    async with (
        worker_on(broker, hosted),
        gateway_on(broker, bundle, **settings) as gateway,
        caller_of(gateway) as caller,
    ):
        assert (await caller.infer(encoded=JPEG, budget_ms=5000)).HasField("answer")
        await until(lambda: counted(gateway, NAME) > 0)
