"""Owns the edge's loop: observe → decide → act for each captured frame, and an orderly end with nothing in flight."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from splitmesh.edge.device_work import DeviceWork
from splitmesh.edge.frame import OpenFrame
from splitmesh.edge.observer import Observer
from splitmesh.edge.offload import Offloader
from splitmesh.edge.pipeline import Pipeline
from splitmesh.edge.settlement import Settlement
from splitmesh.edge.steering import Steering
from splitmesh.errors import DecodeError, FrameShapeError, SourceError
from splitmesh.frames.status import EdgeStatus
from splitmesh.media.captured import Captured, SourceStats
from splitmesh.media.prepare import Prepared, Preparer
from splitmesh.media.source import VideoSource
from splitmesh.policy.decision import Decision, Observation
from splitmesh.policy.energy import PowerModel
from splitmesh.policy.point import Place
from splitmesh.policy.world import World
from splitmesh.telemetry.metrics import EdgeMetrics, Reconnected, Side
from splitmesh.telemetry.tracing import Tracing

_log = logging.getLogger(__name__)

_UNPACED_IN_FLIGHT = 2
"""Frames under way when nothing sets the pace: one computes, one is being prepared."""


@dataclass(frozen=True, slots=True)
class EdgeParts:
    """What the loop is composed of. All of it belongs to the event loop's thread."""

    name: str
    run_id: str
    pace: bool
    drain_s: float
    source: VideoSource
    preparer: Preparer
    observer: Observer
    steering: Steering
    world: World
    device: DeviceWork
    pipeline: Pipeline
    settlement: Settlement
    offloader: Offloader | None
    tracing: Tracing
    metrics: EdgeMetrics
    board: PowerModel
    """Of the device that this runs on."""


class EdgeService:
    """One run of one edge over one source."""

    def __init__(self, parts: EdgeParts) -> None:
        self._p = parts
        self._tasks: set[asyncio.Task[None]] = set()
        self._frame_period_ms = 40.0
        self._stats = SourceStats()
        self._source_shown = ""
        self._stopping: asyncio.Task[None] | None = None
        self.finished = False

    async def run(self) -> None:
        """Take frames until the source ends or `stop` is called, then drain.

        Raises SourceError if the source failed for good; what was captured before is settled all the same.
        """
        p = self._p
        try:
            info = await p.source.opened()
            self._source_shown = info.url
            self._frame_period_ms = 1000 / max(info.fps, 0.1)
            while (captured := await p.source.get()) is not None:
                self._shed_dropped()
                self._open(captured)
                if not p.pace:
                    await self._room()
        except SourceError:
            if self._stopping is None:
                raise
            _log.info("stopped before the source brought a frame")
        finally:
            await self._drain()

    def stop(self) -> None:
        """Take no more frames. `run` returns once everything is settled."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._p.source.aclose(), name="stop")

    async def _room(self) -> None:
        while len(self._tasks) >= _UNPACED_IN_FLIGHT:
            await asyncio.wait(set(self._tasks), return_when=asyncio.FIRST_COMPLETED)

    # -- one frame ------------------------------------------------------------------------------------------------

    def _open(self, captured: Captured) -> None:
        p = self._p
        p.settlement.capture(captured)
        start_ns = time.monotonic_ns()
        prepared = self._prepare(captured)
        if prepared is None:
            return
        frame_motion = p.observer.see(prepared.luma)
        now_ns = time.monotonic_ns()
        deadline_ns = captured.captured_ns + int(p.steering.course.deadline_ms * 1e6)
        seen = Observation(
            now_ns=now_ns,
            budget_ms=(deadline_ns - now_ns) / 1e6,
            device_backlog_ms=p.device.backlog_ms(now_ns),
            frame_period_ms=self._frame_period_ms,
            motion=frame_motion,
            track_age_ms=p.observer.age_ms(captured.pts_ns),
            track_carried=p.observer.carried,
        )
        p.world.on_motion(frame_motion)
        decision = p.steering.decide(seen)
        frame = self._frame(captured, prepared, decision, now_ns, deadline_ns, frame_motion)
        if decision.point.place is not Place.TRACK:
            frame.foreseen = p.observer.foresee(captured.pts_ns)
        decided_ns = time.monotonic_ns()
        frame.trace.span("decode", captured.captured_ns - captured.decode_ns, captured.captured_ns)
        frame.timed("preprocess", start_ns, now_ns)
        frame.timed("decide", now_ns, decided_ns)
        p.metrics.decided(decision.point.place, decision.point.name)
        task = asyncio.create_task(self._settle(frame), name=frame.frame_id)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle(self, frame: OpenFrame) -> None:
        try:
            await self._p.pipeline.run(frame)
        except asyncio.CancelledError:
            if self._p.settlement.ledger.is_open(frame.seq):
                frame.notes.append("still under way when the edge stopped")
                self._p.pipeline.abandon(frame)
            raise

    def _prepare(self, captured: Captured) -> Prepared | None:
        """None if there is no usable picture: the frame is shed with the reason."""
        if captured.picture is None:
            self._shed(captured, "no picture")
            return None
        try:
            return self._p.preparer.prepare(captured.picture)
        except (DecodeError, FrameShapeError) as exc:
            self._shed(captured, str(exc))
            return None

    def _frame(
        self,
        captured: Captured,
        prepared: Prepared,
        decision: Decision,
        now_ns: int,
        deadline_ns: int,
        frame_motion: float,
    ) -> OpenFrame:
        frame_id = self._frame_id(captured)
        link = self._p.world.link.view(now_ns)
        return OpenFrame(
            frame_id=frame_id,
            captured=captured,
            prepared=prepared,
            decision=decision,
            decided_ns=now_ns,
            deadline_ns=deadline_ns,
            trace=self._p.tracing.start_frame(frame_id, captured.captured_ns - captured.decode_ns),
            motion=frame_motion,
            link={
                "bandwidth_bps": round(link.bandwidth_bps),
                "base_ms": round(link.base_ms, 2),
                "backlog_bytes": link.backlog_bytes,
            },
        )

    def _frame_id(self, captured: Captured) -> str:
        return f"{self._p.name}.{self._p.run_id}.{captured.seq}"

    def _shed(self, captured: Captured, note: str) -> None:
        deadline_ms = self._p.steering.course.deadline_ms
        self._p.settlement.shed(captured, self._frame_id(captured), note, deadline_ms=deadline_ms)

    def _shed_dropped(self) -> None:
        for dropped in self._p.source.take_dropped():
            self._p.settlement.capture(dropped)
            self._p.metrics.ring_dropped_frames_total.inc()
            self._shed(dropped, "the ring was full")

    # -- the end --------------------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        p = self._p
        await p.source.aclose()
        if self._stopping is not None:
            await self._stopping
        self._shed_dropped()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=p.drain_s)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if p.offloader is not None:
            await p.offloader.drain(min(1.0, p.drain_s))
        self.finished = True
        if not p.settlement.ledger.conserved:
            _log.error("frames were lost, this is a bug: %r", p.settlement.ledger)

    # -- what others ask ------------------------------------------------------------------------------------------

    def refresh_metrics(self) -> None:
        """Bring gauges and the source's counters up to date; called once a second."""
        p, stats = self._p, self._p.source.stats
        link = p.world.link.view(time.monotonic_ns())
        p.metrics.link(bandwidth_bps=link.bandwidth_bps, base_s=link.base_ms / 1e3, backlog_bytes=link.backlog_bytes)
        p.metrics.breaker(p.world.breaker.state)
        p.metrics.gamma(Side.EDGE, p.world.gamma_edge.value)
        p.metrics.gamma(Side.CLOUD, p.world.gamma_cloud)
        p.metrics.power_watts.set(self._power_w(time.monotonic_ns()))
        p.metrics.audited(p.world.fidelity.audits, p.world.fidelity.ratios())
        if p.offloader is not None:
            p.metrics.pool(p.offloader.peers.counts)
        p.metrics.decode_errors_total.inc(stats.decode_errors - self._stats.decode_errors)
        for _ in range(stats.reconnects - self._stats.reconnects):
            p.metrics.reconnected(Reconnected.SOURCE)
        self._stats = stats

    def _power_w(self, now_ns: int) -> float:
        """Of the whole run, by the device's power model."""
        world, run_s = self._p.world, (now_ns - self._p.settlement.run_ns) / 1e9
        return self._p.board.average_w(world.device_ms, world.sent_bytes, max(run_s, 1e-3))

    def status(self) -> EdgeStatus:
        p = self._p
        now_ns = time.monotonic_ns()
        link = p.world.link.view(now_ns)
        broker = "none" if p.offloader is None else ("connected" if p.offloader.connected else "connecting")
        low_bps, high_bps = p.world.link.bandwidth_interval_bps
        return EdgeStatus(
            edge=p.name,
            policy=p.steering.policy.name,
            run_s=(now_ns - p.settlement.run_ns) / 1e9,
            captured=p.settlement.ledger.captured,
            counts=p.settlement.ledger.counts(),
            in_flight=p.settlement.ledger.in_flight,
            link={
                "bandwidth_bps": link.bandwidth_bps,
                "bandwidth_low_bps": low_bps,
                "bandwidth_high_bps": high_bps,
                "base_ms": link.base_ms,
                "backlog_bytes": link.backlog_bytes,
            },
            uplink_bytes=p.offloader.uplink_bytes if p.offloader else 0,
            breaker=p.world.breaker.state.value,
            gamma_edge=p.world.gamma_edge.value,
            gamma_cloud=p.world.gamma_cloud,
            pool={str(event): n for event, n in p.offloader.peers.counts.items()} if p.offloader else {},
            broker=broker,
            source=self._source_shown,
            finished=self.finished,
            power_w=self._power_w(now_ns),
            audits=p.world.fidelity.audits,
            error_ratios=p.world.fidelity.ratios(),
            **p.settlement.recent(now_ns),
        )
