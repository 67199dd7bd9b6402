"""The gateway's state on a bus in memory: a tenant that could not be listened to at first is tried again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from splitmesh.bus.base import MessageSink, Subscription
from splitmesh.bus.memory import MemoryBroker, MemoryBus
from splitmesh.errors import BusUnavailable
from splitmesh.gateway import state as state_module
from splitmesh.gateway.state import GatewayState
from splitmesh.gateway.tenant import TenantMesh
from splitmesh.gateway.tokens import Account, Tokens, entry, new_token
from splitmesh.wire import subjects
from splitmesh.wire.messages import Heartbeat, HostedModel


class RefusingBus(MemoryBus):
    """Takes no interest in `unwanted` until it was asked three times."""

    unwanted = subjects.statuses("globex")
    refusals = 0

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker, "_INBOX.gw", None)
        self.taken = asyncio.Event()

    async def subscribe(self, subject: str, sink: MessageSink, *, queue: str = "") -> Subscription:
        if subject == self.unwanted and self.refusals < 3:
            self.refusals += 1
            raise BusUnavailable("not now")
        interest = await super().subscribe(subject, sink, queue=queue)
        if subject == self.unwanted:
            self.taken.set()
        return interest


async def test_a_new_tenant_is_tried_again_until_it_is_listened_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "_ADVANCE_S", 0.001)
    file = tmp_path / "tokens.toml"
    file.write_text(entry(new_token(), Account("acme", "one")))
    bus, heard = RefusingBus(MemoryBroker()), asyncio.Queue[str]()
    state = GatewayState(bus, Tokens(file), name="gw")

    async def on_tenant(mesh: TenantMesh) -> None:
        mesh.on_heartbeat(lambda beat, _: heard.put_nowait(beat.worker_id))

    state.on_tenant = on_tenant
    await state.start()
    try:
        file.write_text(file.read_text() + entry(new_token(), Account("globex", "two")))
        async with asyncio.timeout(10):
            await bus.taken.wait()
        await bus.publish(
            subjects.load("globex"), Heartbeat("w-1", 1, (HostedModel("m", "0" * 64, ()),), 0, 0).encode()
        )
        async with asyncio.timeout(10):
            assert await heard.get() == "w-1"
        assert [mesh.tenant for mesh in state.meshes] == ["acme", "globex"]
    finally:
        await state.stop()
        await bus.drain()
    assert heard.empty(), "of the tries before nobody is left who listens"
