"""A running `splitmesh agent` for tests: its streams file, its pages, and what it answers over a real broker."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
from mesh_run import START_S, Scene

from splitmesh.bus.base import Bus
from splitmesh.lab.child import Child
from splitmesh.lab.commands import clean_environment, command_line
from splitmesh.lab.status import fetch_status
from splitmesh.wire import subjects
from splitmesh.wire.agents import AgentCommand, AgentReply, agent_reply_from
from splitmesh.wire.packing import pack

NAME = "box"
POLL_S = 0.1


def streams_file(folder: Path, scene: Scene, *names: str) -> Path:
    """Streams of the tests' clip, each with a results file of its own."""
    shared = [
        'providers = "cpu"',
        'hwaccel = "none"',
        f'plan = "{scene.bundle.folder}"',
        "loop = true",
        "max_fps = 5",
    ]
    lines = ["[edge]", *shared, 'policy = "local-only"', "[streams]"]
    for name in names:
        lines += [f"[streams.{name}]", f'source = "{scene.clip}"', f'results = "{folder / name}.jsonl"']
    path = folder / "streams.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


class Box:
    """A running agent. `ask` needs a bus."""

    def __init__(self, folder: Path, streams: Path, **settings: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        ready = folder / "agent.ready.json"
        values = {"name": NAME, "streams": streams, "web_port": 0, "ready_json": ready, **settings}
        self.child = Child("agent", command_line("agent", values), log_path=folder / "agent.log", ready_file=ready)

    @property
    def log(self) -> str:
        return self.child.log_path.read_text(encoding="utf-8", errors="replace")

    async def start(self) -> None:
        await self.child.start(environment=clean_environment(os.environ))
        await self.child.wait_ready(START_S)

    async def streams(self) -> dict[str, dict[str, Any]]:
        """`/status`, by stream."""
        assert self.child.ready_facts is not None and self.child.running, self.log
        found = await asyncio.to_thread(fetch_status, self.child.ready_facts["web_port"])
        streams: dict[str, dict[str, Any]] = found.get("streams", {})
        return streams

    async def until(self, name: str, state: str, *, restarts: int = 0, seconds: float = START_S) -> dict[str, Any]:
        """The stream's line once it is in `state`, after at least so many restarts. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while True:
                told = (await self.streams()).get(name, {})
                if told.get("state") == state and told["restarts"] >= restarts:
                    return told
                await asyncio.sleep(POLL_S)


@asynccontextmanager
async def box(folder: Path, streams: Path, **settings: Any) -> AsyncIterator[Box]:
    """A started agent, killed at the end unless it has ended; with it go its edges."""
    made = Box(folder, streams, **settings)
    try:
        await made.start()
        yield made
    finally:
        await made.child.kill()


async def ask(bus: Bus, command: AgentCommand) -> AgentReply:
    return await ask_raw(bus, pack(command))


async def ask_raw(bus: Bus, raw: bytes) -> AgentReply:
    message = await bus.request(subjects.agent("default", NAME), raw, timeout_s=10.0)
    return agent_reply_from(message.payload, agent=NAME)


def states(reply: AgentReply) -> dict[str, str]:
    """By stream; fails if the command was refused."""
    assert reply.HasField("listing"), reply.refused.detail
    return {stream.name: stream.state for stream in reply.listing.report.streams}


def gone(pids: list[int], seconds: float = 15.0) -> bool:
    """Whether all of them end in time."""
    left = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs(left, timeout=seconds)
    return not alive


def kept(path: Path) -> list[dict[str, Any]]:
    """What commands changed, as the file has it."""
    changes: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["changes"]
    return changes
