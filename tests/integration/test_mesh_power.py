"""A real edge with a budget of power: it runs the model less often, says why, and shows what it is taken to draw."""

from __future__ import annotations

from pathlib import Path

import pytest
from mesh_run import Scene, node, until

from splitmesh.bus.server import EmbeddedServer
from splitmesh.frames.outcome import Outcome

pytestmark = pytest.mark.slow


async def test_an_edge_keeps_to_its_power_and_says_so(scene: Scene, broker: EmbeddedServer, tmp_path: Path) -> None:
    """Alone: a run of some 80 ms is 0.3 J, and 0.2 W are left for runs beyond idling."""
    settings = scene.edge(nats_url=broker.url, power_budget_w="3.2W", power_idle_w=3.0, power_active_w=7.0)
    async with node("edge", tmp_path / "edge", **settings) as edge:
        await until(lambda: len(edge.outcomes()) >= 90)
        status = await edge.status()
        metrics = (await edge.get("/metrics"))[1]
        assert await edge.stop() == 0, edge.log
    runs = edge.outcomes().count(Outcome.LOCAL)
    assert 0 < runs < 30, "of 90 frames it could have run the model on most"
    assert 3.0 < status["power_w"] < 4.0
    shown = float(metrics.partition("\nsplitmesh_power_watts ")[2].split()[0])
    assert 3.0 < shown < 4.5
    reasons = [record.reason for record in edge.frame_records()]
    assert sum("local would draw more than 3.2 W allow" in reason for reason in reasons) > 20
