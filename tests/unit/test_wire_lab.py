"""What a lab may be told: each message crosses as it is, and what breaks a rule is refused by its field."""

from __future__ import annotations

import pytest

from splitmesh.errors import WireError
from splitmesh.v1.control_pb2 import Done, Refused
from splitmesh.wire.control_fields import BadField
from splitmesh.wire.lab import (
    BendLink,
    KillWorker,
    LabCommand,
    LabReply,
    RestartWorker,
    SlowEdge,
    lab_command_from,
    lab_reply_from,
)
from splitmesh.wire.packing import pack
from splitmesh.wire.subjects import lab


@pytest.mark.parametrize(
    "command",
    [
        LabCommand(bend_link=BendLink(factor=0.01, seconds=1)),
        LabCommand(bend_link=BendLink(factor=10, seconds=600)),
        LabCommand(kill_worker=KillWorker(worker_id="lab-cloud")),
        LabCommand(restart_worker=RestartWorker(worker_id="lab-cloud-2")),
        LabCommand(slow_edge=SlowEdge(edge_id="lab-edge", factor=1000)),
    ],
)
def test_commands_cross(command: LabCommand) -> None:
    assert lab_command_from(pack(command)) == command


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (LabCommand(), "command"),
        (LabCommand(bend_link=BendLink(factor=0.009, seconds=1)), "factor"),
        (LabCommand(bend_link=BendLink(factor=float("nan"), seconds=1)), "factor"),
        (LabCommand(bend_link=BendLink(factor=1, seconds=601)), "seconds"),
        (LabCommand(kill_worker=KillWorker(worker_id="a.b")), "worker_id"),
        (LabCommand(restart_worker=RestartWorker()), "worker_id"),
        (LabCommand(slow_edge=SlowEdge(edge_id="*", factor=2)), "edge_id"),
        (LabCommand(slow_edge=SlowEdge(edge_id="e", factor=0.5)), "factor"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_its_field(command: LabCommand, field: str) -> None:
    with pytest.raises(BadField) as refused:
        lab_command_from(pack(command))
    assert refused.value.field == field


def test_replies_cross_and_are_bounded() -> None:
    for reply in (LabReply(done=Done()), LabReply(refused=Refused(field="worker_id", detail="not there"))):
        assert lab_reply_from(pack(reply)) == reply
    for wrong in (LabReply(), LabReply(refused=Refused(detail="x" * 2001))):
        with pytest.raises(BadField):
            lab_reply_from(pack(wrong))


def test_bytes_that_are_no_message_are_refused() -> None:
    for raw in (b"\xff" * 8, b"\x00" * 5000):
        with pytest.raises(WireError):
            lab_command_from(raw)


def test_a_lab_is_its_tenants() -> None:
    assert lab("acme") == "sm.v1.acme.lab"
    with pytest.raises(WireError):
        lab("a.b")
