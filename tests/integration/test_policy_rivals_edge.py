"""A bandit on a real edge, with a real worker: what it is told of its frames moves what it expects of the next."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mesh_run import OFFLOADED, Scene, node

from splitmesh.bus.server import EmbeddedServer

pytestmark = pytest.mark.slow

_EXPECTED = re.compile(r"optimistic delay (-?\d+) ms")


async def test_a_bandit_learns_from_how_its_frames_end(scene: Scene, broker: EmbeddedServer, tmp_path: Path) -> None:
    async with node("cloud", tmp_path / "cloud", ready=False, **scene.worker(nats_url=broker.url)) as worker:
        async with node("edge", tmp_path / "edge", **scene.edge(nats_url=broker.url, policy="ans")) as edge:
            await edge.offloads(40)
            assert await edge.stop() == 0, edge.log
        assert await worker.stop() == 0, worker.log
    remote = [record for record in edge.frame_records() if record.outcome in OFFLOADED]
    delays_ms = [int(found[1]) for record in remote if (found := _EXPECTED.search(record.reason))]
    assert len(delays_ms) >= 30
    assert delays_ms[0] < 0 < min(delays_ms[-10:]), "all optimism at first, then what frames really took"
