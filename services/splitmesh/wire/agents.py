"""Owns what comes in of agent.proto: the bounds that each message must keep.

Every `…_from` raises BadField, which names the field that breaks a rule, or WireError for what is no such message.
"""

from __future__ import annotations

from splitmesh.v1.agent_pb2 import (
    AgentCommand,
    AgentListing,
    AgentReply,
    AgentReport,
    AgentStream,
    ListStreams,
    StartStream,
    StopStream,
    StreamAudit,
)
from splitmesh.wire.control import MAX_COMMAND_BYTES, MAX_TEXT_CHARS
from splitmesh.wire.control_fields import (
    MAX_KINDS,
    MAX_NAME_CHARS,
    BadField,
    amount_field,
    count_field,
    text_field,
    token_field,
)
from splitmesh.wire.packing import parse

__all__ = [
    "AgentCommand",
    "AgentListing",
    "AgentReply",
    "AgentReport",
    "AgentStream",
    "ListStreams",
    "StartStream",
    "StopStream",
    "StreamAudit",
    "agent_command_from",
    "agent_reply_from",
    "agent_report_from",
]

MAX_STREAMS = 256
MAX_SETTINGS = 32
MAX_PORT = 65_535


def agent_command_from(raw: bytes) -> AgentCommand:
    """What an agent is asked. Source and settings are left to who knows which are allowed."""
    if len(raw) > MAX_COMMAND_BYTES:
        raise BadField(f"a command of {len(raw)} bytes is longer than {MAX_COMMAND_BYTES}", field="")
    m = parse(AgentCommand, raw)
    text_field(m.actor, "actor", MAX_NAME_CHARS)
    match m.WhichOneof("command"):
        case None:
            raise BadField("command is missing, or of a newer version", field="command")
        case "start":
            token_field(m.start.name, "name")
            text_field(m.start.source, "source", MAX_TEXT_CHARS)
            count_field(len(m.start.settings), "settings", MAX_SETTINGS)
            for key, value in m.start.settings.items():
                text_field(key, "settings", MAX_NAME_CHARS)
                text_field(value, "settings", MAX_NAME_CHARS)
        case "stop":
            token_field(m.stop.name, "name")
    return m


def agent_reply_from(raw: bytes, *, agent: str) -> AgentReply:
    """agent: who was asked."""
    m = parse(AgentReply, raw)
    _agent_field(m.agent_id, agent)
    match m.WhichOneof("outcome"):
        case None:
            raise BadField("outcome is missing, or of a newer version", field="outcome")
        case "refused":
            text_field(m.refused.field, "refused.field", MAX_NAME_CHARS)
            text_field(m.refused.detail, "refused.detail", MAX_TEXT_CHARS)
        case "listing":
            _check_report(m.listing.report, agent)
            count_field(len(m.listing.changes), "changes", MAX_KINDS)
            for change in m.listing.changes:
                for name in ("actor", "stream", "what"):
                    text_field(getattr(change, name), f"changes.{name}", MAX_NAME_CHARS)
                text_field(change.source, "changes.source", MAX_TEXT_CHARS)
    return m


def agent_report_from(raw: bytes, *, agent: str) -> AgentReport:
    """agent: the last token of the subject that it came by."""
    m = parse(AgentReport, raw)
    _check_report(m, agent)
    return m


def _check_report(m: AgentReport, agent: str) -> None:
    _agent_field(m.agent_id, agent)
    text_field(m.version, "version", MAX_NAME_CHARS)
    amount_field(m.run_s, "run_s")
    count_field(len(m.streams), "streams", MAX_STREAMS)
    for stream in m.streams:
        token_field(stream.name, "streams.name")
        for name in ("edge_id", "state", "last_exit", "actor"):
            text_field(getattr(stream, name), f"streams.{name}", MAX_NAME_CHARS)
        text_field(stream.source, "streams.source", MAX_TEXT_CHARS)
        amount_field(stream.for_s, "streams.for_s")
        count_field(stream.web_port, "streams.web_port", MAX_PORT)


def _agent_field(value: str, expected: str) -> None:
    if value != expected:
        raise BadField(f"agent_id {value[:80]!r} is not {expected!r}, by whose subject it came", field="agent_id")
    token_field(value, "agent_id")
