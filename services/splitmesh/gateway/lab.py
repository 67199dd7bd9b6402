"""Owns asking the lab that started this gateway for what only a lab can do. Implements `LabControls`."""

from __future__ import annotations

from splitmesh.bus.base import Bus
from splitmesh.errors import MeshError, NoResponders, UnknownName
from splitmesh.wire import subjects
from splitmesh.wire.lab import BendLink, KillWorker, LabCommand, RestartWorker, SlowEdge, lab_reply_from
from splitmesh.wire.packing import pack

_ASK_S = 5.0
"""More than the lab gives an edge behind a thin uplink."""


class LabClient:
    """The lab of `tenant`, reached over the bus. Each method raises MeshError, UnknownName for who is not there."""

    def __init__(self, bus: Bus, tenant: str) -> None:
        self._bus = bus
        self._subject = subjects.lab(tenant)

    async def bend_link(self, factor: float, seconds: float) -> None:
        await self._ask(LabCommand(bend_link=BendLink(factor=factor, seconds=seconds)))

    async def kill_worker(self, name: str) -> None:
        await self._ask(LabCommand(kill_worker=KillWorker(worker_id=name)))

    async def restart_worker(self, name: str) -> None:
        await self._ask(LabCommand(restart_worker=RestartWorker(worker_id=name)))

    async def slow_edge(self, edge: str, factor: float) -> None:
        await self._ask(LabCommand(slow_edge=SlowEdge(edge_id=edge, factor=factor)))

    async def _ask(self, command: LabCommand) -> None:
        try:
            message = await self._bus.request(self._subject, pack(command), timeout_s=_ASK_S)
        except NoResponders as exc:
            raise UnknownName("no lab is there", field="lab", name="") from exc
        reply = lab_reply_from(message.payload)
        if not reply.HasField("refused"):
            return
        field, detail = reply.refused.field, reply.refused.detail or "the lab refused"
        raise UnknownName(detail, field=field, name="") if field else MeshError(detail)
