"""A stream between real processes: a worker is killed in the middle of it, another takes over, nothing is lost."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from mesh_run import OFFLOADED, Node, Scene, node, until

from splitmesh.bus.server import EmbeddedServer
from splitmesh.frames.outcome import Outcome

pytestmark = pytest.mark.slow

HERE = {Outcome.LOCAL, Outcome.RESUMED, Outcome.TRACKED}


def settings(scene: Scene, broker: EmbeddedServer) -> dict[str, Any]:
    """An edge that sends every frame by the stream whose tail is the quickest to resume."""
    streams = [point for point in scene.bundle.points if point.codec == "temporal"]
    if not streams:
        pytest.skip("the shipped plan offers no temporal codec")
    point = min(streams, key=lambda point: (point.resume_ms, -point.fidelity))
    return scene.edge(nats_url=broker.url, policy=f"static:{point.name}", deadline_ms=400)


def workers(edge: Node) -> list[str | None]:
    return [record.worker for record in edge.frame_records() if record.outcome in OFFLOADED]


async def test_a_worker_killed_in_the_middle_of_a_stream_is_replaced(
    scene: Scene, broker: EmbeddedServer, tmp_path: Path
) -> None:
    theirs = {"plan": scene.bundle.folder, "nats_url": broker.url}
    async with (
        node("cloud", tmp_path / "first", ready=False, name="w-1", **theirs) as first,
        node("edge", tmp_path / "edge", **settings(scene, broker)) as edge,
    ):
        await edge.offloads(15)
        assert "need_keyframe" not in (await first.status())["nacked"]
        first.child.send(signal.SIGKILL)
        await first.ended()
        killed_at = len(edge.outcomes())
        async with node("cloud", tmp_path / "second", name="w-2", **theirs) as second:
            await edge.offloads(15)
            assert "need_keyframe" not in (await second.status())["nacked"]
            assert await edge.stop() == 0, edge.log
        gap = edge.outcomes()[killed_at:]
    assert any(outcome in HERE for outcome in gap)
    used = workers(edge)
    assert set(used) == {"w-1", "w-2"} and used == sorted(used, key=str)
    points = {record.point for record in edge.frame_records() if record.outcome in OFFLOADED}
    assert all("temporal" in point for point in points)


async def test_a_stream_lives_through_a_broker_that_dies(
    scene: Scene, broker: EmbeddedServer, tmp_path: Path
) -> None:
    theirs = scene.worker(nats_url=broker.url)
    async with (
        node("cloud", tmp_path / "cloud", ready=False, **theirs) as worker,
        node("edge", tmp_path / "edge", **settings(scene, broker)) as edge,
    ):
        await edge.offloads(10)
        broker.kill()
        dead_from = len(edge.outcomes())
        await until(lambda: len(edge.outcomes()) >= dead_from + 10)
        await broker.start()
        await edge.offloads(10)
        assert await edge.stop() == 0, edge.log
        assert await worker.stop() == 0, worker.log
    assert set(workers(edge)) == {"w-1"}
