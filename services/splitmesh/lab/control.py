"""Owns what the lab's page may do to the running mesh: takes commands over the bus, does them, and notes each.

The gateway asks on the lab's own broker, by the subject `sm.v1.<tenant>.lab`, to which nobody listens outside a lab.
Commands are done one after another; what can't be done is refused and leaves no note.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from splitmesh.bus.base import Bus, Message
from splitmesh.bus.nats import connect_nats
from splitmesh.errors import BusError, MeshError, NoResponders, RequestTimeout, UnknownName
from splitmesh.lab.link.bend import Bend
from splitmesh.lab.mesh import Mesh
from splitmesh.lab.setup import TENANT
from splitmesh.lab.strikes import Blow, Strike, in_words
from splitmesh.lab.workers import WorkerTender
from splitmesh.wire import subjects
from splitmesh.wire.control import Done, EdgeCommand, Refused, reply_from
from splitmesh.wire.control_fields import BadField
from splitmesh.wire.lab import BendLink, LabReply, SlowEdge, lab_command_from
from splitmesh.wire.packing import pack

_log = logging.getLogger(__name__)

_CONNECT_S = 5.0
_ASK_EDGE_S = 4.0
"""An edge behind a thin, full uplink answers late."""


class LabControl:
    """now_s: seconds of the run. notice: told what was done, in words. on_bend: told each bend of the link, on the
    clock of its trace."""

    def __init__(
        self,
        mesh: Mesh,
        workers: WorkerTender,
        *,
        now_s: Callable[[], float],
        notice: Callable[[str], None],
        on_bend: Callable[[Bend], None],
    ) -> None:
        self._mesh = mesh
        self._workers = workers
        self._now_s = now_s
        self._notice = notice
        self._on_bend = on_bend
        self.strikes: list[Strike] = []

    @asynccontextmanager
    async def taking(self) -> AsyncIterator[None]:
        """While open, commands are taken. Raises BusError: the broker does not let us."""
        bus = await connect_nats(self._mesh.broker_url, name="lab", give_up_s=_CONNECT_S)
        try:

            async def on_command(message: Message) -> None:
                await self._answer(message, bus)

            await bus.subscribe(subjects.lab(TENANT), on_command)
            yield
        finally:
            await bus.drain()

    async def _answer(self, message: Message, bus: Bus) -> None:
        try:
            await self._do(message.payload, bus)
            reply = LabReply(done=Done())
        except (BadField, UnknownName) as exc:
            reply = LabReply(refused=Refused(field=exc.field, detail=exc.message))
        except MeshError as exc:
            reply = LabReply(refused=Refused(detail=exc.message))
        try:
            if message.reply:
                await bus.publish(message.reply, pack(reply))
        except BusError as exc:
            _log.warning("whoever asked the lab is not told what came of it: %s", exc)

    async def _do(self, raw: bytes, bus: Bus) -> None:
        """Raises MeshError."""
        command, at_s = lab_command_from(raw), self._now_s()
        match command.WhichOneof("command"):
            case "bend_link":
                await self._bend(command.bend_link, at_s)
            case "kill_worker":
                name = command.kill_worker.worker_id
                await self._workers.kill(name, at_s)
                self._note(at_s, Blow.KILL_WORKER, name)
            case "restart_worker":
                name = command.restart_worker.worker_id
                await self._workers.restart(name, at_s)
                self._note(at_s, Blow.RESTART_WORKER, name)
            case "slow_edge":
                await self._slow(command.slow_edge, at_s, bus)

    async def _bend(self, wanted: BendLink, at_s: float) -> None:
        await self._mesh.link.tell(f"bend {wanted.factor:g} {wanted.seconds:g}")
        self._on_bend(Bend(time.monotonic() - self._mesh.link_began_s, wanted.seconds, wanted.factor))
        self._note(at_s, Blow.BEND_LINK, factor=wanted.factor, length_s=wanted.seconds)

    async def _slow(self, wanted: SlowEdge, at_s: float, bus: Bus) -> None:
        edge = wanted.edge_id
        command = EdgeCommand(actor="lab")
        command.experiment.edge_slowdown = wanted.factor
        try:
            message = await bus.request(subjects.command(TENANT, edge), pack(command), timeout_s=_ASK_EDGE_S)
        except NoResponders as exc:
            raise UnknownName(f"no edge {edge!r} is there", field="edge_id", name=edge) from exc
        except RequestTimeout:
            self._note(at_s, Blow.SLOW_EDGE, edge, factor=wanted.factor)  # it may have been done all the same
            raise
        reply = reply_from(message.payload, edge=edge)
        if reply.HasField("refused"):
            raise MeshError(reply.refused.detail or f"{edge} refused")
        self._note(at_s, Blow.SLOW_EDGE, edge, factor=wanted.factor)

    def _note(
        self, at_s: float, blow: Blow, target: str = "", *, factor: float | None = None, length_s: float | None = None
    ) -> None:
        strike = Strike(at_s, blow, target, factor, length_s)
        self.strikes.append(strike)
        self._notice(in_words(strike.to_json()))
