"""What a mesh does while a part of it is missing: no frame is lost, and offloading resumes by itself."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from mesh_run import OFFLOADED, Scene, node, until

from splitmesh.bus.server import EmbeddedServer
from splitmesh.frames.outcome import Outcome

pytestmark = pytest.mark.slow

HERE = {Outcome.LOCAL, Outcome.RESUMED, Outcome.TRACKED}


async def test_an_edge_starts_alone_says_so_once_and_offloads_when_the_cloud_appears(
    scene: Scene, broker: EmbeddedServer, tmp_path: Path
) -> None:
    await broker.stop()  # its port stays known, and nobody listens there
    async with (
        node("edge", tmp_path / "edge", **scene.edge(nats_url=broker.url)) as edge,
        node("cloud", tmp_path / "cloud", ready=False, **scene.worker(nats_url=broker.url)) as worker,
    ):
        await until(lambda: len(edge.outcomes()) >= 12)
        alone = edge.outcomes()
        assert set(alone) <= HERE | {Outcome.SHED} and Outcome.LOCAL in alone
        assert (await edge.status())["broker"] == "connecting"
        waiting = [line for line in edge.log.splitlines() if broker.url in line]
        assert 1 <= len(waiting) <= 3, waiting  # connecting, why not; not one line per try
        assert any("Connect call failed" in line for line in waiting)
        await broker.start()
        await worker.child.wait_ready(20)
        await edge.offloads(10)
        assert (await edge.status())["broker"] == "connected"
        assert await edge.stop() == 0, edge.log
    records = edge.frame_records()
    assert records[0].outcome is Outcome.LOCAL  # nothing to track from, nobody to ask
    assert all(record.worker == "w-1" for record in records if record.outcome in OFFLOADED)


async def test_a_killed_broker_costs_no_frame_and_offloading_resumes(
    scene: Scene, broker: EmbeddedServer, tmp_path: Path
) -> None:
    async with (
        node("cloud", tmp_path / "cloud", ready=False, **scene.worker(nats_url=broker.url)) as worker,
        node("edge", tmp_path / "edge", **scene.edge(nats_url=broker.url, policy=scene.split)) as edge,
    ):
        await edge.offloads(8)
        broker.kill()
        dead_from = len(edge.outcomes())
        await until(lambda: len(edge.outcomes()) >= dead_from + 15)
        dead_to = len(edge.outcomes())
        assert set(edge.outcomes()[dead_from + 3 : dead_to]) <= HERE | {Outcome.SHED}
        await broker.start()
        await edge.offloads(8)
        for end in (edge, worker):
            assert 'splitmesh_reconnects_total{what="broker"} 1.0' in (await end.get("/metrics"))[1]
        assert await edge.stop() == 0, edge.log
    records = edge.frame_records()
    lost = [record for record in records if "connection" in record.note]
    assert lost and {record.outcome for record in lost} <= HERE
    assert any(record.outcome is Outcome.RESUMED for record in lost)


async def test_a_killed_worker_costs_no_frame_and_its_successor_is_used(
    scene: Scene, broker: EmbeddedServer, tmp_path: Path
) -> None:
    settings = scene.edge(nats_url=broker.url, policy=scene.split)
    async with (
        node("cloud", tmp_path / "first", ready=False, **scene.worker(nats_url=broker.url)) as first,
        node("edge", tmp_path / "edge", **settings) as edge,
    ):
        await edge.offloads(8)
        first.child.send(signal.SIGKILL)
        await first.ended()
        killed_at = len(edge.outcomes())
        async with node("cloud", tmp_path / "second", **scene.worker(nats_url=broker.url, name="w-2")):
            gap = edge.outcomes()[killed_at:]
            await edge.offloads(8)
            assert await edge.stop() == 0, edge.log
    records = edge.frame_records()
    assert len(gap) >= 10 and any(outcome in HERE for outcome in gap)
    workers = [record.worker for record in records if record.outcome in OFFLOADED]
    assert workers.index("w-2") > 0 and "w-1" not in workers[workers.index("w-2") :]
    nobody = [record for record in records if "nobody listens" in record.note or "no responders" in record.note]
    assert nobody and {record.outcome for record in nobody} <= HERE


async def test_ctrl_c_drains_the_edge(scene: Scene, broker: EmbeddedServer, tmp_path: Path) -> None:
    """As SIGTERM does, by which the other tests stop theirs."""
    async with node("edge", tmp_path / "edge", **scene.edge(nats_url=broker.url, policy="local-only")) as edge:
        await until(lambda: len(edge.outcomes()) >= 10)
        assert await edge.stop(signal.SIGINT) == 0, edge.log
    assert len(edge.frame_records()) >= 10
