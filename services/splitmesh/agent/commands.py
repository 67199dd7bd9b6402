"""Owns what an agent is asked over the bus, and what it tells there. Refuses what is malformed, or too much of it."""

from __future__ import annotations

import asyncio
import logging
import time

from splitmesh.agent.service import Agent
from splitmesh.bus.base import Bus, Message, Subscription
from splitmesh.errors import BusError, BusUnavailable, MeshError, SettingsError, UnknownName, WireError
from splitmesh.schedule.tenants import TokenBucket
from splitmesh.telemetry.agent import AgentMetrics
from splitmesh.telemetry.metrics import Asked
from splitmesh.wire import subjects
from splitmesh.wire.agents import AgentReply, agent_command_from
from splitmesh.wire.control import Refused
from splitmesh.wire.control_fields import BadField
from splitmesh.wire.packing import pack

_log = logging.getLogger(__name__)

COMMANDS_PER_S = 5.0
_MOST_AT_ONCE = 20.0
REPORT_S = 5.0
_ATTACH_AGAIN_S = 0.5


class Commands:
    """Runs on the event loop, one command after another. `name` and `tenant`: of the agent."""

    def __init__(self, agent: Agent, metrics: AgentMetrics, *, name: str, tenant: str) -> None:
        self._agent = agent
        self._metrics = metrics
        self._name = name
        self._tenant = tenant
        self._admitted = TokenBucket(COMMANDS_PER_S, _MOST_AT_ONCE)
        self._bus: Bus | None = None
        self._subscription: Subscription | None = None
        self._telling: asyncio.Task[None] | None = None

    async def attach(self, bus: Bus) -> None:
        """Take commands from `bus` and tell it how things are, once the broker is there."""
        while True:
            try:
                self._subscription = await bus.subscribe(subjects.agent(self._tenant, self._name), self._on_command)
                break
            except BusUnavailable as exc:
                _log.info("no commands yet: %s", exc)
                await asyncio.sleep(_ATTACH_AGAIN_S)
        self._bus = bus
        self._telling = asyncio.create_task(self._tell_for_ever(), name="agent reports")

    async def deafen(self) -> None:
        """Take no more commands."""
        if self._subscription is not None:
            subscription, self._subscription = self._subscription, None
            await subscription.unsubscribe()

    async def close(self) -> None:
        """Say the last word."""
        await self.deafen()
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.wait({self._telling})
            await self._report()

    async def answer(self, raw: bytes) -> AgentReply | None:
        """The reply to one command; None: there are far too many."""
        now_ns = time.monotonic_ns()
        if self._admitted.missing_ns(1, now_ns):
            self._metrics.asked(Asked.IGNORED)
            return None
        self._admitted.take(1)
        made = AgentReply(agent_id=self._name)
        try:
            self._do(raw)
            made.listing.CopyFrom(self._agent.listing())
        except BadField as exc:
            made.refused.CopyFrom(Refused(field=exc.field, detail=str(exc)))
        except SettingsError as exc:
            made.refused.CopyFrom(Refused(field=exc.key, detail=str(exc)))
        except UnknownName as exc:
            made.refused.CopyFrom(Refused(field=exc.field, detail=str(exc)))
        except MeshError as exc:
            made.refused.CopyFrom(Refused(detail=str(exc)))
        except Exception as exc:  # noqa: BLE001 - a fault of ours is told to who asked, and ends no stream
            _log.exception("a command failed")
            made.refused.CopyFrom(Refused(detail=f"unforeseen {type(exc).__name__}"))
        if made.HasField("refused"):
            _log.warning("a command is refused: %s", made.refused.detail)
        self._metrics.asked(Asked.REFUSED if made.HasField("refused") else Asked.ANSWERED)
        return made

    def _do(self, raw: bytes) -> None:
        """Raises MeshError."""
        command = agent_command_from(raw)
        match command.WhichOneof("command"):
            case "start":
                asked = command.start
                self._agent.start(asked.name, asked.source, asked.settings, actor=command.actor)
            case "stop":
                self._agent.stop(command.stop.name, actor=command.actor)
            case "list":
                return
            case other:
                raise WireError(f"{other} is of a newer version")

    async def _on_command(self, message: Message) -> None:
        reply = await self.answer(message.payload)
        if reply is not None and message.reply and self._bus is not None:
            await self._send(message.reply, pack(reply))

    async def _tell_for_ever(self) -> None:
        while True:
            await self._report()
            await asyncio.sleep(REPORT_S)

    async def _report(self) -> None:
        await self._send(subjects.agents(self._tenant, self._name), pack(self._agent.report()))

    async def _send(self, subject: str, raw: bytes) -> None:
        """What can't be sent is not: the next report says it anew."""
        if self._bus is None or not self._bus.connected:
            return
        try:
            await self._bus.publish(subject, raw)
        except BusError as exc:
            _log.debug("not told: %s", exc)
