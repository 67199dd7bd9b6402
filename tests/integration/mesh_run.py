"""A mesh of real processes for tests: edges and workers as users start them, and what they leave behind."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.lab.child import Child
from splitmesh.lab.commands import clean_environment, command_line
from splitmesh.lab.records import read_records
from splitmesh.media.clip import write_test_clip
from splitmesh.models.registry import resolve_model
from splitmesh.plan.bundle.read import Bundle
from splitmesh.provision.plan import edge_plan
from splitmesh.telemetry.spanlog import read_spans
from splitmesh.telemetry.spanrow import SpanRow

POLL_S = 0.02
START_S = 60.0
NOWHERE = "nats://127.0.0.1:1"
"""No broker will ever listen here."""
OFFLOADED = (Outcome.SPLIT, Outcome.FRAME)
_LEDGER = re.compile(r"<Ledger (.*)>")


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for `condition` of processes that have no event to wait for. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)


@dataclass(frozen=True, slots=True)
class Scene:
    """A clip and the built-in model's plan for it."""

    clip: Path
    bundle: Bundle

    def edge(self, **changes: Any) -> dict[str, Any]:
        """Settings of an edge so slow that an offload pays: 15 frames a second, local runs of about 80 ms."""
        return {
            "source": str(self.clip),
            "plan": self.bundle.folder,
            "loop": True,
            "deadline_ms": 250,
            "edge_slowdown": 5,
            **changes,
        }

    def worker(self, **changes: Any) -> dict[str, Any]:
        return {"plan": self.bundle.folder, "name": "w-1", **changes}

    @property
    def split(self) -> str:
        """The policy that splits every frame at the latest cut of one tensor, by what sends least there.

        Its tail is the quickest to resume.
        """
        single = {cut.name for cut in self.bundle.cuts if len(cut.tensors) == 1}
        points = [point for point in self.bundle.points if point.cut in single]
        return "static:" + min(points, key=lambda point: (point.resume_ms, point.payload_bytes)).name


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Made once per session, of the plan that ships: only parts and times are made here."""
    folder = tmp_path_factory.mktemp("scene")
    clip = write_test_clip(folder / "shapes.mp4")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPLITMESH_CACHE_DIR", str(folder / "cache"))
        model = resolve_model("coco-ssdlite")
        bundle = edge_plan(model, str(clip), threads=1, providers=("cpu",), progress=lambda *_: None)
    return Scene(clip, bundle)


class Node:
    """A running `splitmesh edge` or `splitmesh cloud`."""

    def __init__(self, section: str, folder: Path, values: dict[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.results = folder / "results.jsonl"
        self.spans = folder / "spans"
        ready = folder / "ready.json"
        shared = {"span_log": self.spans, "ready_json": ready, "web_port": 0, "providers": ("cpu",)}
        if section == "edge":
            shared |= {"results": self.results, "hwaccel": "none", "trace_ratio": 1.0}
        command = command_line(section, {key: value for key, value in (shared | values).items() if value != ""})
        self.child = Child(section, command, log_path=folder / "log", ready_file=ready)

    @property
    def log(self) -> str:
        return self.child.log_path.read_text(errors="replace") if self.child.log_path.exists() else ""

    async def start(self, *, ready: bool = True) -> None:
        await self.child.start(environment=clean_environment(os.environ))
        if ready:
            await self.child.wait_ready(START_S)

    async def ended(self, seconds: float = 60.0) -> int:
        """The exit status, once it has ended by itself."""
        return await asyncio.wait_for(self.child.wait(), seconds)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.child.send(number)
        return await self.ended(20)

    def outcomes(self) -> list[Outcome]:
        """Of the lines that are whole by now, in the order of settlement."""
        raw = self.results.read_bytes() if self.results.exists() else b""
        return [
            Outcome(json.loads(line)["outcome"]) for line in raw.splitlines(keepends=True) if line.endswith(b"\n")
        ]

    def offloaded(self) -> int:
        return sum(outcome in OFFLOADED for outcome in self.outcomes())

    async def offloads(self, more: int = 5, seconds: float = 30.0) -> None:
        """Wait until `more` further frames are answered by a worker; fails early if the edge ends."""
        want = self.offloaded() + more
        await until(lambda: self.offloaded() >= want or not self.child.running, seconds)
        assert self.offloaded() >= want, self.log

    def frame_records(self) -> list[FrameRecord]:
        """Every record by seq. Fails unless the law holds: in the file, and in what the edge itself counted."""
        run = read_records(self.results)
        assert run.conserved, run.faults()
        counted = _LEDGER.findall(self.log)
        assert counted, self.log
        told = {key: int(value) for key, value in (pair.split("=") for pair in counted[-1].split())}
        assert told.pop("in_flight") == 0
        assert told == run.counts(), self.log
        assert told["captured"] == sum(told[outcome.value] for outcome in Outcome)
        assert "Traceback" not in self.log, self.log
        return list(run.records)

    def span_rows(self) -> list[SpanRow]:
        return read_spans(self.spans)

    async def get(self, page: str, accept: str = "*/*") -> tuple[int, str]:
        """(status, body) of one of its pages."""
        facts = await self.child.wait_ready(START_S)
        reader, writer = await asyncio.open_connection("127.0.0.1", facts["web_port"])
        writer.write(f"GET {page} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        return int(head.split()[1]), body.decode()

    async def status(self) -> dict[str, Any]:
        code, body = await self.get("/status")
        assert code == 200
        found: dict[str, Any] = json.loads(body)
        return found


@asynccontextmanager
async def node(section: str, folder: Path, *, ready: bool = True, **values: Any) -> AsyncIterator[Node]:
    """A started process, killed at the end unless it has ended; `values` are settings, "" leaves one out.

    `ready=False` does not wait until it is: two that need not wait for each other start at the same time.
    """
    made = Node(section, folder, values)
    try:
        await made.start(ready=ready)
        yield made
    finally:
        await made.child.stop(grace_s=0.0, first=signal.SIGKILL)


def error_lines(log: str) -> list[str]:
    """What a user sees of a failure: the lines from "error:" on."""
    lines = log.splitlines()
    start = next((n for n, line in enumerate(lines) if line.startswith("error: ")), len(lines))
    return lines[start:]
