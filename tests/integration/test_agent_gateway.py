"""Cameras of a box, listed, started and stopped through the gateway by the client: of one's own tenant alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from agent_rig import NAME, box, streams_file
from gateway_rig import gateway_on
from mesh_run import Scene

from splitmesh.bus.server import EmbeddedServer
from splitmesh.client.aio import AsyncClient
from splitmesh.client.errors import CallFailed
from splitmesh.client.sync import Client
from splitmesh.gateway.tokens import Account, entry, new_token
from splitmesh.v1.agent_pb2 import AgentListing

pytestmark = pytest.mark.slow


def states(listing: AgentListing) -> dict[str, str]:
    return {stream.name: stream.state for stream in listing.report.streams}


async def test_a_program_starts_and_stops_cameras_of_its_own_tenants_boxes_alone(
    scene: Scene, broker: EmbeddedServer, tmp_path: Path
) -> None:
    ours, theirs = new_token(), new_token()
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(f"{entry(ours, Account('default', 'ann'))}\n{entry(theirs, Account('yard', 'eve'))}")
    file = streams_file(tmp_path, scene, "gate")
    async with (
        box(tmp_path, file, nats_url=broker.url) as agent,
        gateway_on(broker, scene.bundle, tokens=tokens) as gateway,
        AsyncClient(f"127.0.0.1:{gateway.grpc_port}", token=ours) as mesh,
        AsyncClient(f"127.0.0.1:{gateway.grpc_port}", token=theirs) as other,
    ):
        await agent.until("gate", "running")
        assert states(await mesh.box(NAME)) == {"gate": "running"}
        listing = await mesh.start_stream(NAME, "shed", str(scene.clip), {"max_fps": "4"})
        assert set(states(listing)) == {"gate", "shed"} and listing.changes[0].actor == "ann"
        await agent.until("shed", "running")
        with pytest.raises(CallFailed) as refused:
            await mesh.start_stream(NAME, "x", "/etc/passwd")
        assert (refused.value.code, refused.value.reason) == ("INVALID_ARGUMENT", "SETTINGS_ERROR")
        for asked in (other.box(NAME), other.stop_stream(NAME, "shed"), mesh.box("nobody")):
            with pytest.raises(CallFailed) as refused:
                await asked
            assert (refused.value.code, refused.value.reason) == ("NOT_FOUND", "UNKNOWN_NAME")
        with pytest.raises(CallFailed) as refused:
            await mesh.box("a.b")
        assert refused.value.code == "INVALID_ARGUMENT"

        def stop() -> AgentListing:
            with Client(f"127.0.0.1:{gateway.grpc_port}", token=ours) as client:
                return client.stop_stream(NAME, "shed")

        assert states(await asyncio.to_thread(stop))["shed"] == "draining"
        assert "/etc/passwd" not in str(await agent.streams())
