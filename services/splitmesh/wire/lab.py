"""Owns what comes in of lab.proto: the bounds that each message must keep.

Both `…_from` raise BadField, which names the field that breaks a rule, or WireError for what is no such message.
"""

from __future__ import annotations

from splitmesh.v1.lab_pb2 import BendLink, KillWorker, LabCommand, LabReply, RestartWorker, SlowEdge
from splitmesh.wire.control import MAX_COMMAND_BYTES, MAX_SLOWDOWN, MAX_TEXT_CHARS
from splitmesh.wire.control_fields import MAX_NAME_CHARS, BadField, amount_field, text_field, token_field
from splitmesh.wire.packing import parse

__all__ = [
    "BendLink",
    "KillWorker",
    "LabCommand",
    "LabReply",
    "RestartWorker",
    "SlowEdge",
    "lab_command_from",
    "lab_reply_from",
]

MIN_FACTOR, MAX_FACTOR = 0.01, 10.0
MIN_BEND_S, MAX_BEND_S = 1.0, 600.0


def lab_command_from(raw: bytes) -> LabCommand:
    """What a lab is asked."""
    if len(raw) > MAX_COMMAND_BYTES:
        raise BadField(f"a command of {len(raw)} bytes is longer than {MAX_COMMAND_BYTES}", field="")
    m = parse(LabCommand, raw)
    match m.WhichOneof("command"):
        case None:
            raise BadField("command is missing, or of a newer version", field="command")
        case "bend_link":
            amount_field(m.bend_link.factor, "factor", low=MIN_FACTOR, high=MAX_FACTOR)
            amount_field(m.bend_link.seconds, "seconds", low=MIN_BEND_S, high=MAX_BEND_S)
        case "kill_worker" | "restart_worker" as name:
            token_field(getattr(m, name).worker_id, "worker_id")
        case "slow_edge":
            token_field(m.slow_edge.edge_id, "edge_id")
            amount_field(m.slow_edge.factor, "factor", low=1.0, high=MAX_SLOWDOWN)
    return m


def lab_reply_from(raw: bytes) -> LabReply:
    """What a lab says."""
    m = parse(LabReply, raw)
    if m.WhichOneof("outcome") is None:
        raise BadField("outcome is missing, or of a newer version", field="outcome")
    text_field(m.refused.field, "field", MAX_NAME_CHARS)
    text_field(m.refused.detail, "detail", MAX_TEXT_CHARS)
    return m
