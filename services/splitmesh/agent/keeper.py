"""Owns one stream's edge over its whole life: starts it, starts it again when it fails, ends it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TextIO

from splitmesh.agent.lines import LabelledLines
from splitmesh.agent.streams import Stream
from splitmesh.media.backoff import Backoff
from splitmesh.process.child import Child

_log = logging.getLogger(__name__)

_LOOK_S = 0.1
_TURN_S = 120.0
"""How long a start may keep the next one waiting."""
_STEADY_S = 60.0
"""An edge that ran so long was no failure of its start: the next one is tried at once again."""
_FIRST_AGAIN_S = 1.0
_LAST_AGAIN_S = 60.0


class State(StrEnum):
    QUEUED = "queued"
    """Waits until the start before it is done."""
    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    """It failed, and will be started again."""
    DRAINING = "draining"
    ENDED = "ended"
    """Its source has ended."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the keepers of an agent have in common. environment: of the edges. folder: of their ready files.

    turn: starts come one after another, since a first start measures how fast this machine is.
    """

    folder: Path
    out: TextIO
    as_json: bool
    drain_s: float
    restarted: Callable[[str], None]
    environment: Mapping[str, str] = field(default_factory=lambda: edge_environment(os.environ))
    turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))


def edge_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` without settings and settings files: an edge goes by what its stream says."""
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith("SPLITMESH_") or name == "SPLITMESH_CACHE_DIR"
    }
    return kept | {"SPLITMESH_CONFIG": os.devnull}


class Keeper:
    """Runs from `begin()` to `stop()`, or until the stream's source has ended."""

    def __init__(self, stream: Stream, around: Surroundings) -> None:
        self.stream = stream
        self.state = State.QUEUED
        self.restarts = 0
        self.last_exit = ""
        self._around = around
        self._since_s = time.monotonic()
        self._lines = LabelledLines(stream.name, around.out, as_json=around.as_json)
        self._backoff = Backoff(_FIRST_AGAIN_S, _LAST_AGAIN_S)
        self._child: Child | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def for_s(self) -> float:
        """How long it has been in its state."""
        return time.monotonic() - self._since_s

    @property
    def web_port(self) -> int | None:
        """Of its edge's status pages, once they are there."""
        facts = self._child.ready_facts if self._child is not None and self._child.running else None
        return facts.get("web_port") if facts else None

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None and self._child.running else None

    def begin(self) -> None:
        self._task = asyncio.create_task(self._keep(), name=f"stream {self.stream.name}")

    def end(self) -> None:
        """Tell the edge to settle its frames, and to end; `stop` waits for that. Idempotent."""
        if self._task is not None and not self._stopping and not self._task.done():
            self._stopping = True
            self._enter(State.DRAINING)
            self._task.cancel()

    async def stop(self) -> None:
        """Let the edge settle its frames, and end it. Idempotent."""
        self.end()
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _keep(self) -> None:
        """Until the source has ended. Cancelled, it ends the edge first."""
        try:
            while not await self._life():
                self.restarts += 1
                self._around.restarted(self.stream.name)
                wait_s = self._backoff.next_s()
                self._enter(State.WAITING)
                _log.warning(
                    "its edge ended with %s; another one in %.1f s",
                    self.last_exit,
                    wait_s,
                    extra={"stream": self.stream.name},
                )
                await asyncio.sleep(wait_s)
                self._enter(State.QUEUED)
            self._enter(State.ENDED)
        finally:
            child = self._child
            if child is not None and await child.stop(grace_s=self._around.drain_s) is not None:
                self.last_exit = child.ending()
            self._lines.close()

    async def _life(self) -> bool:
        """One process from start to end; whether it ended as it should."""
        name, around = self.stream.name, self._around
        child = Child(
            name,
            [sys.executable, "-m", "splitmesh.cli.main", "edge"],
            output=self._lines,
            ready_file=around.folder / f"{name}.json",
        )
        own = self.stream.variables() | {"SPLITMESH_EDGE_READY_JSON": str(child.ready_file)}
        async with around.turn:
            self._enter(State.STARTING)
            self._child = child
            try:
                await child.start(environment={**around.environment, **own})
            except OSError as exc:
                self.last_exit = f"no start: {exc.strerror}"
                return False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TURN_S):
                    await _ready_or_gone(child)
        await _ready_or_gone(child)
        if child.running:
            self._enter(State.RUNNING)
        code = await child.wait()
        self.last_exit = child.ending()
        if self.state is State.RUNNING and self.for_s >= _STEADY_S:
            self._backoff.succeeded()
        return code == 0

    def _enter(self, state: State) -> None:
        if not self._stopping or state is State.DRAINING:
            self.state, self._since_s = state, time.monotonic()


async def _ready_or_gone(child: Child) -> None:
    while child.running and not child.poll_ready():  # noqa: ASYNC110 - a file of another process has no event
        await asyncio.sleep(_LOOK_S)
