"""Owns asking the agent of a box which cameras it serves, and to serve others. Reaches agents of one tenant alone."""

from __future__ import annotations

from splitmesh.errors import NoResponders, SettingsError, UnknownName
from splitmesh.gateway.tenant import TenantMesh
from splitmesh.v1 import gateway_pb2 as pb
from splitmesh.wire import subjects
from splitmesh.wire.agents import AgentCommand, AgentListing, agent_reply_from
from splitmesh.wire.packing import pack

ASK_AGENT_S = 5.0
"""A box behind a thin, full uplink answers late."""


async def ask_agent(mesh: TenantMesh, query: pb.AgentQuery, *, actor: str) -> AgentListing:
    """What runs there once the query was taken. actor: who asks, for the agent's audit.

    Raises UnknownName: no such agent is there; SettingsError that names the field: it refuses; BusError, WireError.
    """
    command = AgentCommand(actor=actor)
    match query.WhichOneof("query"):
        case "start":
            command.start.CopyFrom(query.start)
        case "stop":
            command.stop.CopyFrom(query.stop)
        case _:
            command.list.SetInParent()
    subject = subjects.agent(mesh.tenant, query.agent)
    try:
        message = await mesh.bus.request(subject, pack(command), timeout_s=ASK_AGENT_S)
    except NoResponders as exc:
        raise UnknownName(f"no agent {query.agent!r} is there", field="agent", name=query.agent) from exc
    reply = agent_reply_from(message.payload, agent=query.agent)
    if reply.HasField("refused"):
        raise SettingsError(f"{query.agent}: {reply.refused.detail}", key=reply.refused.field or "query")
    return reply.listing
