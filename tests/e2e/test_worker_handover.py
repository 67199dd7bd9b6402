"""A fleet in which one worker leaves in order: it tells its edges, finishes its work, and the other takes over."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "integration"))
from mesh_run import OFFLOADED, Scene, node, scene

from splitmesh.bus.server import EmbeddedServer
from splitmesh.frames.outcome import Outcome

__all__ = ["scene"]

pytestmark = pytest.mark.slow


async def test_a_worker_that_leaves_in_order_costs_no_answer(scene: Scene, tmp_path: Path) -> None:
    async with EmbeddedServer(store=tmp_path / "nats") as broker:
        settings = scene.edge(nats_url=broker.url, policy=scene.split)
        async with (
            node("cloud", tmp_path / "first", **scene.worker(nats_url=broker.url)) as first,
            node("cloud", tmp_path / "second", **scene.worker(nats_url=broker.url, name="w-2")),
            node("edge", tmp_path / "edge", **settings) as edge,
        ):
            await edge.offloads(15)
            assert await first.stop() == 0, first.log
            await edge.offloads(15)
            assert await edge.stop(signal.SIGINT) == 0, edge.log
    records = edge.frame_records()
    workers = [record.worker for record in records if record.outcome in OFFLOADED]
    assert set(workers) == {"w-1", "w-2"} and "w-1" not in workers[-10:]
    split = [record for record in records if record.point.startswith("split/")]
    helpless = [record.note for record in split if record.outcome not in (Outcome.SPLIT, Outcome.RESUMED)]
    assert len(helpless) <= 2, helpless  # of the first frames, before the device's speed is known
