"""What an edge answers to commands, without a bus: real policy, world and memory; replies are collected."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from splitmesh.bus.base import Message
from splitmesh.bus.memory import MemoryBroker
from splitmesh.edge.commanded import Commanded, Commands
from splitmesh.edge.device import Device
from splitmesh.edge.front import Front
from splitmesh.edge.previewing import Previewing
from splitmesh.edge.recall import Recall
from splitmesh.edge.steering import Course, Steering
from splitmesh.edge.watching import Watching
from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.frames.status import EdgeStatus
from splitmesh.policy.baselines import make_policy
from splitmesh.policy.decision import Observation
from splitmesh.policy.link import LinkEstimator
from splitmesh.policy.world import World
from splitmesh.telemetry.metrics import Metrics
from splitmesh.telemetry.tracing import Tracing
from splitmesh.v1 import control_pb2 as pb
from splitmesh.wire import subjects
from splitmesh.wire.control import reply_from, report_from

sys.path.append(str(Path(__file__).parent))
from policy_histories import made_up_world

START_NS = 10**12
SEEN = Observation(START_NS, 140.0, 0.0, 40.0, motion=0.01, track_age_ms=40.0)


@dataclass
class Rig:
    parts: Commanded
    commands: Commands
    registry: CollectorRegistry

    async def send(self, raw: bytes | None = None, **command: Any) -> list[pb.EdgeReply]:
        """What was replied: one message, or none."""
        replies: list[bytes] = []

        async def reply(answer: bytes) -> None:
            replies.append(answer)

        await self.commands.take(pb.EdgeCommand(**command).SerializeToString() if raw is None else raw, reply)
        return [reply_from(answer, edge="cam") for answer in replies]

    async def ask(self, raw: bytes | None = None, **command: Any) -> pb.EdgeReply:
        (only,) = await self.send(raw, **command)
        return only

    def counted(self, result: str) -> float | None:
        return self.registry.get_sample_value("splitmesh_commands_total", {"result": result})

    def remember(self, count: int) -> None:
        for seq in range(count):
            known = FrameRecord(f"cam.r.{seq}", seq, seq, 0, 0, Outcome.LOCAL, "local", "why" * 30, 150.0, 80.0, True)
            self.parts.recall.add(known, 0.5)


def made(world: World, device: Device | None = None) -> Rig:
    registry = CollectorRegistry()
    steering = Steering(
        Course("adaptive", 150.0),
        world,
        lambda name, bps: make_policy(name, world.points, uplink_budget_bps=bps or None),
    )
    parts = Commanded(
        edge="cam",
        run_id="r",
        steering=steering,
        watching=Watching(),
        recall=Recall(),
        world=world,
        tracing=Tracing("edge", instance="cam", recent_frames=10),
        device=device,
        metrics=Metrics(registry).edge,
    )
    return Rig(parts, Commands(parts), registry)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    device = Device(slowdown=2.0)
    yield made(made_up_world(random.Random(1), START_NS), device)
    device.close()


async def test_a_command_too_many_is_refused_and_far_too_many_are_not_answered(rig: Rig) -> None:
    replies = [answer for _ in range(1000) for answer in await rig.send(get_points=pb.GetPoints())]
    refused = [answer.refused for answer in replies if answer.HasField("refused")]
    assert 10 <= len(replies) - len(refused) < 400
    assert len(refused) >= 5 and {each.detail for each in refused} == {"more than 20 commands a second"}
    assert rig.counted("refused") == len(refused) and rig.counted("answered") == len(replies) - len(refused)
    assert rig.counted("ignored") == 1000 - len(replies) > 500


@pytest.mark.parametrize(
    ("command", "least", "most"),
    [
        ({"explain": pb.ExplainRequest(frame_id="cam.r.9999")}, 30, 45),
        ({"recent": pb.Recent(last=500)}, 2, 5),
        ({"recent": pb.Recent(last=1)}, 15, 40),
    ],
)
async def test_a_command_that_takes_much_leaves_room_for_fewer(
    rig: Rig, command: dict[str, Any], least: int, most: int
) -> None:
    fast = made(World(rig.parts.world.points, track_kappa=1.0, link=LinkEstimator(bandwidth_bps=1e8)))
    fast.remember(500)
    replies = [answer for _ in range(60) for answer in await fast.send(**command)]
    too_many = sum(answer.refused.detail.startswith("more than") for answer in replies)
    assert least <= len(replies) - too_many <= most


async def test_on_a_slow_link_only_the_newest_frames_are_told(rig: Rig) -> None:
    slow = World(rig.parts.world.points, track_kappa=1.0, link=LinkEstimator(bandwidth_bps=1e5))
    narrow = made(slow)
    narrow.remember(600)
    told = (await narrow.ask(recent=pb.Recent(last=500))).recent
    assert told.left_out + len(told.frames) == 500 and told.left_out > 300
    assert told.ByteSize() <= 16_100
    assert [frame.seq for frame in told.frames] == list(range(600 - len(told.frames), 600))
    wide = made(World(rig.parts.world.points, track_kappa=1.0, link=LinkEstimator(bandwidth_bps=1e8)))
    wide.remember(600)
    everything = (await wide.ask(recent=pb.Recent(last=500))).recent
    assert [frame.seq for frame in everything.frames] == list(range(100, 600)) and not everything.left_out


async def test_what_was_asked_of_a_frame_that_is_forgotten_is_refused(rig: Rig) -> None:
    rig.remember(3)
    found = await rig.ask(explain=pb.ExplainRequest(frame_id="cam.r.2"))
    assert found.explained.frame.seq == 2 and found.explained.frame.chosen.utility == 0.5
    missing = await rig.ask(explain=pb.ExplainRequest(frame_id="cam.r.3"))
    assert missing.refused.field == "frame_id" and "cam.r.3" in missing.refused.detail


async def test_what_if_and_set_policy_agree_and_only_one_of_them_acts(rig: Rig) -> None:
    change = pb.PolicyChange(policy="track")
    assert (await rig.ask(what_if=change)).refused.field == "what_if"
    rig.parts.steering.decide(SEEN)
    found = (await rig.ask(what_if=change)).what_if
    assert found.then.point == "track" and found.then_reason and found.now.point
    assert found.now_runners_up and rig.parts.steering.course.policy == "adaptive"
    state = (await rig.ask(set_policy=change, actor="ann")).policy
    assert state.policy == "track" and state.changes[0].actor == "ann"
    assert rig.parts.steering.decide(replace(SEEN, now_ns=START_NS + 1)).point.name == "track"
    assert (await rig.ask(get_policy=pb.GetPolicy())).policy == state


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (pb.PolicyChange(policy="clever"), "policy"),
        (pb.PolicyChange(policy=""), "policy"),
        (pb.PolicyChange(deadline_ms=0), "deadline_ms"),
        (pb.PolicyChange(uplink_budget_bps=-1), "uplink_budget_bps"),
    ],
)
async def test_a_change_that_can_not_be_is_refused_by_its_field(
    rig: Rig, change: pb.PolicyChange, field: str
) -> None:
    before = rig.parts.steering.course
    for name in ("what_if", "set_policy"):
        assert (await rig.ask(**{name: change})).refused.field == field  # type: ignore[arg-type]
    assert rig.parts.steering.course == before


async def test_experiments_are_for_edges_that_allow_them(rig: Rig) -> None:
    allowed = await rig.ask(experiment=pb.Experiment(edge_slowdown=5), actor="lab")
    assert allowed.HasField("done")
    assert rig.parts.device is not None and rig.parts.device.slowdown == 5.0
    (audit,) = rig.parts.steering.audits
    assert (audit.actor, audit.before, audit.after) == ("lab", "edge slowdown 2", "edge slowdown 5")
    refusing = made(rig.parts.world)
    assert (await refusing.ask(experiment=pb.Experiment(edge_slowdown=5))).refused.field == "experiment"


async def test_a_fault_of_ours_is_told_and_the_next_command_is_answered(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.parts.recall._held["cam.r.9"] = None  # type: ignore[assignment]
    rig.remember(1)
    told = await rig.ask(recent=pb.Recent(last=5))
    assert told.refused.detail == "unforeseen AttributeError" and "a command failed" in caplog.text
    assert (await rig.ask(get_points=pb.GetPoints())).HasField("points")


def test_what_goes_wrong_in_telling_costs_no_frame_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    rig = made(made_up_world(random.Random(1), START_NS))
    status = EdgeStatus(edge="cam", policy="adaptive", run_s=0.0, captured=0)
    front = Front(rig.parts, None, lambda: status, tenant="t", model="m")  # type: ignore[arg-type]
    known = FrameRecord("cam.r.1", 1, 1, 0, 0, Outcome.LOCAL, "local", "why", 150.0, 80.0, True)
    front.witness(known, None)
    assert rig.parts.recall.get("cam.r.1") is not None
    rig.parts.recall._held = None  # type: ignore[assignment]
    front.witness(known, None)
    front.witness(known, None)
    assert caplog.text.count("frame cam.r.1 is not told of") == 1


async def test_a_report_that_fails_ends_neither_the_later_ones_nor_the_edge(caplog: pytest.LogCaptureFixture) -> None:
    rig = made(made_up_world(random.Random(1), START_NS))
    broker = MemoryBroker()
    bus, listener = broker.connect(), broker.connect()
    heard: asyncio.Queue[pb.EdgeReport] = asyncio.Queue()
    asked = 0

    def status() -> EdgeStatus:
        nonlocal asked
        asked += 1
        if asked != 2:
            raise ValueError("made up")
        return EdgeStatus(edge="cam", policy="adaptive", run_s=0.0, captured=7)

    async def hear(message: Message) -> None:
        heard.put_nowait(report_from(message.payload, edge="cam"))

    await listener.subscribe(subjects.status("t", "cam"), hear)
    front = Front(rig.parts, Previewing(None, edge="cam"), status, tenant="t", model="m")  # type: ignore[arg-type]
    await front.attach(bus)
    async with asyncio.timeout(20):
        report = await heard.get()
    await front.close()
    assert report.captured == 7 and asked == 3
    assert caplog.text.count("a round of reports is not told") == 1
    for each in (bus, listener):
        await each.drain()
