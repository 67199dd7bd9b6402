"""A real mesh with a page: broker, worker, link, edge and gateway as users start them, on a real video."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2] / "integration"))
from mesh_run import START_S, Node, until

from splitmesh.bus.server import EmbeddedServer
from splitmesh.lab.child import Child
from splitmesh.lab.commands import clean_environment, command_line

EDGE, WORKER = "yard", "w-1"


@dataclass(slots=True)
class PageMesh:
    """Running processes. `url`: the page."""

    folder: Path
    broker: EmbeddedServer
    plan: Path
    edge: Node
    worker: Node
    gateway: Child
    url: str

    async def kill_worker(self) -> None:
        self.worker.child.send(signal.SIGKILL)
        await until(lambda: not self.worker.child.running)

    async def restart_worker(self) -> None:
        self.worker = _worker(self.folder / "worker-again", self.broker, self.plan)
        await self.worker.start()


def _worker(folder: Path, broker: EmbeddedServer, plan: Path) -> Node:
    return Node("cloud", folder, {"nats_url": broker.url, "name": WORKER, "plan": plan})


@asynccontextmanager
async def page_mesh(folder: Path, *, clip: Path, plan: Path, tokens: Path | None = None) -> AsyncIterator[PageMesh]:
    """An edge five times slower than this machine, behind the lab's link."""
    environment = clean_environment(os.environ)
    async with EmbeddedServer(store=folder / "nats") as broker, contextlib.AsyncExitStack() as running:

        async def started(name: str, values: dict[str, Any]) -> tuple[Child, dict[str, Any]]:
            ready = folder / f"{name}.ready.json"
            command = command_line(name, values | {"ready_json": ready})
            child = Child(name, command, log_path=folder / f"{name}.log", ready_file=ready)
            running.push_async_callback(child.stop, grace_s=0.0, first=signal.SIGKILL)
            await child.start(environment=environment)
            return child, await child.wait_ready(START_S)

        _, link = await started(
            "link",
            {"target": f"127.0.0.1:{broker.port}", "link": "lab-default", "duration_s": 60.0, "start": "first-byte"},
        )
        worker = _worker(folder / "worker", broker, plan)
        edge = Node(
            "edge",
            folder / "edge",
            {
                "nats_url": f"nats://127.0.0.1:{link['port']}", "name": EDGE, "source": str(clip), "plan": plan,
                "loop": True, "deadline_ms": 250.0, "edge_slowdown": 5.0, "allow_experiments": True,
            },
        )  # fmt: skip
        values: dict[str, Any] = {"nats_url": broker.url, "name": "door", "grpc_port": 0, "web_port": 0}
        gateway, door = await started("gateway", values | ({"tokens": tokens} if tokens else {}))
        mesh = PageMesh(folder, broker, plan, edge, worker, gateway, f"http://127.0.0.1:{door['web_port']}")
        running.push_async_callback(_kill, mesh)
        await worker.start()
        await edge.start()
        yield mesh


async def _kill(mesh: PageMesh) -> None:
    for node in (mesh.edge, mesh.worker):
        await node.child.stop(grace_s=0.0, first=signal.SIGKILL)
