"""Owns the minute in which the mesh runs: watches, shows, kills and restarts, drains. Observe, decide, act."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from splitmesh.lab.child import Child, ChildError
from splitmesh.lab.control import LabControl
from splitmesh.lab.display import Display
from splitmesh.lab.fate import WorkerFate
from splitmesh.lab.link.bend import Bend
from splitmesh.lab.mesh import Mesh
from splitmesh.lab.status import StatusPoll
from splitmesh.lab.strikes import Strike
from splitmesh.lab.truth import LinkTruth
from splitmesh.lab.view import LiveView
from splitmesh.lab.workers import WorkerTender

_TICK_S = 0.25
_OVERTIME_S = 20.0


@dataclass(slots=True)
class StreamOutcome:
    """How the run went, apart from its frames. Times are seconds since the edge began to stream."""

    truth: LinkTruth
    """What the link carried, bends included."""
    interrupted: bool = False
    edge_failed: bool = False
    incidents: list[str] = field(default_factory=list)
    worker_kills: list[float] = field(default_factory=list)
    edge_status: dict[str, Any] = field(default_factory=dict)
    """The last one the edge gave."""
    strikes: list[Strike] = field(default_factory=list)
    """What was done by hand, from the page."""


class Supervisor:
    """Runs a started mesh until the edge has ended.

    `truth`: what the link carries if nobody bends it. `on_page` is told where the page is, once it is there.
    """

    def __init__(
        self,
        mesh: Mesh,
        display: Display,
        *,
        duration_s: float,
        fates: Mapping[str, WorkerFate],
        truth: LinkTruth,
        on_page: Callable[[str], None],
    ) -> None:
        self._mesh = mesh
        self._display = display
        self._duration_s = duration_s
        self._began_s = time.monotonic()
        self._interrupts = 0
        self._told: set[int] = set()
        self._notices: list[str] = []
        self._edge = StatusPoll((mesh.edge.ready_facts or {}).get("web_port"))
        self._workers = WorkerTender(mesh, fates, notice=self._notice, incident=self._incident)
        self._on_page = on_page
        self._page_url = ""
        self._control = LabControl(
            mesh, self._workers, now_s=lambda: self._now_s, notice=self._notice, on_bend=self._on_bend
        )
        self.outcome = StreamOutcome(truth)

    def interrupt(self) -> None:
        """First: let the edge finish what is in flight. Second: end it now."""
        self._interrupts += 1
        self.outcome.interrupted = True
        if self._interrupts == 1:
            self._notice("interrupted: the edge finishes what is in flight")
            self._mesh.edge.send(signal.SIGINT)
        else:
            self._mesh.edge.kill_group()

    async def run(self) -> StreamOutcome:
        """Until the edge has ended; then what there is to tell. The rest of the mesh still runs afterwards."""
        taking = contextlib.nullcontext() if self._mesh.gateway is None else self._control.taking()
        async with taking:
            with self._display.live():
                while self._mesh.edge.running:
                    await self._tick()
                    await self._sleep()
        await self._mesh.edge.wait()
        await self._edge.close()
        await self._workers.close()
        self._settle_edge()
        self.outcome.worker_kills = self._workers.kills
        self.outcome.strikes = self._control.strikes
        self.outcome.truth = replace(self.outcome.truth, offset_s=self._mesh.link_began_s - self._began_s)
        self.outcome.edge_status = self._edge.last_known
        return self.outcome

    @property
    def _now_s(self) -> float:
        return time.monotonic() - self._began_s

    async def _tick(self) -> None:
        self._edge.refresh()
        await self._workers.tend(self._now_s)
        self._tend_the_others()
        if self._now_s > self._duration_s + _OVERTIME_S and not self.outcome.edge_failed:
            self.outcome.edge_failed = True
            self._incident(self._mesh.edge, f"edge still runs {_OVERTIME_S:g} s after its end; it is ended")
            await self._mesh.edge.stop(grace_s=2.0)
        self._align_clock()
        true_bps, outage = self.outcome.truth.state(self._now_s)
        self._display.show(
            LiveView(
                elapsed_s=self._now_s,
                duration_s=self._duration_s,
                edge=self._edge.latest or self._edge.last_known,
                cloud=self._workers.status,
                true_bps=true_bps,
                outage=outage,
                worker=self._workers.state,
                broker=self._mesh.broker_state,
                notices=tuple(self._notices),
            )
        )

    async def _sleep(self) -> None:
        """Until the next tick, or until the edge ends."""
        ended = asyncio.create_task(self._mesh.edge.wait())
        await asyncio.wait({ended}, timeout=_TICK_S)
        ended.cancel()
        await asyncio.gather(ended, return_exceptions=True)

    def _align_clock(self) -> None:
        """The run began when the edge says so; an answer arrives after it was given, so the earliest claim holds."""
        run_s = self._edge.last_known.get("run_s")
        if isinstance(run_s, int | float) and run_s > 0:
            self._began_s = min(self._began_s, self._edge.heard_s - run_s)

    def _tend_the_others(self) -> None:
        link, gateway, url = self._mesh.link, self._mesh.gateway, self._mesh.page_url
        if not link.running:
            self._incident(link, f"link emulator died with {link.ending()}")
        if gateway is not None and not gateway.running:
            self._incident(gateway, f"gateway died with {gateway.ending()}")
        elif url is not None and url != self._page_url:
            self._page_url = url
            self._on_page(url)
        if self._mesh.broker_state == "died":
            self._report("broker died", self._mesh.broker_log_tail)

    def _on_bend(self, bend: Bend) -> None:
        self.outcome.truth = self.outcome.truth.bent(bend)

    def _settle_edge(self) -> None:
        edge = self._mesh.edge
        if edge.returncode != 0 and self._interrupts < 2:
            self.outcome.edge_failed = True
            self._incident(edge, f"edge ended with {edge.ending()}")

    def _notice(self, text: str) -> None:
        self._notices.append(text)
        if not self._display.moving:
            self._display.say(text, style="yellow")

    def _incident(self, child: Child, text: str) -> None:
        """A process ended on its own: tell once, with the end of its log."""
        if id(child) not in self._told:
            self._told.add(id(child))
            self._report(text, child.log_tail(), where=f" · {child.log_path}")

    def _report(self, text: str, log_tail: str, *, where: str = "") -> None:
        if where or text not in self.outcome.incidents:
            self.outcome.incidents.append(text)
            self._notices.append(text)
            self._display.fault(text + where, log_tail)


async def run_mesh(
    mesh: Mesh,
    display: Display,
    *,
    duration_s: float,
    fates: Mapping[str, WorkerFate],
    truth: LinkTruth,
    on_page: Callable[[str], None],
) -> StreamOutcome | None:
    """Start the mesh, run it to its end, stop it. None if it was interrupted before the edge was ready.

    Raises ChildError when a process can't be started. Nothing is left running in any case.
    """
    loop = asyncio.get_running_loop()
    starting = asyncio.create_task(_start(mesh, display))
    interrupted = starting.cancel
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted)
    try:
        await starting
        supervisor = Supervisor(mesh, display, duration_s=duration_s, fates=fates, truth=truth, on_page=on_page)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, supervisor.interrupt)
        return await supervisor.run()
    except asyncio.CancelledError:
        if not starting.cancelled():
            raise
        return None
    except ChildError as exc:
        display.fault(exc.message, exc.log_tail)
        raise
    finally:
        try:
            await asyncio.shield(mesh.stop())
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


async def _start(mesh: Mesh, display: Display) -> None:
    with display.stage("start broker, worker, link, edge") as stage:
        await mesh.start(stage.report)
