"""An agent and its edges as processes: frames conserved, crashes made good, commands kept, nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from agent_rig import NAME, ask, ask_raw, box, gone, kept, states, streams_file
from mesh_run import NOWHERE, Scene, until

from splitmesh.bus.base import Bus, Message
from splitmesh.bus.nats import connect_nats
from splitmesh.bus.server import EmbeddedServer
from splitmesh.lab.records import read_records
from splitmesh.wire import subjects
from splitmesh.wire.agents import AgentCommand, AgentReport, ListStreams, StartStream, StopStream, agent_report_from

pytestmark = pytest.mark.slow

LIST = AgentCommand(actor="ann", list=ListStreams())


@pytest.fixture
async def bus(broker: EmbeddedServer) -> AsyncIterator[Bus]:
    made = await connect_nats(broker.url, name="asker")
    yield made
    await made.drain()


def conserved(results: Path) -> int:
    """Frames of a drained edge; fails unless each has exactly one line."""
    run = read_records(results)
    assert run.conserved, run.faults()
    return len(run.records)


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


async def test_a_killed_edge_comes_back_the_other_does_not_notice_and_all_frames_are_settled(
    scene: Scene, tmp_path: Path
) -> None:
    file = streams_file(tmp_path, scene, "gate", "yard")
    async with box(tmp_path, file, nats_url=NOWHERE, log_json=True) as agent:
        gate, yard = await agent.until("gate", "running"), await agent.until("yard", "running")
        assert gate["edge"] == f"{NAME}-gate" and gate["web_port"] != yard["web_port"]
        os.kill(gate["pid"], signal.SIGKILL)
        again = await agent.until("gate", "running", restarts=1)
        assert again["pid"] != gate["pid"] and again["restarts"] == 1 and again["last_exit"] == "SIGKILL"
        assert (await agent.streams())["yard"]["pid"] == yard["pid"]
        await until(lambda: min(lines(tmp_path / f"{name}.jsonl") for name in ("gate", "yard")) >= 10)
        agent.child.send(signal.SIGTERM)
        assert await asyncio.wait_for(agent.child.wait(), 30) == 0, agent.log
    assert gone([again["pid"], yard["pid"]], seconds=0.5)
    assert conserved(tmp_path / "gate.jsonl") >= 10 and conserved(tmp_path / "yard.jsonl") >= 10
    told = [json.loads(line) for line in agent.log.splitlines()]
    assert {row["stream"] for row in told if row["logger"].startswith("splitmesh.edge")} == {"gate", "yard"}
    assert any("ended with SIGKILL" in row["message"] and row["stream"] == "gate" for row in told)


async def test_an_agent_that_is_killed_takes_its_edges_along(scene: Scene, tmp_path: Path) -> None:
    async with box(tmp_path, streams_file(tmp_path, scene, "gate"), nats_url=NOWHERE) as agent:
        pid = (await agent.until("gate", "running"))["pid"]
        agent.child.send(signal.SIGKILL)
        await agent.child.wait()
        assert await asyncio.to_thread(gone, [pid])


async def test_streams_are_started_and_stopped_by_command_and_that_outlasts_a_restart(
    scene: Scene, broker: EmbeddedServer, bus: Bus, tmp_path: Path
) -> None:
    file = streams_file(tmp_path, scene, "gate")
    allowed = str(scene.clip.with_name("other*"))
    other = scene.clip.with_name("other-1.mp4")
    other.write_bytes(scene.clip.read_bytes())
    asked = StartStream(name="shed", source=str(other), settings={"max_fps": "4", "deadline_ms": "300ms"})
    start = AgentCommand(actor="ann", start=asked)
    async with box(tmp_path / "1", file, nats_url=broker.url, allow_source=(allowed,)) as agent:
        assert (await agent.until("gate", "running"))["actor"] == ""
        listing = await ask(bus, start)
        assert states(listing)["shed"] in ("queued", "starting")
        assert [(each.actor, each.stream, each.what) for each in listing.listing.changes] == [
            ("ann", "shed", "started")
        ]
        shed = await agent.until("shed", "running")
        assert shed["edge"] == f"{NAME}-shed" and shed["actor"] == "ann"
        assert states(await ask(bus, start))["shed"] == "running"
        assert (await agent.streams())["shed"]["pid"] == shed["pid"]
        stop = AgentCommand(actor="bob", stop=StopStream(name="gate"))
        assert states(await ask(bus, stop))["gate"] == "draining"
        await agent.until("gate", "stopped")
        assert conserved(tmp_path / "gate.jsonl") >= 1
        agent.child.send(signal.SIGTERM)
        assert await asyncio.wait_for(agent.child.wait(), 30) == 0, agent.log
    changes = file.with_name("streams.toml.changes.json")
    assert {(row["name"], row["running"], row["actor"]) for row in kept(changes)} == {
        ("shed", True, "ann"),
        ("gate", False, "bob"),
    }
    assert changes.stat().st_mode & 0o777 == 0o600
    async with box(tmp_path / "2", file, nats_url=broker.url, allow_source=(allowed,)) as agent:
        await agent.until("shed", "running")
        assert (await agent.streams())["gate"]["state"] == "stopped"
        states(await ask(bus, AgentCommand(actor="bob", stop=StopStream(name="shed"))))
        states(await ask(bus, AgentCommand(actor="bob", start=StartStream(name="gate"))))
        await agent.until("gate", "running")
        assert "shed" not in await agent.streams()
    assert kept(changes) == []


CAM = "/media/cams/a.mp4"


async def test_what_may_not_be_asked_is_refused_by_field_and_changes_nothing(
    scene: Scene, broker: EmbeddedServer, bus: Bus, tmp_path: Path
) -> None:
    def start(**fields: object) -> bytes:
        return AgentCommand(actor="eve", start=StartStream(**fields)).SerializeToString()  # type: ignore[arg-type]

    cases = [
        (start(name="x", source="/etc/passwd"), "source"),
        (start(name="x", source="/media/cams/../../etc/passwd"), "source"),
        (start(name="x", source="rtsp://ann:secret@cam/1"), "source"),
        (start(name="x"), "name"),
        (start(name="a.b", source=CAM), "name"),
        (start(name="x", source=CAM, settings={"plan": "/tmp/p"}), "settings"),
        (start(name="x", source=CAM, settings={"deadline_ms": "soon"}), "edge.deadline_ms"),
        (start(name="gate", source=CAM), "name"),
        (start(name="x", source=CAM, settings={str(n): "" for n in range(33)}), "settings"),
        (AgentCommand(stop=StopStream(name="x")).SerializeToString(), "name"),
        (AgentCommand(actor="a" * 201, list=ListStreams()).SerializeToString(), "actor"),
        (AgentCommand(actor="eve").SerializeToString(), "command"),
        (b"\xff\xff", ""),
        (bytes(5000), ""),
    ]
    file = streams_file(tmp_path, scene, "gate")
    async with box(tmp_path, file, nats_url=broker.url, allow_source=("/media/cams/*",)) as agent:
        for raw, field in cases:
            reply = await ask_raw(bus, raw)
            assert reply.HasField("refused") and reply.refused.field == field, (raw, reply)
            assert "secret" not in reply.refused.detail
        told = await ask(bus, LIST)
        assert list(states(told)) == ["gate"] and not told.listing.changes
        assert "secret" not in agent.log
    assert not file.with_name("streams.toml.changes.json").exists()


async def test_no_more_run_than_may_and_a_source_that_ends_makes_room(
    scene: Scene, broker: EmbeddedServer, bus: Bus, tmp_path: Path
) -> None:
    file = streams_file(tmp_path, scene, "gate")
    short = AgentCommand(
        actor="ann",
        start=StartStream(name="short", source=str(scene.clip), settings={"loop": "false", "pace": "false"}),
    )
    more = AgentCommand(actor="ann", start=StartStream(name="more", source=str(scene.clip)))
    async with box(tmp_path, file, nats_url=broker.url, max_streams=2) as agent:
        states(await ask(bus, short))
        refused = await ask(bus, more)
        assert "max_streams" in refused.refused.detail
        ended = await agent.until("short", "ended")
        assert ended["last_exit"] == "exit status 0" and ended["restarts"] == 0
        assert states(await ask(bus, more))["more"] in ("queued", "starting")


async def test_it_reports_while_it_runs_and_when_it_ends(
    scene: Scene, broker: EmbeddedServer, bus: Bus, tmp_path: Path
) -> None:
    heard: list[AgentReport] = []

    async def hear(message: Message) -> None:
        heard.append(agent_report_from(message.payload, agent=NAME))

    watching = await bus.subscribe(subjects.agents("default", NAME), hear)
    async with box(tmp_path, streams_file(tmp_path, scene, "gate"), nats_url=broker.url) as agent:
        await agent.until("gate", "running")
        agent.child.send(signal.SIGTERM)
        assert await asyncio.wait_for(agent.child.wait(), 30) == 0, agent.log
    await until(lambda: heard and heard[-1].streams[0].state == "draining")
    assert [report.seq for report in heard] == list(range(len(heard))) and len(heard) >= 2
    last = heard[-1].streams[0]
    assert (last.edge_id, last.last_exit, last.web_port) == (f"{NAME}-gate", "exit status 0", 0)
    await watching.unsubscribe()
