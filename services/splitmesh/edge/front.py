"""Owns what an edge tells the world beside its frames' requests: reports, what is watched, answers to commands.

None of it costs a frame its time: it is sent some times a second from a task of its own, in few bytes, and not at all
while the broker is away or the socket is clogged.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

from splitmesh.bus.base import Bus, Message, Subscription
from splitmesh.edge.commanded import Commanded, Commands
from splitmesh.edge.frame import OpenFrame
from splitmesh.edge.previewing import Previewing
from splitmesh.edge.telling import edge_report
from splitmesh.edge.watching import MAX_UNSENT_BYTES
from splitmesh.errors import BusError, DecodeError
from splitmesh.frames.record import FrameRecord
from splitmesh.frames.status import EdgeStatus
from splitmesh.telemetry.metrics import Told
from splitmesh.wire import subjects
from splitmesh.wire.control import MAX_KEPT, FrameReports, KeepTraces, pack

_log = logging.getLogger(__name__)

_LOOK_S = 0.2
"""Between two messages of frames at least."""
_REPORT_NS = 1_000_000_000


class Front:
    """Runs on the event loop. `witness` is for the settlement; `status`: of this moment."""

    def __init__(
        self,
        commanded: Commanded,
        previewing: Previewing,
        status: Callable[[], EdgeStatus],
        *,
        tenant: str,
        model: str,
    ) -> None:
        self._p = commanded
        self._previewing = previewing
        self._status = status
        self._tenant = tenant
        self._model = model
        self._taking = Commands(commanded)
        self._bus: Bus | None = None
        self._commands: Subscription | None = None
        self._telling: asyncio.Task[None] | None = None
        self._previews: set[asyncio.Task[None]] = set()
        self._reports = 0
        self._keeps: deque[int] = deque(maxlen=MAX_KEPT)
        self._failed = False
        self.told_bytes = 0

    async def attach(self, bus: Bus) -> None:
        """Use `bus` from now on. Raises BusUnavailable; may be called again then."""
        self._commands = await bus.subscribe(subjects.command(self._tenant, self._p.edge), self._on_command)
        self._bus = bus
        self._telling = asyncio.create_task(self._tell_for_ever(), name="telling")

    async def close(self) -> None:
        """Say the last word."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.wait({self._telling})
        for task in list(self._previews):
            task.cancel()
        await asyncio.gather(*self._previews, return_exceptions=True)
        if self._commands is not None:
            await self._commands.unsubscribe()
        await self._tell(time.monotonic_ns(), report=True)
        await asyncio.to_thread(self._previewing.close)

    # -- frames ---------------------------------------------------------------------------------------------------

    def witness(self, record: FrameRecord, frame: OpenFrame | None) -> None:
        """A frame is settled. Never raises: that it is told of is not worth a frame."""
        try:
            self._see(record, frame)
        except Exception:  # noqa: BLE001 - see above
            if not self._failed:
                _log.exception("frame %s is not told of", record.frame_id)
            self._failed = True

    def _see(self, record: FrameRecord, frame: OpenFrame | None) -> None:
        p = self._p
        if frame is not None and self._workers_must_keep(record, frame):
            self._keeps.append(record.seq)
        entry = p.recall.add(record, 0.0 if frame is None else frame.decision.chosen.utility)
        if not p.watching.active or self._bus is None:
            return
        p.watching.settled(entry)
        if frame is None or not record.outcome.answered:
            return
        longest_px = p.watching.preview_px(time.monotonic_ns())
        if longest_px is not None:
            task = asyncio.create_task(self._preview(frame, entry.record, longest_px), name="preview")
            self._previews.add(task)
            task.add_done_callback(self._previews.discard)

    def _workers_must_keep(self, record: FrameRecord, frame: OpenFrame) -> bool:
        """A worker had a part in it, and has no reason yet to export that."""
        unknown = self._p.tracing.exports and not frame.trace.head_sampled
        return unknown and record.exceptional and frame.uplink_bytes > 0

    async def _preview(self, frame: OpenFrame, record: FrameRecord, longest_px: int) -> None:
        p, raw = self._p, b""
        try:
            made = await self._previewing.make(frame, record, longest_px)
            raw = b"" if made is None else pack(made)
        except DecodeError as exc:
            _log.debug("no preview of %s: %s", record.frame_id, exc)
        finally:
            wanted = p.watching.previewed(len(raw))
        if wanted and await self._send(subjects.preview(self._tenant, p.edge), raw, Told.PREVIEW):
            p.watching.spent(len(raw))

    # -- telling --------------------------------------------------------------------------------------------------

    async def _tell_for_ever(self) -> None:
        report_ns = time.monotonic_ns()
        while True:
            now_ns = time.monotonic_ns()
            due = now_ns >= report_ns
            if due:
                report_ns = max(report_ns + _REPORT_NS, now_ns)
            await self._tell(now_ns, report=due)
            await asyncio.sleep(_LOOK_S)

    async def _tell(self, now_ns: int, *, report: bool) -> None:
        """Never raises: the next round may go well, and an edge ends as it should even if it can't say so."""
        try:
            self._look(now_ns)
            await self._tell_frames()
            if report:
                await self._report()
        except Exception:  # noqa: BLE001 - see above
            if not self._failed:
                _log.exception("a round of reports is not told")
            self._failed = True

    def _look(self, now_ns: int) -> None:
        if self._bus is None or not self._p.watching.active:
            return
        link = self._p.world.link.view(now_ns)
        unsent_bytes = self._bus.pending_bytes
        self._p.watching.look(
            now_ns, bandwidth_bps=link.bandwidth_bps, backlog_ms=link.backlog_ms, unsent_bytes=unsent_bytes
        )

    async def _tell_frames(self) -> None:
        p = self._p
        frames, left_out = p.watching.take_frames()
        if not frames:
            return
        raw = pack(FrameReports(edge_id=p.edge, run_id=p.run_id, frames=frames, left_out=left_out))
        if await self._send(subjects.result(self._tenant, p.edge), raw, Told.FRAMES):
            p.watching.spent(len(raw))

    async def _report(self) -> None:
        """One that can't be sent shows as a gap in the numbers."""
        p = self._p
        seq, self._reports = self._reports, self._reports + 1
        if not self._open():
            return
        report = edge_report(
            self._status(), p.steering.course, run_id=p.run_id, seq=seq, model=self._model, told_bytes=self.told_bytes
        )
        await self._send(subjects.status(self._tenant, p.edge), pack(report), Told.REPORT)
        await self._keep()

    async def _keep(self) -> None:
        """Workers export their part of what was kept although it was not sampled."""
        if self._keeps:
            seqs = [self._keeps.popleft() for _ in range(len(self._keeps))]
            raw = pack(KeepTraces(edge_id=self._p.edge, run_id=self._p.run_id, seqs=seqs))
            await self._send(subjects.keep(self._tenant), raw, Told.KEEP)

    async def _on_command(self, message: Message) -> None:
        async def reply(raw: bytes) -> None:
            if message.reply:
                await self._send(message.reply, raw, Told.REPLY)

        await self._taking.take(message.payload, reply)

    def _open(self) -> bool:
        bus = self._bus
        return bus is not None and bus.connected and bus.pending_bytes <= MAX_UNSENT_BYTES

    async def _send(self, subject: str, raw: bytes, what: Told) -> bool:
        """False: it was not sent, and nobody will know."""
        bus = self._bus
        if bus is None or not self._open():
            return False
        try:
            await bus.publish(subject, raw)
        except BusError as exc:
            _log.debug("%s not told: %s", what, exc)
            return False
        self.told_bytes += len(raw)
        self._p.metrics.told(what, len(raw))
        return True
