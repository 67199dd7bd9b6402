"""Owns what all doors of the gateway share: the connection, who is let in, and the mesh as each tenant may see it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Protocol

from splitmesh.bus.base import Bus
from splitmesh.errors import MeshError, SettingsError, UnknownName
from splitmesh.gateway.fleet import Fleet
from splitmesh.gateway.tenant import OwnSpans, TenantMesh
from splitmesh.gateway.tokens import Account, Tokens
from splitmesh.gateway.watching import Watched
from splitmesh.v1 import control_pb2 as pb

_log = logging.getLogger(__name__)

_ADVANCE_S = 0.2
_REFRESH_TURNS = 10


class LabControls(Protocol):
    """What only a lab can do to its own mesh. Each raises MeshError when it can't be done."""

    async def bend_link(self, factor: float, seconds: float) -> None: ...
    async def kill_worker(self, name: str) -> None: ...
    async def restart_worker(self, name: str) -> None: ...
    async def slow_edge(self, edge: str, factor: float) -> None: ...


class GatewayState:
    """One per process, on its event loop. own_spans: of a frame that went through this process. lab: what a lab can
    do, None elsewhere."""

    def __init__(
        self,
        bus: Bus,
        tokens: Tokens,
        *,
        name: str,
        own_spans: OwnSpans = lambda _: (),
        lab: LabControls | None = None,
    ) -> None:
        self.bus = bus
        self.tokens = tokens
        self.name = name
        self.lab = lab
        self.fleet = Fleet()
        self._own_spans = own_spans
        self.on_tenant: Callable[[TenantMesh], Awaitable[None]] | None = None
        """Told each tenant's mesh before it is used."""
        self._meshes: dict[str, TenantMesh] = {}
        self._ticking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen to every tenant's mesh. Raises BusError."""
        await self._open_tenants()
        self._ticking = asyncio.create_task(self._tick(), name="fleet clock")

    async def stop(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.wait({self._ticking})
        await asyncio.gather(*(mesh.stop() for mesh in self._meshes.values()))

    # -- who is let in --------------------------------------------------------------------------------------------

    def account(self, token: str) -> Account | None:
        """Whose `token` it is; None: nobody's."""
        return self.tokens.account(token)

    @property
    def open_account(self) -> Account | None:
        """Who everybody is where no tokens are asked for; None: tokens are."""
        return self.tokens.open_account

    # -- the mesh -------------------------------------------------------------------------------------------------

    def mesh(self, tenant: str) -> TenantMesh:
        """Raises UnknownName."""
        try:
            return self._meshes[tenant]
        except KeyError:
            raise UnknownName(f"tenant {tenant!r} is not known here", field="tenant", name=tenant) from None

    @property
    def meshes(self) -> list[TenantMesh]:
        return list(self._meshes.values())

    async def ask_edge(self, tenant: str, edge: str, command: pb.EdgeCommand) -> pb.EdgeReply:
        """What the edge says, its refusals among it. Raises MeshError: no such edge is there, or no answer came."""
        return await self.mesh(tenant).ask_edge(edge, command)

    def watch(self, tenant: str, edge: str, request: pb.WatchRequest, *, actor: str) -> AsyncGenerator[Watched]:
        """What the edge says while this is iterated; the lease is renewed until then. Raises MeshError."""
        return self.mesh(tenant).watch(edge, request, actor=actor)

    async def explain(self, tenant: str, frame_id: str, *, actor: str) -> pb.Explained:
        """The frame's report, and its spans of every process that kept some. Raises MeshError."""
        return (await self.mesh(tenant).explain(frame_id, actor=actor))[0]

    # -- within ---------------------------------------------------------------------------------------------------

    async def _open_tenants(self) -> None:
        for tenant in self.tokens.tenants:
            if tenant not in self._meshes:
                mesh = TenantMesh(tenant, self.bus, self.fleet, gateway=self.name, own_spans=self._own_spans)
                if self.on_tenant is not None:
                    await self.on_tenant(mesh)
                try:
                    await mesh.start()
                except BaseException:
                    await mesh.stop()
                    raise
                self._meshes[tenant] = mesh

    async def _tick(self) -> None:
        turn = 0
        while True:
            await asyncio.sleep(_ADVANCE_S)
            self.fleet.advance(time.monotonic_ns())
            turn += 1
            if turn % _REFRESH_TURNS == 0:
                await self._refresh()

    async def _refresh(self) -> None:
        try:
            if self.tokens.refresh():
                _log.info("tokens were read anew: tenants %s", ", ".join(self.tokens.tenants))
        except SettingsError as exc:
            _log.error("tokens stay as they were: %s", exc)
        try:
            await self._open_tenants()
        except MeshError as exc:
            _log.warning("a new tenant is not listened to yet: %s", exc)
