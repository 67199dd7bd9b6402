"""Owns the workers of a run while it lasts: kills them, starts them again, and knows how they fare."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from splitmesh.errors import UnknownName
from splitmesh.lab.child import Child
from splitmesh.lab.fate import Fate, WorkerFate
from splitmesh.lab.mesh import Mesh
from splitmesh.lab.status import StatusPoll


class WorkerTender:
    """All workers of `mesh`, each with its own of `fates` (by name).

    notice: told what is done to one, in words. incident: told of one that died on its own.
    """

    def __init__(
        self,
        mesh: Mesh,
        fates: Mapping[str, WorkerFate],
        *,
        notice: Callable[[str], None],
        incident: Callable[[Child, str], None],
    ) -> None:
        self._mesh = mesh
        self._fates = fates
        self._notice = notice
        self._incident = incident
        self._polls = {name: StatusPoll(_web_port(worker)) for name, worker in mesh.workers.items()}
        self._turn = asyncio.Lock()

    @property
    def kills(self) -> list[float]:
        """When one was killed on purpose, seconds of the run."""
        return sorted(at for fate in self._fates.values() for at in fate.kills)

    @property
    def state(self) -> str:
        """For the display: running, killed, died; of several also how many run."""
        states = [fate.state for fate in self._fates.values()]
        down = next((state for state in states if state != "running"), "running")
        return down if len(states) == 1 or down == "running" else f"{down}, {states.count('running')} left"

    @property
    def status(self) -> Mapping[str, Any]:
        """Of the first one that tells."""
        return next((poll.latest for poll in self._polls.values() if poll.latest), {})

    async def tend(self, now_s: float) -> None:
        """Do what is due at `now_s` of the run. Called often."""
        async with self._turn:
            for name in self._fates:
                self._polls[name].refresh()
                await self._tend_one(name, now_s)

    async def kill(self, name: str, now_s: float) -> None:
        """SIGKILL; it stays away until `restart`. Raises UnknownName, ChildError: it does not run."""
        async with self._turn:
            worker = self._named(name)
            if not worker.running:
                raise worker.error(f"{name} does not run")
            self._fates[name].strike(now_s)
            await self._end(name)

    async def restart(self, name: str, now_s: float) -> None:
        """Raises UnknownName, ChildError: it runs already."""
        async with self._turn:
            worker = self._named(name)
            if worker.running:
                raise worker.error(f"{name} runs already")
            self._fates[name].release(now_s)
            await self._mesh.restart_worker(name)

    async def close(self) -> None:
        for poll in self._polls.values():
            await poll.close()

    async def _tend_one(self, name: str, now_s: float) -> None:
        worker = self._mesh.workers[name]
        fate = self._fates[name].decide(now_s, running=worker.running)
        if fate is Fate.KILL:
            self._notice(f"{self._called(name)} killed at {now_s:.1f} s (SIGKILL)")
            await self._end(name)
        elif fate is Fate.RESTART:
            self._notice(f"{self._called(name)} started again at {now_s:.1f} s")
            await self._mesh.restart_worker(name)
        elif not worker.running and worker.died:
            self._incident(worker, f"worker died on its own with {worker.ending()}")
        worker = self._mesh.workers[name]
        if self._polls[name].port is None and worker.running and worker.poll_ready():
            await self._poll_at(name, _web_port(worker))

    def _named(self, name: str) -> Child:
        try:
            return self._mesh.workers[name]
        except KeyError:
            known = ", ".join(self._mesh.workers)
            raise UnknownName(
                f"this lab has no worker {name!r}, only {known}", field="worker_id", name=name
            ) from None

    async def _end(self, name: str) -> None:
        await self._mesh.workers[name].kill()
        await self._poll_at(name, None)

    async def _poll_at(self, name: str, port: int | None) -> None:
        await self._polls[name].close()
        self._polls[name] = StatusPoll(port)

    def _called(self, name: str) -> str:
        return "worker" if len(self._fates) == 1 else f"worker {name}"


def _web_port(worker: Child) -> int | None:
    return (worker.ready_facts or {}).get("web_port")
